/*
 * Everything that a host can get wrong, and what it is answered: an error code, and the server goes
 * on. FAULTS 147, 148, 154, 155, 159. Clean under valgrind.
 */
#include "check.h"

#define E_ARGUMENT HEARTWHEEL_E_ARGUMENT

static void null_is_answered_everywhere(void)
{
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    CHECK_IS(heartwheel_new(NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_listen(NULL, "127.0.0.1:0"), E_ARGUMENT);
    CHECK_IS(heartwheel_route_websocket(NULL, "/echo"), E_ARGUMENT);
    CHECK_IS(heartwheel_fd(NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_next_timeout_ms(NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_turn(NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_next_event(NULL, &event), E_ARGUMENT);
    CHECK_IS(heartwheel_send_text(NULL, 1, "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_send_binary(NULL, 1, "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_publish_text(NULL, "t", "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_publish_binary(NULL, "t", "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe(NULL, 1, "t"), E_ARGUMENT);
    CHECK_IS(heartwheel_unsubscribe(NULL, 1, "t"), E_ARGUMENT);
    CHECK_IS(heartwheel_close(NULL, 1, 1000), E_ARGUMENT);
    CHECK_IS(heartwheel_drain(NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_wake(NULL), E_ARGUMENT);
    CHECK(strlen(heartwheel_last_error(NULL)) > 0);
    heartwheel_free(NULL);
    for (int code = -8; code < 4; code++)
        CHECK(strlen(heartwheel_error_string(code)) > 0);
    CHECK(strcmp(heartwheel_version(), HEARTWHEEL_VERSION) == 0);
}

static void null_beside_a_handle_is_answered(heartwheel *server, heartwheel_peer peer)
{
    CHECK_IS(heartwheel_listen(server, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_route_websocket(server, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_next_event(server, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_send_text(server, peer, NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_send_binary(server, peer, NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_publish_text(server, NULL, "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_publish_text(server, "t", NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_publish_binary(server, NULL, "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_publish_binary(server, "t", NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe(server, peer, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_unsubscribe(server, peer, NULL), E_ARGUMENT);
    /* No data at no address is no data. */
    CHECK_IS(heartwheel_publish_text(server, "t", NULL, 0), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_publish_binary(server, "t", NULL, 0), HEARTWHEEL_OK);
}

static void what_is_not_a_handle_is_answered(void)
{
    /* Memory of some size that is anything but a handle. */
    void *memory = calloc(1, 4096);
    CHECK(memory != NULL);
    CHECK_IS(heartwheel_turn(memory), E_ARGUMENT);
    CHECK_IS(heartwheel_wake(memory), E_ARGUMENT);
    CHECK_IS(heartwheel_turn((heartwheel *)((char *)memory + 1)), E_ARGUMENT);
    CHECK(strlen(heartwheel_last_error(memory)) > 0);
    heartwheel_free(memory);
    free(memory);
}

static void a_bad_configuration_is_a_sentence(void)
{
    static const char *const bad[] = {
        "no_such_key = 1",
        "[deadlines]\nhandshake = \"-1s\"",
        "[deadlines]\nread_idle = \"1s\"",
        "not toml at all",
        "workers = 2",
        "[limits]\nconnections = 100000000",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        heartwheel *server = NULL;
        heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
        CHECK_IS(heartwheel_new(bad[i], &server), HEARTWHEEL_E_CONFIG);
        CHECK(server != NULL);
        CHECK(strlen(heartwheel_last_error(server)) > 10);
        CHECK_IS(heartwheel_listen(server, "127.0.0.1:0"), HEARTWHEEL_E_CONFIG);
        CHECK_IS(heartwheel_fd(server), HEARTWHEEL_E_CONFIG);
        CHECK_IS(heartwheel_next_timeout_ms(server), HEARTWHEEL_E_CONFIG);
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_E_CONFIG);
        CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_E_CONFIG);
        CHECK_IS(heartwheel_wake(server), HEARTWHEEL_E_CONFIG);
        CHECK(strlen(heartwheel_last_error(server)) > 10);
        heartwheel_free(server);
    }
    heartwheel *server = NULL;
    CHECK_IS(heartwheel_new("log = \"\xff\"", &server), E_ARGUMENT);
    CHECK(strstr(heartwheel_last_error(server), "UTF-8") != NULL);
    heartwheel_free(server);
    CHECK_IS(heartwheel_new("listen = \"203.0.113.1:1\"", &server), HEARTWHEEL_E_IO);
    CHECK(strstr(heartwheel_last_error(server), "203.0.113.1:1") != NULL);
    heartwheel_free(server);
    /* These are the same as nothing. */
    CHECK_IS(heartwheel_new("", &server), HEARTWHEEL_OK);
    heartwheel_free(server);
    CHECK_IS(heartwheel_new("workers = 0\nadmin_listen = \"off\"\nlisten = \"off\"", &server), 0);
    CHECK(strcmp(heartwheel_last_error(server), "") == 0);
    heartwheel_free(server);
}

static void bad_addresses_and_paths_are_answered(heartwheel *server, int port)
{
    char taken[32];
    snprintf(taken, sizeof taken, "127.0.0.1:%d", port);
    CHECK_IS(heartwheel_listen(server, taken), HEARTWHEEL_E_IO);
    CHECK(strstr(heartwheel_last_error(server), taken) != NULL);
    CHECK_IS(heartwheel_listen(server, "127.0.0.1"), E_ARGUMENT);
    CHECK_IS(heartwheel_listen(server, "127.0.0.1:99999"), E_ARGUMENT);
    CHECK_IS(heartwheel_listen(server, ""), E_ARGUMENT);
    CHECK_IS(heartwheel_listen(server, "\xff:1"), E_ARGUMENT);
    CHECK_IS(heartwheel_listen(server, "unix:/no/such/folder/socket"), HEARTWHEEL_E_IO);
    CHECK_IS(heartwheel_route_websocket(server, ""), E_ARGUMENT);
    CHECK_IS(heartwheel_route_websocket(server, "echo"), E_ARGUMENT);
    CHECK_IS(heartwheel_route_websocket(server, "/rooms/{topic}chat"), E_ARGUMENT);
    CHECK(strstr(heartwheel_last_error(server), "/rooms/{topic}chat: braces") != NULL);
    CHECK_IS(heartwheel_route_websocket(server, "/rooms/*"), E_ARGUMENT);
    CHECK_IS(heartwheel_route_websocket(server, "/a b"), E_ARGUMENT);
    CHECK_IS(heartwheel_route_websocket(server, "/\xff"), E_ARGUMENT);
}

static void events_want_their_size(heartwheel *server, int fd)
{
    /* ABI rule: a struct with room for all members is taken, and no byte behind them is touched. */
    struct {
        heartwheel_event event;
        unsigned char behind[64];
    } room;
    memset(&room, 0xaa, sizeof room);
    static const size_t bad[] = {0, 1, sizeof(size_t), offsetof(heartwheel_event, token) - 1, 257,
                                 (size_t)-1, 0xaaaaaaaa};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        room.event.struct_size = bad[i];
        CHECK_IS(heartwheel_next_event(server, &room.event), E_ARGUMENT);
        CHECK(strstr(heartwheel_last_error(server), "struct_size") != NULL);
        CHECK_IS(room.event.struct_size, bad[i]);
        CHECK_IS(room.event.kind, 0xaaaaaaaa);
    }
    /* A program built with an older header has a struct without the token: none is written. */
    room.event.struct_size = offsetof(heartwheel_event, token);
    room.event.token = UINT64_C(0xaaaaaaaaaaaaaaaa);
    send_text(fd, "to the old");
    settle(server);
    CHECK_IS(heartwheel_next_event(server, &room.event), HEARTWHEEL_OK);
    CHECK_IS(room.event.token, UINT64_C(0xaaaaaaaaaaaaaaaa));
    room.event.struct_size = sizeof room;
    CHECK_IS(heartwheel_next_event(server, &room.event), HEARTWHEEL_OK);
    CHECK_IS(room.event.token, 0);
    CHECK_IS(room.event.struct_size, sizeof room);
    CHECK_IS(room.event.reserved, 0);
    for (size_t i = 0; i < sizeof room.behind; i++)
        CHECK_IS(room.behind[i], 0xaa);
}

static void bad_lengths_and_text_are_answered(heartwheel *server, heartwheel_peer peer)
{
    static const size_t lengths[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX - 15,
                                     (size_t)INT32_MAX + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        CHECK_IS(heartwheel_send_text(server, peer, "x", lengths[i]), E_ARGUMENT);
        CHECK_IS(heartwheel_send_binary(server, peer, "x", lengths[i]), E_ARGUMENT);
        CHECK_IS(heartwheel_publish_text(server, "t", "x", lengths[i]), E_ARGUMENT);
        CHECK_IS(heartwheel_publish_binary(server, "t", "x", lengths[i]), E_ARGUMENT);
    }
    static const char *const bad[] = {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xe2\x82", "a\xf5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_IS(heartwheel_send_text(server, peer, bad[i], strlen(bad[i])), E_ARGUMENT);
        CHECK_IS(heartwheel_publish_text(server, "t", bad[i], strlen(bad[i])), E_ARGUMENT);
        CHECK_IS(heartwheel_subscribe(server, peer, bad[i]), E_ARGUMENT);
    }
    char longest[130];
    memset(longest, 'a', sizeof longest);
    longest[129] = 0;
    static const char *const topics[] = {"", "a b", "a/b", "$", "*"};
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        CHECK_IS(heartwheel_publish_text(server, topics[i], "x", 1), E_ARGUMENT);
        CHECK_IS(heartwheel_subscribe(server, peer, topics[i]), E_ARGUMENT);
    }
    CHECK_IS(heartwheel_subscribe(server, peer, longest), E_ARGUMENT);
    CHECK_IS(heartwheel_publish_text(server, "$stats", "x", 1), E_ARGUMENT);
    static const unsigned short codes[] = {0, 1, 999, 1004, 1005, 1006, 1015, 2000, 5000, 65535};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        CHECK_IS(heartwheel_close(server, peer, codes[i]), E_ARGUMENT);
}

static void nobody_is_answered(heartwheel *server, heartwheel_peer peer, int expected)
{
    CHECK_IS(heartwheel_send_text(server, peer, "x", 1), expected);
    CHECK_IS(heartwheel_send_binary(server, peer, "x", 1), expected);
    CHECK_IS(heartwheel_subscribe(server, peer, "t"), expected);
    CHECK_IS(heartwheel_unsubscribe(server, peer, "t"), expected);
    CHECK_IS(heartwheel_close(server, peer, 1000), expected);
}

int main(void)
{
    null_is_answered_everywhere();
    what_is_not_a_handle_is_answered();
    a_bad_configuration_is_a_sentence();

    host here = host_new("[limits]\ntopics = 2\nsubscriptions = 1", "/echo");
    host there = host_new(NULL, "/echo");
    bad_addresses_and_paths_are_answered(here.server, here.port);

    int fd = dial(here.port, 0);
    ask_upgrade(fd, "/echo");
    settle(here.server);
    events_want_their_size(here.server, fd);
    reset(fd);
    heartwheel_event event = expect(here.server, HEARTWHEEL_CLOSED);
    CHECK(event.peer != 0 && bears(event, "reset"));
    CHECK_IS(event.close_code, 1006);

    heartwheel_peer peer, other, foreign;
    fd = open_peer(here.server, here.port, "/echo", &peer);
    null_beside_a_handle_is_answered(here.server, peer);
    bad_lengths_and_text_are_answered(here.server, peer);
    /* A NUL is text as any other, and nothing is a message. */
    CHECK_IS(heartwheel_send_text(here.server, peer, "a\0b", 3), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_send_text(here.server, peer, NULL, 0), HEARTWHEEL_OK);
    uint8_t *data;
    size_t len;
    CHECK_IS(read_frame(here.server, fd, &data, &len), 1);
    CHECK(len == 3 && memcmp(data, "a\0b", 3) == 0);
    free(data);
    expect_frame(here.server, fd, 1, "");
    CHECK_IS(heartwheel_subscribe(here.server, peer, "t"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_subscribe(here.server, peer, "t"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_subscribe(here.server, peer, "u"), HEARTWHEEL_E_FULL);
    CHECK_IS(heartwheel_publish_text(here.server, "u", "x", 1), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_publish_text(here.server, "v", "x", 1), HEARTWHEEL_E_FULL);

    /* Of whom there is none, there was one, or there is one elsewhere. */
    int fd_there = open_peer(there.server, there.port, "/echo", &foreign);
    CHECK(peer != foreign);
    nobody_is_answered(here.server, foreign, HEARTWHEEL_E_GONE);
    nobody_is_answered(here.server, 0, E_ARGUMENT);
    nobody_is_answered(here.server, UINT64_MAX, HEARTWHEEL_E_GONE);
    nobody_is_answered(here.server, peer ^ 1, HEARTWHEEL_E_GONE);
    nobody_is_answered(here.server, peer ^ (UINT64_C(1) << 32), HEARTWHEEL_E_GONE);
    reset(fd);
    event = expect(here.server, HEARTWHEEL_CLOSED);
    CHECK(event.peer == peer && bears(event, "reset"));
    nobody_is_answered(here.server, peer, HEARTWHEEL_E_GONE);
    /* The next one in its slot is somebody else. */
    fd = open_peer(here.server, here.port, "/echo", &other);
    CHECK(other != peer);
    nobody_is_answered(here.server, peer, HEARTWHEEL_E_GONE);
    /* Who is closing is gone for all that would reach it. */
    CHECK_IS(heartwheel_close(here.server, other, 4000), HEARTWHEEL_OK);
    nobody_is_answered(here.server, other, HEARTWHEEL_E_GONE);
    expect_frame(here.server, fd, 8, "\x0f\xa0");
    send_frame(fd, 8, "\x0f\xa0", 2);
    CHECK_IS(shutdown(fd, SHUT_WR), 0);
    event = expect(here.server, HEARTWHEEL_CLOSED);
    CHECK(event.peer == other && bears(event, "application"));
    CHECK_IS(event.close_code, 4000);

    /* To free with peers, events and topics under way. */
    send_text(fd_there, "unread");
    settle(there.server);
    heartwheel_event half = {sizeof half, 0, 0, 0, 0, NULL, 0, 0};
    send_text(fd_there, "unread too");
    settle(there.server);
    CHECK_IS(heartwheel_next_event(there.server, &half), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_send_text(there.server, foreign, "never sent", 10), HEARTWHEEL_OK);
    heartwheel_free(there.server);
    heartwheel_free(here.server);
    close(fd);
    close(fd_there);
    puts("misuse: ok");
    return 0;
}
