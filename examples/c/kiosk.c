/*
 * A kiosk: a screen in a hall that shows pages from a folder, and on them what sensors say. It needs
 * no second web server, and no script but that of its pages.
 *
 *     kiosk FOLDER 127.0.0.1:8765
 *
 *     /             the files of the folder, "index.html" for "/"
 *     /topics/NAME  topics: POST a value to publish it, GET the newest, or watch an event stream
 *     /events       event streams of many topics, for EventSource: /events?topic=hall.temperature
 *     /status       a page made of the newest events of the topics below, for eyes and for curl
 *
 * The kiosk itself publishes the time, "kiosk.time", each minute. SIGTERM ends it.
 */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "heartwheel.h"

enum { PAGE_BYTES_MAX = 4096 };

static const char *const shown[] = {"kiosk.time", "hall.temperature", "hall.visitors", "notice"};

static volatile sig_atomic_t is_ending;
static heartwheel *server;

static void end(int signal)
{
    (void)signal;
    is_ending = 1;
    heartwheel_wake(server);
}

/* Puts text into a page: what a publisher sent is no markup. Cuts what does not fit. */
static size_t put_text(char *page, size_t len, const uint8_t *text, size_t text_len)
{
    for (size_t i = 0; i < text_len && len + 8 < PAGE_BYTES_MAX; i++) {
        if (strchr("&<>\"'", text[i]) != NULL && text[i] != 0)
            len += (size_t)snprintf(page + len, 8, "&#%d;", text[i]);
        else
            page[len++] = (char)text[i];
    }
    return len;
}

/* Answers with the newest event of each topic. */
static void show_status(heartwheel_peer peer)
{
    static char page[PAGE_BYTES_MAX + 128];
    heartwheel_event event;
    event.struct_size = sizeof event;
    size_t len = (size_t)sprintf(page, "<!doctype html><title>Status</title><table>\n");
    for (size_t i = 0; i < sizeof shown / sizeof *shown && len + 100 < PAGE_BYTES_MAX; i++) {
        len += (size_t)sprintf(page + len, "<tr><td>%s<td>", shown[i]);
        if (heartwheel_latest(server, shown[i], &event, NULL, 0) < 0)
            len += (size_t)sprintf(page + len, "-");
        else if (event.kind == HEARTWHEEL_TEXT)
            len = put_text(page, len, event.data, event.len);
        else
            len += (size_t)sprintf(page + len, "(%zu bytes)", event.len);
        page[len++] = '\n';
    }
    len += (size_t)sprintf(page + len, "</table>\n");
    heartwheel_respond_header(server, peer, "Cache-Control", "no-store");
    heartwheel_respond(server, peer, 200, "text/html; charset=utf-8", page, len);
}

/* Publishes the time if a minute has begun. Returns how many milliseconds are left of it. */
static long long tell_time(void)
{
    static time_t told;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec / 60 != told) {
        char text[16];
        struct tm local;
        told = now.tv_sec / 60;
        size_t len = strftime(text, sizeof text, "%H:%M", localtime_r(&now.tv_sec, &local));
        heartwheel_publish_text(server, "kiosk.time", text, len);
    }
    return (60 - now.tv_sec % 60) * 1000 - now.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
    int port = -1;
    if (argc < 2) {
        fprintf(stderr, "usage: kiosk FOLDER [ADDRESS]\n");
        return 2;
    }
    if (heartwheel_new(NULL, &server) != HEARTWHEEL_OK
        || heartwheel_route_files(server, "/", argv[1]) != HEARTWHEEL_OK
        || heartwheel_route_topics(server, "/topics/{topic}") != HEARTWHEEL_OK
        || heartwheel_route_events(server, "/events") != HEARTWHEEL_OK
        || heartwheel_route_health(server) != HEARTWHEEL_OK
        || heartwheel_route_request(server, "GET", "/status") != HEARTWHEEL_OK
        || (port = heartwheel_listen(server, argc > 2 ? argv[2] : "127.0.0.1:8765")) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
        return 1;
    }
    struct sigaction ending = {0};
    ending.sa_handler = end;
    sigaction(SIGINT, &ending, NULL);
    sigaction(SIGTERM, &ending, NULL);
    printf("listening on port %d\n", port);
    fflush(stdout);

    heartwheel_event event;
    event.struct_size = sizeof event;
    int code = HEARTWHEEL_OK;
    while (code == HEARTWHEEL_OK) {
        struct pollfd watched = {heartwheel_fd(server), POLLIN, 0};
        long long own = tell_time(), wait = heartwheel_next_timeout_ms(server);
        poll(&watched, 1, (int)(wait < 0 || own < wait ? own : wait));
        if (is_ending)
            heartwheel_drain(server); /* again and again is harmless */
        code = heartwheel_turn(server); /* HEARTWHEEL_DONE: drained */
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK)
            if (event.kind == HEARTWHEEL_REQUEST)
                show_status(event.peer);
    }
    if (code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
    heartwheel_free(server);
    return code == HEARTWHEEL_DONE ? 0 : 1;
}
