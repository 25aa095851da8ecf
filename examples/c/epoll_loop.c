/*
 * The server inside an epoll loop that has other descriptors, too: the server's one descriptor is
 * nested in the host's epoll, level-triggered. ws://127.0.0.1:8765/echo
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "heartwheel.h"

static void watch(int loop, int descriptor)
{
    struct epoll_event interest = {0};
    interest.events = EPOLLIN;
    interest.data.fd = descriptor;
    if (epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &interest) < 0)
        perror("epoll_ctl");
}

int main(int argc, char **argv)
{
    heartwheel *server;
    int port = -1;
    if (heartwheel_new(NULL, &server) != HEARTWHEEL_OK
        || heartwheel_route_websocket(server, "/echo") != HEARTWHEEL_OK
        || (port = heartwheel_listen(server, argc > 1 ? argv[1] : "127.0.0.1:8765")) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
        return 1;
    }
    printf("listening on port %d\n", port);
    fflush(stdout);

    /* Something of the host's own: a descriptor that is ready once a second. */
    struct itimerspec every = {{1, 0}, {1, 0}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    timerfd_settime(timer, 0, &every, NULL);
    int loop = epoll_create1(EPOLL_CLOEXEC);
    watch(loop, timer);
    watch(loop, heartwheel_fd(server));

    unsigned long messages = 0, told = 0;
    heartwheel_event event;
    event.struct_size = sizeof event;
    for (;;) {
        struct epoll_event ready[16];
        int count = epoll_wait(loop, ready, 16, (int)heartwheel_next_timeout_ms(server));

        /* Whether its descriptor or its timeout woke us: a turn that finds nothing is cheap. */
        if (heartwheel_turn(server) < 0) {
            fprintf(stderr, "%s\n", heartwheel_last_error(server));
            return 1;
        }
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
            if (event.kind == HEARTWHEEL_TEXT)
                heartwheel_send_text(server, event.peer, (const char *)event.data, event.len);
            else if (event.kind == HEARTWHEEL_BINARY)
                heartwheel_send_binary(server, event.peer, event.data, event.len);
            messages += event.kind == HEARTWHEEL_TEXT || event.kind == HEARTWHEEL_BINARY;
        }

        for (int i = 0; i < count; i++) {
            unsigned long long ticks;
            if (ready[i].data.fd == timer && read(timer, &ticks, sizeof ticks) > 0
                && messages != told)
                printf("%lu messages\n", told = messages);
        }
    }
}
