/*
 * Who is on a topic, from C: clients ask, and hear who comes and goes; peers of the host's own are
 * members, too. FAULTS 242. Clean under valgrind.
 */
#include "check.h"

static heartwheel *server;
static uint64_t now_ms;

/* Pulls until there is an event of this kind of this peer, and passes over all others. */
static heartwheel_event expect_of(heartwheel_peer peer, uint32_t kind)
{
    int64_t until = now_us() + PATIENCE_MS * 1000;
    while (now_us() < until) {
        heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK)
            if (event.peer == peer && event.kind == kind)
                return event;
        is_ready(server, heartwheel_next_timeout_ms(server) == 0 ? 0 : 5);
        CHECK(heartwheel_turn(server) >= 0);
    }
    fprintf(stderr, "no event of kind %u\n", kind);
    exit(1);
}

static heartwheel_peer connect_to(const char *url, const char *topic, const char *info)
{
    heartwheel_peer client;
    CHECK_IS(heartwheel_connect(server, url, NULL, HEARTWHEEL_CONNECT_TOPICS, &client), 0);
    CHECK_IS(heartwheel_subscribe_as(server, client, topic, NULL, info), HEARTWHEEL_OK);
    heartwheel_event event;
    do
        event = expect_of(client, HEARTWHEEL_STATE);
    while (!bears(event, "open"));
    return client;
}

static heartwheel_member member_at(size_t index)
{
    heartwheel_member member = {sizeof member, 99, 99, NULL, NULL, NULL};
    CHECK_IS(heartwheel_event_member(server, index, &member), HEARTWHEEL_OK);
    CHECK_IS(member.struct_size, sizeof member);
    CHECK_IS(member.reserved, 0);
    CHECK(member.connection != NULL && strlen(member.connection) > 0);
    CHECK(member.identity == NULL);
    return member;
}

static void is_behind_the_last(size_t index)
{
    heartwheel_member member = {sizeof member, 99, 99, NULL, NULL, NULL};
    CHECK_IS(heartwheel_event_member(server, index, &member), HEARTWHEEL_DONE);
    CHECK_IS(heartwheel_event_member(server, SIZE_MAX, &member), HEARTWHEEL_DONE);
    CHECK_IS(member.change, 99);
}

static void tells_nobody(void)
{
    heartwheel_member member = {sizeof member, 99, 99, NULL, NULL, NULL};
    CHECK_IS(heartwheel_event_member(server, 0, &member), HEARTWHEEL_E_NONE);
    CHECK_IS(heartwheel_event_count(server), HEARTWHEEL_E_NONE);
    CHECK_IS(member.change, 99);
}

/* More than a second: until then somebody who has come may go again. */
static void let_it_be_told(void)
{
    now_ms += 1500;
    CHECK_IS(heartwheel_set_clock(server, now_ms), HEARTWHEEL_OK);
}

static void bad_calls_are_answered(heartwheel_peer client, heartwheel_peer plain, heartwheel_peer peer)
{
    char longest[258];
    memset(longest, 'x', sizeof longest);
    longest[257] = 0;
    uint64_t reference = 77;
    CHECK_IS(heartwheel_presence(NULL, client, "room", &reference), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_presence(server, client, NULL, &reference), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_presence(server, client, "a b", &reference), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_presence(server, client, "", &reference), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_presence(server, client, longest, &reference), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_presence(server, plain, "room", &reference), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_presence(server, 0, "room", &reference), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_presence(server, peer, "room", &reference), HEARTWHEEL_E_GONE);
    CHECK_IS(reference, 77);
    CHECK_IS(heartwheel_subscribe_as(server, client, "room", NULL, NULL), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_as(server, client, "room", NULL, longest), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_as(server, client, "room", NULL, "a\nb"), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_as(server, client, "room", NULL, "\xff"), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_as(server, client, "a b", NULL, ""), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_as(server, peer, "room", NULL, "x"), HEARTWHEEL_E_ARGUMENT);
    heartwheel_member member = {sizeof member, 99, 99, NULL, NULL, NULL};
    CHECK_IS(heartwheel_event_member(server, 0, NULL), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_event_member(NULL, 0, &member), HEARTWHEEL_E_ARGUMENT);
    static const size_t bad[] = {0, 1, sizeof member - 1, 257, SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        member.struct_size = bad[i];
        CHECK_IS(heartwheel_event_member(server, 0, &member), HEARTWHEEL_E_ARGUMENT);
        CHECK_IS(member.change, 99);
    }
    CHECK_IS(heartwheel_event_count(NULL), HEARTWHEEL_E_ARGUMENT);
}

/* A server that says it is one, and names whom no server of ours would. */
static void a_hostile_server_names_nobody_to_fear(void)
{
    static const char *const greeting = "{\"op\":\"hello\",\"connection\":\"1\"}";
    static const char *const said[] = {
        "{\"joined\":[{\"identity\":\"a\\u0000b\",\"connection\":7,\"info\":{}}],\"left\":[],"
        "\"count\":18446744073709551615}",
        "{\"joined\":7,\"left\":{},\"count\":2}",
        "{\"joined\":[7],\"left\":[[]],\"count\":2}",
        "{\"joined\":[],\"left\":[]}",
        "{\"count\":-1}",
        "[]",
        "\"text\"",
    };
    char url[64], message[512];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", heartwheel_listen(server, "127.0.0.1:0"));
    CHECK_IS(heartwheel_route_websocket(server, "/ws"), HEARTWHEEL_OK);
    heartwheel_peer client;
    CHECK_IS(heartwheel_connect(server, url, NULL, HEARTWHEEL_CONNECT_TOPICS, &client), 0);
    CHECK_IS(heartwheel_subscribe(server, client, "$presence.room"), HEARTWHEEL_OK);
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    do
        event = next_event(server);
    while (event.kind != HEARTWHEEL_OPENED);
    heartwheel_peer evil = event.peer;
    CHECK_IS(heartwheel_send_text(server, evil, greeting, strlen(greeting)), HEARTWHEEL_OK);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        int len = snprintf(message, sizeof message,
                           "{\"op\":\"event\",\"topic\":\"$presence.room\",\"id\":\"%zu-1\",\"data\":%s}",
                           i + 1, said[i]);
        CHECK(len < (int)sizeof message);
        CHECK_IS(heartwheel_send_text(server, evil, message, (size_t)len), HEARTWHEEL_OK);
        expect_of(client, HEARTWHEEL_TOPIC_TEXT);
        heartwheel_member member = {sizeof member, 99, 99, NULL, NULL, NULL};
        int code = heartwheel_event_member(server, 0, &member);
        if (i == 0) {
            CHECK_IS(code, HEARTWHEEL_OK);
            CHECK(strcmp(member.identity, "a") == 0 && member.info == NULL);
            CHECK(strcmp(member.connection, "") == 0);
            CHECK(heartwheel_event_count(server) == INT64_MAX);
        } else {
            CHECK_IS(code, HEARTWHEEL_E_NONE);
            CHECK_IS(heartwheel_event_count(server), i <= 2 ? 2 : HEARTWHEEL_E_NONE);
        }
    }
    CHECK_IS(heartwheel_close(server, client, 1000), HEARTWHEEL_OK);
}

int main(void)
{
    host host = host_new("[topics]\npresence = [\"room\", \"full\"]\npresence_members = 2", "/peer");
    server = host.server;
    CHECK_IS(heartwheel_set_clock(server, 0), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_hub(server, "/ws"), HEARTWHEEL_OK);
    char url[64], plain_url[64];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", host.port);
    snprintf(plain_url, sizeof plain_url, "ws://127.0.0.1:%d/peer", host.port);

    heartwheel_peer ann = connect_to(url, "room", "Ann");
    CHECK_IS(heartwheel_subscribe(server, ann, "$presence.room"), HEARTWHEEL_OK);
    uint64_t first = 77, second = 77;
    CHECK_IS(heartwheel_presence(server, ann, "room", &first), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_presence(server, ann, "hall", &second), HEARTWHEEL_OK);
    CHECK(first != second && first != 77);
    heartwheel_event event = expect_of(ann, HEARTWHEEL_PRESENCE);
    CHECK_IS(event.token, first);
    char topic[129];
    CHECK_IS(heartwheel_event_topic(server, topic, sizeof topic), 4);
    CHECK(strcmp(topic, "room") == 0);
    CHECK_IS(heartwheel_event_count(server), 1);
    heartwheel_member member = member_at(0);
    CHECK_IS(member.change, HEARTWHEEL_IS_THERE);
    CHECK(strcmp(member.info, "Ann") == 0);
    is_behind_the_last(1);
    event = expect_of(ann, HEARTWHEEL_NO_PRESENCE);
    CHECK_IS(event.token, second);
    CHECK(bears(event, "bad_request"));
    CHECK_IS(heartwheel_event_topic(server, topic, sizeof topic), 4);
    CHECK(strcmp(topic, "hall") == 0);
    tells_nobody();
    let_it_be_told();
    expect_of(ann, HEARTWHEEL_TOPIC_TEXT);
    member = member_at(0);
    CHECK_IS(member.change, HEARTWHEEL_HAS_JOINED);
    CHECK(strcmp(member.info, "Ann") == 0);
    is_behind_the_last(1);

    /* A peer of the host's own is a member, and hears of others. */
    int fd = dial(host.port, 0);
    ask_upgrade(fd, "/peer");
    do
        event = next_event(server);
    while (event.kind != HEARTWHEEL_OPENED);
    heartwheel_peer peer = event.peer;
    read_upgrade(server, fd);
    CHECK_IS(heartwheel_subscribe(server, peer, "room"), HEARTWHEEL_OK);
    let_it_be_told();
    expect_of(ann, HEARTWHEEL_TOPIC_TEXT);
    CHECK_IS(heartwheel_event_count(server), 2);
    member = member_at(0);
    CHECK(member.change == HEARTWHEEL_HAS_JOINED && member.info == NULL);
    CHECK(strtoull(member.connection, NULL, 10) == peer);

    CHECK_IS(heartwheel_subscribe(server, peer, "$presence.room"), HEARTWHEEL_OK);

    heartwheel_peer plain;
    CHECK_IS(heartwheel_connect(server, plain_url, NULL, 0, &plain), HEARTWHEEL_OK);
    bad_calls_are_answered(ann, plain, peer);
    CHECK_IS(heartwheel_close(server, plain, 1000), HEARTWHEEL_OK);

    /* One who leaves, and one more than are named. */
    heartwheel_peer bob = connect_to(url, "room", "Bob");
    let_it_be_told();
    expect_of(ann, HEARTWHEEL_TOPIC_TEXT);
    CHECK_IS(heartwheel_event_count(server), 3);
    member.struct_size = sizeof member;
    CHECK_IS(heartwheel_event_member(server, 0, &member), HEARTWHEEL_E_NONE);
    CHECK(strstr(heartwheel_last_error(server), "more members") != NULL);
    CHECK_IS(heartwheel_close(server, bob, 1000), HEARTWHEEL_OK);
    do
        event = expect_of(bob, HEARTWHEEL_STATE);
    while (!bears(event, "stopped"));
    let_it_be_told();
    expect_of(ann, HEARTWHEEL_TOPIC_TEXT);
    CHECK_IS(heartwheel_event_count(server), 2);
    member = member_at(0);
    CHECK_IS(member.change, HEARTWHEEL_HAS_LEFT);
    uint8_t *told;
    size_t len;
    CHECK_IS(read_frame(server, fd, &told, &len), 1);
    CHECK_IS(strncmp((char *)told, "{\"count\":3}", 11), 0);
    free(told);
    CHECK_IS(read_frame(server, fd, &told, &len), 1);
    CHECK(strstr((char *)told, "\"left\":[{\"identity\":null") != NULL);
    free(told);
    CHECK(strcmp(member.info, "Bob") == 0);
    CHECK_IS(heartwheel_presence(server, bob, "room", NULL), HEARTWHEEL_E_GONE);

    /* Questions are bounded, and end with the client. */
    for (int i = 0; i < 64; i++)
        CHECK_IS(heartwheel_presence(server, ann, "room", NULL), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_presence(server, ann, "room", &first), HEARTWHEEL_E_FULL);
    CHECK(strstr(heartwheel_last_error(server), "64 questions") != NULL);
    a_hostile_server_names_nobody_to_fear();
    close(fd);
    heartwheel_free(server);
    puts("presence: ok");
    return 0;
}
