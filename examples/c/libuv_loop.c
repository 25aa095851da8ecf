/*
 * The server inside libuv: a poll handle for its descriptor, a timer for its timeout, armed anew
 * after each turn. ws://127.0.0.1:8765/echo, until SIGTERM or SIGINT.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <uv.h>

#include "heartwheel.h"

struct host {
    heartwheel *server;
    uv_loop_t loop;
    uv_poll_t ready;
    uv_timer_t due;
    uv_signal_t ends[2];
    int code; /* of the last turn */
};

static void turn(struct host *host);

static void on_due(uv_timer_t *timer)
{
    turn(timer->data);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    turn(poll->data);
}

static void arm(struct host *host)
{
    int64_t wait = heartwheel_next_timeout_ms(host->server);
    if (wait < 0) {
        uv_timer_stop(&host->due);
        return;
    }
    uv_update_time(&host->loop); /* libuv counts from when its round began */
    uv_timer_start(&host->due, on_due, (uint64_t)wait, 0);
}

/* Its descriptor is readable, or its timeout is over: a turn. */
static void turn(struct host *host)
{
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
        uv_stop(&host->loop); /* HEARTWHEEL_DONE: drained */
}

static void end(uv_signal_t *signal, int number)
{
    (void)number;
    struct host *host = signal->data;
    heartwheel_drain(host->server);
    arm(host); /* what is due has changed */
}

int main(int argc, char **argv)
{
    struct host host;
    int port = -1, numbers[2] = {SIGINT, SIGTERM};
    host.code = HEARTWHEEL_OK;
    if (heartwheel_new(NULL, &host.server) != HEARTWHEEL_OK
        || heartwheel_route_websocket(host.server, "/echo") != HEARTWHEEL_OK
        || (port = heartwheel_listen(host.server, argc > 1 ? argv[1] : "127.0.0.1:8765")) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(host.server));
        return 1;
    }

    uv_loop_init(&host.loop);
    uv_poll_init(&host.loop, &host.ready, heartwheel_fd(host.server));
    uv_timer_init(&host.loop, &host.due);
    host.ready.data = host.due.data = &host;
    uv_poll_start(&host.ready, UV_READABLE, on_ready);
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&host.loop, &host.ends[i]);
        host.ends[i].data = &host;
        uv_signal_start(&host.ends[i], end, numbers[i]);
    }
    arm(&host);
    printf("listening on port %d\n", port);
    fflush(stdout);
    uv_run(&host.loop, UV_RUN_DEFAULT);

    if (host.code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(host.server));
    /* The poll handle lets go of the descriptor before the server closes it. */
    uv_close((uv_handle_t *)&host.ready, NULL);
    uv_close((uv_handle_t *)&host.due, NULL);
    uv_close((uv_handle_t *)&host.ends[0], NULL);
    uv_close((uv_handle_t *)&host.ends[1], NULL);
    uv_run(&host.loop, UV_RUN_DEFAULT);
    uv_loop_close(&host.loop);
    heartwheel_free(host.server);
    return host.code == HEARTWHEEL_DONE ? 0 : 1;
}
