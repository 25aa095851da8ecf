/*
 * The server in a poll(2) loop of one's own, beside a second descriptor and a timer: every client of
 * ws://127.0.0.1:8765/echo gets back what it says, and, with all others, what is typed here and the
 * time each second; until SIGTERM or SIGINT.
 */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "heartwheel.h"

static heartwheel *server;
static volatile sig_atomic_t is_ending;

static void end(int signal)
{
    (void)signal;
    is_ending = 1;
    heartwheel_wake(server); /* or poll might have begun to wait just now */
}

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void pull_events(void)
{
    heartwheel_event event;
    event.struct_size = sizeof event;
    while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
        if (event.kind == HEARTWHEEL_OPENED)
            heartwheel_subscribe(server, event.peer, "news");
        else if (event.kind == HEARTWHEEL_TEXT)
            heartwheel_send_text(server, event.peer, (const char *)event.data, event.len);
        else if (event.kind == HEARTWHEEL_BINARY)
            heartwheel_send_binary(server, event.peer, event.data, event.len);
        else if (event.kind == HEARTWHEEL_CLOSED)
            printf("one is gone: %.*s\n", (int)event.len, (const char *)event.data);
    }
}

int main(int argc, char **argv)
{
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:8765";
    int port = -1;
    /* A short turn: nothing of our own waits long. */
    if (heartwheel_new("[turn]\nevents = 64\nbytes = \"32k\"", &server) != HEARTWHEEL_OK
        || heartwheel_route_websocket(server, "/echo") != HEARTWHEEL_OK
        || (port = heartwheel_listen(server, address)) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
        return 1;
    }
    signal(SIGINT, end);
    signal(SIGTERM, end);
    printf("listening on port %d\n", port);
    fflush(stdout);

    struct pollfd watched[2] = {{heartwheel_fd(server), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    long long tick_at = now_ms() + 1000;
    int code = HEARTWHEEL_OK;
    while (code == HEARTWHEEL_OK) {
        long long wait = heartwheel_next_timeout_ms(server), own = tick_at - now_ms();
        if (own < 0)
            own = 0;
        poll(watched, 2, (int)(wait < 0 || own < wait ? own : wait));

        if (is_ending)
            heartwheel_drain(server); /* again and again is harmless */
        code = heartwheel_turn(server); /* HEARTWHEEL_DONE: drained */
        pull_events();

        if (watched[1].revents != 0) {
            char line[1024];
            ssize_t len = read(STDIN_FILENO, line, sizeof line);
            if (len > 0)
                heartwheel_publish_text(server, "news", line, (size_t)len);
            else
                watched[1].fd = -1; /* nobody types */
        }
        if (now_ms() >= tick_at) {
            char text[32];
            time_t seconds = time(NULL);
            size_t len = strftime(text, sizeof text, "%H:%M:%S", localtime(&seconds));
            heartwheel_publish_text(server, "news", text, len);
            tick_at += 1000;
        }
    }
    if (code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
    heartwheel_free(server);
    return code == HEARTWHEEL_DONE ? 0 : 1;
}
