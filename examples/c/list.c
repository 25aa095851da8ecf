/*
 * A shopping list for each client, which outlasts its connections and this program: a library with
 * the features `sessions` and, for "sqlite:FILE", `sqlite`.
 *
 *     list 127.0.0.1:8765 sqlite:lists.db
 *
 *     ws://127.0.0.1:8765/list?id=KEY   KEY is any text that only this client knows
 *
 * Each text is one more thing, and the answer is the whole list. Connect again with the same KEY: the
 * list is there, and an older connection with that KEY ends with 4409. SIGTERM ends it: all lists are
 * saved.
 */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heartwheel.h"

enum { LIST_BYTES_MAX = 4096 };

struct list {
    size_t len;
    char text[LIST_BYTES_MAX];
};

static volatile sig_atomic_t is_ending;
static heartwheel *server;

static void end(int signal)
{
    (void)signal;
    is_ending = 1;
    heartwheel_wake(server);
}

static int64_t freeze(void *context, void *user, void *out, size_t size)
{
    (void)context;
    const struct list *list = user;
    if (list == NULL)
        return -1;
    if (list->len <= size)
        memcpy(out, list->text, list->len);
    return (int64_t)list->len;
}

static int thaw(void *context, const void *data, size_t len, void **user)
{
    (void)context;
    struct list *list = malloc(sizeof *list);
    if (list == NULL || len > sizeof list->text) {
        free(list);
        return HEARTWHEEL_E_FULL;
    }
    list->len = len;
    memcpy(list->text, data, len);
    *user = list;
    return HEARTWHEEL_OK;
}

static void discard(void *context, void *user)
{
    (void)context;
    free(user);
}

static void handle(const heartwheel_event *event)
{
    struct list *list = heartwheel_user(server, event->peer);
    switch (event->kind) {
    case HEARTWHEEL_OPENED:
        if (list != NULL)
            heartwheel_send_text(server, event->peer, list->text, list->len);
        else if ((list = calloc(1, sizeof *list)) != NULL)
            heartwheel_set_user(server, event->peer, list);
        break;
    case HEARTWHEEL_TEXT:
        if (list == NULL || list->len + event->len + 1 > sizeof list->text) {
            heartwheel_close_text(server, event->peer, 1009, "the list is full", 16);
            break;
        }
        if (list->len > 0)
            list->text[list->len++] = '\n';
        memcpy(list->text + list->len, event->data, event->len);
        list->len += event->len;
        heartwheel_send_text(server, event->peer, list->text, list->len);
        break;
    case HEARTWHEEL_CLOSED:
        free(list);
        break;
    }
}

int main(int argc, char **argv)
{
    heartwheel_sessions sessions = {0};
    sessions.struct_size = sizeof sessions;
    sessions.key = "query:id";
    sessions.store = argc > 2 ? argv[2] : "memory";
    sessions.is_required = 1;
    sessions.freeze = freeze;
    sessions.thaw = thaw;
    sessions.discard = discard;
    int port = -1;
    if (heartwheel_new(NULL, &server) != HEARTWHEEL_OK
        || heartwheel_route_sessions(server, "/list", &sessions) != HEARTWHEEL_OK
        || (port = heartwheel_listen(server, argc > 1 ? argv[1] : "127.0.0.1:8765")) < 0) {
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
        poll(&watched, 1, (int)heartwheel_next_timeout_ms(server));
        if (is_ending)
            heartwheel_drain(server); /* again and again is harmless */
        code = heartwheel_turn(server); /* HEARTWHEEL_DONE: drained */
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK)
            handle(&event);
    }
    if (code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
    heartwheel_free(server); /* waits for the last lists */
    return code == HEARTWHEEL_DONE ? 0 : 1;
}
