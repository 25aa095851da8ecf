/* Bytes back, and nothing else: what the machine itself costs a server that sets no option of a
 * socket but TCP_NODELAY. One thread, level-triggered epoll, one buffer for all connections: one
 * recv and one send for each that is ready. What the kernel does not take is kept for its
 * connection, which is not read meanwhile.
 *
 *   cc -O2 -o rawecho rawecho.c
 *   ./rawecho --listen 127.0.0.1:PORT      prints "listening 127.0.0.1:PORT", and runs until killed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 1024, BUFFER_BYTES = 256 * 1024 };

struct connection {
    int socket;
    /* What the kernel has not taken, if there is anything. */
    char *waiting;
    size_t length, sent;
};

static int poller;
static char buffer[BUFFER_BYTES];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int operation, int socket, uint32_t events, void *of) {
    struct epoll_event event = {.events = events, .data.ptr = of};
    if (epoll_ctl(poller, operation, socket, &event) != 0) fail("epoll_ctl");
}

/* Listens at ADDRESS:PORT; port 0 takes any that is free. */
static int listen_at(char *where) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    char text[INET_ADDRSTRLEN], *colon = strrchr(where, ':');
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (colon == NULL) exit(2);
    *colon = 0;
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, where, &address.sin_addr) != 1) exit(2);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, length) != 0) fail("bind");
    if (listen(listener, 4096) != 0) fail("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &length) != 0) fail("getsockname");
    inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
    printf("listening %s:%d\n", text, ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void accept_all(int listener) {
    int socket, on = 1;
    while ((socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL) fail("calloc");
        connection->socket = socket;
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(EPOLL_CTL_ADD, socket, EPOLLIN, connection);
    }
}

/* Sends as much as the kernel takes. -1 if the connection is gone. */
static ssize_t send_some(int socket, const char *bytes, size_t length) {
    ssize_t sent = send(socket, bytes, length, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

/* Each of these returns 0 if the connection is gone. */

static int go_on(struct connection *connection) {
    size_t rest = connection->length - connection->sent;
    ssize_t sent = send_some(connection->socket, connection->waiting + connection->sent, rest);
    if (sent < 0) return 0;
    connection->sent += (size_t)sent;
    if (connection->sent == connection->length) {
        free(connection->waiting);
        connection->waiting = NULL;
        watch(EPOLL_CTL_MOD, connection->socket, EPOLLIN, connection);
    }
    return 1;
}

static int echo(struct connection *connection) {
    ssize_t sent, length = recv(connection->socket, buffer, sizeof buffer, 0);
    if (length <= 0) return length < 0 && errno == EAGAIN;
    sent = send_some(connection->socket, buffer, (size_t)length);
    if (sent < 0) return 0;
    if (sent < length) {
        connection->length = (size_t)(length - sent);
        connection->sent = 0;
        connection->waiting = malloc(connection->length);
        if (connection->waiting == NULL) return 0;
        memcpy(connection->waiting, buffer + sent, connection->length);
        watch(EPOLL_CTL_MOD, connection->socket, EPOLLOUT, connection);
    }
    return 1;
}

int main(int count, char **words) {
    struct rlimit limit;
    struct epoll_event events[EVENTS_MAX];
    int listener;
    if (count != 3 || strcmp(words[1], "--listen") != 0) return 2;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    poller = epoll_create1(0);
    listener = listen_at(words[2]);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int index = 0; index < ready; index++) {
            struct connection *connection = events[index].data.ptr;
            if (connection == NULL) {
                accept_all(listener);
            } else if (!(connection->waiting ? go_on(connection) : echo(connection))) {
                close(connection->socket);
                free(connection->waiting);
                free(connection);
            }
        }
    }
}
