/* What the C tests share: assertions, a host's loop, and a peer that speaks WebSocket. */
#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "heartwheel.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_IS(found, expected)                                                                  \
    do {                                                                                           \
        long long found_ = (long long)(found), expected_ = (long long)(expected);                  \
        if (found_ != expected_) {                                                                 \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #found, found_,  \
                    expected_);                                                                    \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define UNUSED __attribute__((unused))

/* How late things may be on a busy machine. */
#define PATIENCE_MS 10000

UNUSED static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* A host: a server and the events that it has seen of its peers. */
typedef struct host {
    heartwheel *server;
    int port;
} host;

UNUSED static host host_new(const char *toml, const char *path)
{
    host host;
    CHECK_IS(heartwheel_new(toml, &host.server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_websocket(host.server, path), HEARTWHEEL_OK);
    host.port = heartwheel_listen(host.server, "127.0.0.1:0");
    CHECK(host.port > 0);
    return host;
}

/* Says whether the descriptor becomes readable within this time. */
UNUSED static int is_ready(heartwheel *server, int wait_ms)
{
    struct pollfd watched = {heartwheel_fd(server), POLLIN, 0};
    return poll(&watched, 1, wait_ms) == 1;
}

/* Turns until nothing is ready and no work is left. Pulls nothing. */
UNUSED static void settle(heartwheel *server)
{
    while (heartwheel_next_timeout_ms(server) == 0 || is_ready(server, 20))
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
}

/* Turns until there is an event. */
UNUSED static heartwheel_event next_event(heartwheel *server)
{
    int64_t began = now_us();
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    for (;;) {
        int code = heartwheel_next_event(server, &event);
        if (code == HEARTWHEEL_OK)
            return event;
        CHECK_IS(code, HEARTWHEEL_DONE);
        CHECK(now_us() - began < PATIENCE_MS * 1000);
        int64_t wait = heartwheel_next_timeout_ms(server);
        CHECK(wait >= -1);
        is_ready(server, wait < 0 || wait > 100 ? 100 : (int)wait);
        CHECK(heartwheel_turn(server) >= 0);
    }
}

UNUSED static heartwheel_event expect(heartwheel *server, uint32_t kind)
{
    heartwheel_event event = next_event(server);
    if (event.kind != kind)
        fprintf(stderr, "%.*s\n", (int)event.len, (const char *)event.data);
    CHECK_IS(event.kind, kind);
    return event;
}

UNUSED static int bears(heartwheel_event event, const char *text)
{
    return event.len == strlen(text) && memcmp(event.data, text, event.len) == 0;
}

/* Connects. The kernel does it all: the server need not turn. */
UNUSED static int dial(int port, int window)
{
    struct sockaddr_in address = {0};
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (window > 0)
        CHECK_IS(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window), 0);
    int one = 1;
    CHECK_IS(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), 0);
    CHECK_IS(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

UNUSED static void send_all(int fd, const void *data, size_t len)
{
    const char *next = data;
    while (len > 0) {
        ssize_t sent = send(fd, next, len, MSG_NOSIGNAL);
        CHECK(sent > 0);
        next += sent;
        len -= (size_t)sent;
    }
}

UNUSED static void ask_upgrade(int fd, const char *path)
{
    char request[512];
    int len = snprintf(request, sizeof request,
                       "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                       "Sec-WebSocket-Version: 13\r\n\r\n",
                       path);
    CHECK(len > 0 && len < (int)sizeof request);
    send_all(fd, request, (size_t)len);
}

/* Puts a masked frame (the mask is zero) into a buffer with room for len + 14 and gives its size. */
UNUSED static size_t put_frame(uint8_t *out, int opcode, const void *data, size_t len)
{
    size_t head = 2;
    out[0] = (uint8_t)(0x80 | opcode);
    if (len < 126) {
        out[1] = (uint8_t)(0x80 | len);
    } else if (len < 65536) {
        out[1] = 0x80 | 126;
        out[2] = (uint8_t)(len >> 8);
        out[3] = (uint8_t)len;
        head = 4;
    } else {
        out[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            out[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
        head = 10;
    }
    memset(out + head, 0, 4);
    if (len > 0)
        memcpy(out + head + 4, data, len);
    return head + 4 + len;
}

UNUSED static void send_frame(int fd, int opcode, const void *data, size_t len)
{
    uint8_t *frame = malloc(len + 14);
    CHECK(frame != NULL);
    send_all(fd, frame, put_frame(frame, opcode, data, len));
    free(frame);
}

UNUSED static void send_text(int fd, const char *text)
{
    send_frame(fd, 1, text, strlen(text));
}

/* Reads exactly so many bytes while the server turns. */
UNUSED static void read_turning(heartwheel *server, int fd, void *data, size_t len)
{
    int64_t began = now_us();
    char *next = data;
    while (len > 0) {
        ssize_t got = recv(fd, next, len, MSG_DONTWAIT);
        if (got > 0) {
            next += got;
            len -= (size_t)got;
            continue;
        }
        CHECK(got < 0 && errno == EAGAIN);
        CHECK(now_us() - began < PATIENCE_MS * 1000);
        is_ready(server, heartwheel_next_timeout_ms(server) == 0 ? 0 : 5);
        CHECK(heartwheel_turn(server) >= 0);
    }
}

/* Reads a frame of the server's and gives its opcode; the payload, with a NUL behind it, is to be
 * freed. A ping is passed over: one comes whenever a busy machine has stopped the process. */
UNUSED static int read_frame(heartwheel *server, int fd, uint8_t **data, size_t *len)
{
    uint8_t head[10];
    read_turning(server, fd, head, 2);
    CHECK((head[1] & 0x80) == 0);
    *len = head[1];
    if (head[1] >= 126) {
        int more = head[1] == 126 ? 2 : 8;
        read_turning(server, fd, head + 2, (size_t)more);
        *len = 0;
        for (int i = 0; i < more; i++)
            *len = *len << 8 | head[2 + i];
    }
    *data = malloc(*len + 1);
    CHECK(*data != NULL);
    read_turning(server, fd, *data, *len);
    (*data)[*len] = 0;
    if ((head[0] & 0x0f) == 9) {
        free(*data);
        return read_frame(server, fd, data, len);
    }
    return head[0] & 0x0f;
}

UNUSED static void expect_frame(heartwheel *server, int fd, int opcode, const char *text)
{
    uint8_t *data;
    size_t len;
    CHECK_IS(read_frame(server, fd, &data, &len), opcode);
    CHECK_IS(len, strlen(text));
    CHECK(memcmp(data, text, len) == 0);
    free(data);
}

/* Reads the 101 while the server turns. */
UNUSED static void read_upgrade(heartwheel *server, int fd)
{
    char head[2048];
    size_t len = 0;
    do {
        CHECK(len < sizeof head - 1);
        read_turning(server, fd, head + len, 1);
        head[++len] = 0;
    } while (len < 4 || strcmp(head + len - 4, "\r\n\r\n") != 0);
    CHECK(strncmp(head, "HTTP/1.1 101", 12) == 0);
}

/* Opens a WebSocket and pulls its event. */
UNUSED static int open_peer(heartwheel *server, int port, const char *path, heartwheel_peer *peer)
{
    int fd = dial(port, 0);
    ask_upgrade(fd, path);
    heartwheel_event event = expect(server, HEARTWHEEL_OPENED);
    CHECK(event.peer != 0);
    if (peer != NULL)
        *peer = event.peer;
    read_upgrade(server, fd);
    return fd;
}

/* Asks one request on a connection of its own, and gives all that is answered; to be freed. Pulls
 * nothing. The request's last head line is the caller's; "Connection: close" is added. */
UNUSED static char *ask(heartwheel *server, int port, const char *line, const char *lines,
                        const char *body)
{
    char request[4096];
    int fd = dial(port, 0);
    int len = snprintf(request, sizeof request,
                       "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n%s", line,
                       lines, body);
    CHECK(len > 0 && len < (int)sizeof request);
    send_all(fd, request, (size_t)len);
    size_t room = 65536, got = 0;
    char *answer = malloc(room);
    CHECK(answer != NULL);
    int64_t began = now_us();
    for (;;) {
        ssize_t some = recv(fd, answer + got, room - got - 1, MSG_DONTWAIT);
        if (some == 0)
            break;
        CHECK(some > 0 || errno == EAGAIN);
        got += some > 0 ? (size_t)some : 0;
        CHECK(got < room - 1 && now_us() - began < PATIENCE_MS * 1000);
        is_ready(server, heartwheel_next_timeout_ms(server) == 0 ? 0 : 5);
        CHECK(heartwheel_turn(server) >= 0);
    }
    answer[got] = 0;
    close(fd);
    return answer;
}

/* Checks that an answer has a status, and a text somewhere. */
#define CHECK_ANSWER(answer, status, text)                                                         \
    do {                                                                                           \
        char *answer_ = (answer);                                                                  \
        if (strncmp(answer_ + 9, status, 3) != 0 || strstr(answer_, text) == NULL) {               \
            fprintf(stderr, "%s:%d: not %s with %s:\n%s\n", __FILE__, __LINE__, status, text,       \
                    answer_);                                                                      \
            exit(1);                                                                               \
        }                                                                                          \
        free(answer_);                                                                             \
    } while (0)

/* Makes close(2) send a reset. */
UNUSED static void reset(int fd)
{
    struct linger now = {1, 0};
    CHECK_IS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(fd);
}

#endif
