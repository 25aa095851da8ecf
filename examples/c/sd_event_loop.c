/*
 * The server inside sd-event: a source for its descriptor and one for its timeout, armed anew after
 * each turn. ws://127.0.0.1:8765/echo, until SIGTERM or SIGINT. As a service of systemd it tells
 * when it is ready, when it stops, and, with WatchdogSec=, that its loop goes round.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "heartwheel.h"

/* To save wake-ups sd-event may else be a quarter of a second late. */
enum { ACCURACY_US = 1000 };

struct host {
    heartwheel *server;
    sd_event *loop;
    sd_event_source *due;
    int code; /* of the last turn */
};

static int arm(struct host *host)
{
    int64_t wait = heartwheel_next_timeout_ms(host->server);
    if (wait < 0)
        return sd_event_source_set_enabled(host->due, SD_EVENT_OFF);
    sd_event_source_set_time_relative(host->due, (uint64_t)wait * 1000);
    return sd_event_source_set_enabled(host->due, SD_EVENT_ONESHOT);
}

/* Its descriptor is readable, or its timeout is over: a turn. */
static int turn(struct host *host)
{
    host->code = heartwheel_turn(host->server);
    heartwheel_event event;
    event.struct_size = sizeof event;
    while (heartwheel_next_event(host->server, &event) == HEARTWHEEL_OK)
        if (event.kind == HEARTWHEEL_TEXT)
            heartwheel_send_text(host->server, event.peer, (const char *)event.data, event.len);
        else if (event.kind == HEARTWHEEL_BINARY)
            heartwheel_send_binary(host->server, event.peer, event.data, event.len);
    return host->code == HEARTWHEEL_OK ? arm(host) : sd_event_exit(host->loop, 0);
}

static int on_ready(sd_event_source *source, int descriptor, uint32_t events, void *user)
{
    (void)source, (void)descriptor, (void)events;
    return turn(user);
}

static int on_due(sd_event_source *source, uint64_t at, void *user)
{
    (void)source, (void)at;
    return turn(user);
}

static int end(sd_event_source *source, const struct signalfd_siginfo *signal, void *user)
{
    (void)source, (void)signal;
    struct host *host = user;
    sd_notify(0, "STOPPING=1");
    heartwheel_drain(host->server);
    return arm(host); /* what is due has changed */
}

int main(int argc, char **argv)
{
    struct host host = {NULL, NULL, NULL, HEARTWHEEL_OK};
    sd_event_source *ready = NULL;
    sigset_t ends;
    int port = -1;
    if (heartwheel_new(NULL, &host.server) != HEARTWHEEL_OK
        || heartwheel_route_websocket(host.server, "/echo") != HEARTWHEEL_OK
        || (port = heartwheel_listen(host.server, argc > 1 ? argv[1] : "127.0.0.1:8765")) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(host.server));
        return 1;
    }
    /* sd-event takes signals that are blocked. */
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    int descriptor = heartwheel_fd(host.server);
    if (sd_event_new(&host.loop) < 0
        || sd_event_add_io(host.loop, &ready, descriptor, EPOLLIN, on_ready, &host) < 0
        || sd_event_add_time_relative(host.loop, &host.due, CLOCK_MONOTONIC, 0, ACCURACY_US,
                                      on_due, &host) < 0
        || sd_event_add_signal(host.loop, NULL, SIGINT, end, &host) < 0
        || sd_event_add_signal(host.loop, NULL, SIGTERM, end, &host) < 0
        || sd_event_set_watchdog(host.loop, 1) < 0) {
        fprintf(stderr, "there is no event loop\n");
        return 1;
    }
    printf("listening on port %d\n", port);
    fflush(stdout);
    sd_notify(0, "READY=1");
    sd_event_loop(host.loop);

    if (host.code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(host.server));
    sd_event_source_unref(host.due);
    sd_event_source_unref(ready);
    sd_event_unref(host.loop);
    heartwheel_free(host.server);
    return host.code == HEARTWHEEL_DONE ? 0 : 1;
}
