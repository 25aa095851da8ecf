/*
 * The server inside an epoll loop that has other descriptors, too: the server's one descriptor is
 * nested in the host's epoll, level-triggered. ws://127.0.0.1:8765/echo, until SIGTERM or SIGINT.
 */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
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
    /* Signals that end are a descriptor, too. */
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int signals = signalfd(-1, &ends, SFD_CLOEXEC);
    printf("listening on port %d\n", port);
    fflush(stdout);

    /* Something of the host's own: a descriptor that is ready once a second. */
    struct itimerspec every = {{1, 0}, {1, 0}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    timerfd_settime(timer, 0, &every, NULL);
    int loop = epoll_create1(EPOLL_CLOEXEC);
    watch(loop, timer);
    watch(loop, signals);
    watch(loop, heartwheel_fd(server));

    unsigned long messages = 0, told = 0;
    heartwheel_event event;
    event.struct_size = sizeof event;
    int code = HEARTWHEEL_OK;
    while (code == HEARTWHEEL_OK) {
        struct epoll_event ready[16];
        int count = epoll_wait(loop, ready, 16, (int)heartwheel_next_timeout_ms(server));

        /* Whether its descriptor or its timeout woke us: a turn that finds nothing is cheap. */
        code = heartwheel_turn(server);
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
            if (event.kind == HEARTWHEEL_TEXT)
                heartwheel_send_text(server, event.peer, (const char *)event.data, event.len);
            else if (event.kind == HEARTWHEEL_BINARY)
                heartwheel_send_binary(server, event.peer, event.data, event.len);
            messages += event.kind == HEARTWHEEL_TEXT || event.kind == HEARTWHEEL_BINARY;
        }

        for (int i = 0; i < count; i++) {
            unsigned long long ticks;
            struct signalfd_siginfo ending;
            if (ready[i].data.fd == timer && read(timer, &ticks, sizeof ticks) > 0
                && messages != told)
                printf("%lu messages\n", told = messages);
            if (ready[i].data.fd == signals && read(signals, &ending, sizeof ending) > 0)
                heartwheel_drain(server); /* turned as before, until HEARTWHEEL_DONE */
        }
    }
    if (code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
    heartwheel_free(server);
    return code == HEARTWHEEL_DONE ? 0 : 1;
}
