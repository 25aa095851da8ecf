/*
 * Who is on a topic, and who comes and goes: a client, in a library with the features `client` and
 * `presence`. The server's key topics.presence must name the topic.
 *
 *     who ws://127.0.0.1:8765 room "my name"
 *
 * "= Ann" was there already, "+ Ann" has joined, "- Ann" has left. What a client says of itself stands
 * for it; without that its identity, without that its number. SIGTERM ends it.
 */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "heartwheel.h"

static volatile sig_atomic_t is_ending;
static heartwheel *handle;

static void end(int signal)
{
    (void)signal;
    is_ending = 1;
    heartwheel_wake(handle);
}

/* Shows all whom the event in hand names, if it is one that names any. */
static void show_members(void)
{
    static const char marks[] = {'=', '+', '-'};
    heartwheel_member member;
    member.struct_size = sizeof member;
    for (size_t i = 0; heartwheel_event_member(handle, i, &member) == HEARTWHEEL_OK; i++) {
        const char *name = member.info != NULL       ? member.info
                           : member.identity != NULL ? member.identity
                                                     : member.connection;
        printf("%c %s\n", marks[member.change], name);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char moves[160];
    heartwheel_peer client;
    if (argc < 3) {
        fprintf(stderr, "usage: who URL TOPIC [NAME]\n");
        return 2;
    }
    /* First what comes and goes, then who is there: so nobody is missed in between. */
    snprintf(moves, sizeof moves, "$presence.%s", argv[2]);
    if (heartwheel_new(NULL, &handle) != HEARTWHEEL_OK
        || heartwheel_connect(handle, argv[1], NULL, HEARTWHEEL_CONNECT_TOPICS, &client) < 0
        || heartwheel_subscribe(handle, client, moves) < 0
        || heartwheel_subscribe_as(handle, client, argv[2], NULL, argc > 3 ? argv[3] : "") < 0
        || heartwheel_presence(handle, client, argv[2], NULL) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(handle));
        return 1;
    }
    struct sigaction ending = {0};
    ending.sa_handler = end;
    sigaction(SIGINT, &ending, NULL);
    sigaction(SIGTERM, &ending, NULL);

    heartwheel_event event;
    event.struct_size = sizeof event;
    int is_stopped = 0;
    while (!is_stopped) {
        struct pollfd watched = {heartwheel_fd(handle), POLLIN, 0};
        poll(&watched, 1, (int)heartwheel_next_timeout_ms(handle));
        if (is_ending)
            heartwheel_close(handle, client, 1000);
        heartwheel_turn(handle);
        while (heartwheel_next_event(handle, &event) == HEARTWHEEL_OK) {
            switch (event.kind) {
            case HEARTWHEEL_PRESENCE:
            case HEARTWHEEL_TOPIC_TEXT:
                show_members();
                break;
            case HEARTWHEEL_TOPIC_GAP:
                heartwheel_presence(handle, client, argv[2], NULL);
                break;
            case HEARTWHEEL_NO_PRESENCE:
            case HEARTWHEEL_NOT_SUBSCRIBED:
                fprintf(stderr, "%.*s\n", (int)event.len, (const char *)event.data);
                break;
            case HEARTWHEEL_STATE:
                is_stopped = event.len == 7 && memcmp(event.data, "stopped", 7) == 0;
                break;
            }
        }
    }
    heartwheel_free(handle);
    return is_ending ? 0 : 1;
}
