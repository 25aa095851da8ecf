/*
 * The server inside libevent: one event for its descriptor and its timeout together, armed anew
 * after each turn. ws://127.0.0.1:8765/echo, until SIGTERM or SIGINT.
 */
#define _DEFAULT_SOURCE
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>

#include "heartwheel.h"

struct host {
    heartwheel *server;
    struct event_base *base;
    struct event *ready;
    int code; /* of the last turn */
};

static void arm(struct host *host)
{
    long long wait = heartwheel_next_timeout_ms(host->server);
    struct timeval after = {wait / 1000, wait % 1000 * 1000};
    event_add(host->ready, wait < 0 ? NULL : &after);
}

/* Its descriptor is readable, or its timeout is over: a turn. */
static void turn(evutil_socket_t descriptor, short what, void *user)
{
    (void)descriptor, (void)what;
    struct host *host = user;
    host->code = heartwheel_turn(host->server);
    heartwheel_event event;
    event.struct_size = sizeof event;
    while (heartwheel_next_event(host->server, &event) == HEARTWHEEL_OK)
        if (event.kind == HEARTWHEEL_TEXT)
            heartwheel_send_text(host->server, event.peer, (const char *)event.data, event.len);
        else if (event.kind == HEARTWHEEL_BINARY)
            heartwheel_send_binary(host->server, event.peer, event.data, event.len);
    if (host->code == HEARTWHEEL_OK)
        arm(host);
    else
        event_base_loopbreak(host->base); /* HEARTWHEEL_DONE: drained */
}

static void end(evutil_socket_t signal, short what, void *user)
{
    (void)signal, (void)what;
    struct host *host = user;
    heartwheel_drain(host->server);
    arm(host); /* what is due has changed */
}

int main(int argc, char **argv)
{
    struct host host;
    int port = -1;
    if (heartwheel_new(NULL, &host.server) != HEARTWHEEL_OK
        || heartwheel_route_websocket(host.server, "/echo") != HEARTWHEEL_OK
        || (port = heartwheel_listen(host.server, argc > 1 ? argv[1] : "127.0.0.1:8765")) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(host.server));
        return 1;
    }

    host.base = event_base_new();
    host.ready = event_new(host.base, heartwheel_fd(host.server), EV_READ, turn, &host);
    struct event *ending = evsignal_new(host.base, SIGINT, end, &host);
    struct event *ending_too = evsignal_new(host.base, SIGTERM, end, &host);
    event_add(ending, NULL);
    event_add(ending_too, NULL);
    arm(&host);
    printf("listening on port %d\n", port);
    fflush(stdout);
    event_base_dispatch(host.base);

    if (host.code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(host.server));
    event_free(ending);
    event_free(ending_too);
    event_free(host.ready);
    event_base_free(host.base);
    heartwheel_free(host.server);
    return host.code == HEARTWHEEL_DONE ? 0 : 1;
}
