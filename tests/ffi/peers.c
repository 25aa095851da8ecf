/*
 * What a host asks of its peers and of its server beside messages: pointers, addresses, lists, ends
 * with a reason, positions, figures, another configuration, listeners of somebody else. And what it
 * is answered when it asks wrongly.
 */
#include "check.h"

#include <sys/un.h>

#define E_ARGUMENT HEARTWHEEL_E_ARGUMENT
#define E_GONE HEARTWHEEL_E_GONE

static void a_pointer_stays_with_its_peer(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    heartwheel_peer one, two;
    int number = 1, other = 2;
    int fd_one = open_peer(server, host.port, "/echo", &one);
    /* While its event is in hand, and later. */
    CHECK(heartwheel_user(server, one) == NULL);
    CHECK_IS(heartwheel_set_user(server, one, &number), HEARTWHEEL_OK);
    int fd_two = open_peer(server, host.port, "/echo", &two);
    CHECK(heartwheel_user(server, two) == NULL);
    CHECK(heartwheel_user(server, one) == &number);
    CHECK_IS(heartwheel_set_user(server, two, &other), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_set_user(server, one, &other), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_set_user(server, one, &number), HEARTWHEEL_OK);
    send_text(fd_one, "x");
    expect(server, HEARTWHEEL_TEXT);
    CHECK(heartwheel_user(server, one) == &number);
    CHECK(heartwheel_user(server, two) == &other);
    /* Its end is the last place to have it. */
    reset(fd_one);
    heartwheel_event event = expect(server, HEARTWHEEL_CLOSED);
    CHECK(event.peer == one && heartwheel_user(server, one) == &number);
    CHECK_IS(heartwheel_set_user(server, one, NULL), HEARTWHEEL_OK);
    CHECK(heartwheel_user(server, one) == NULL);
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    CHECK(heartwheel_user(server, one) == NULL);
    CHECK_IS(heartwheel_set_user(server, one, &number), E_GONE);
    /* Somebody else's connection has none: it was not told of. */
    int fd = dial(host.port, 0);
    settle(server);
    CHECK_IS(heartwheel_set_user(server, one + 1, &number), E_GONE);
    /* It is there if a message, its end, or both come in between. */
    send_text(fd_two, "last");
    reset(fd_two);
    settle(server);
    CHECK_IS(heartwheel_set_user(server, two, NULL), E_GONE);
    do {
        event = next_event(server);
        CHECK(event.peer == two && heartwheel_user(server, two) == &other);
    } while (event.kind != HEARTWHEEL_CLOSED);
    close(fd);
    heartwheel_free(server);
}

static void an_address_is_text_of_any_size(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    heartwheel_peer peer;
    int fd = open_peer(server, host.port, "/echo", &peer);
    char text[64], cut[12];
    memset(text, 'x', sizeof text);
    int len = heartwheel_address(server, peer, text, sizeof text);
    CHECK(len > 10 && (size_t)len == strlen(text) && strncmp(text, "127.0.0.1:", 10) == 0);
    memset(cut, 'x', sizeof cut);
    CHECK_IS(heartwheel_address(server, peer, cut, 8), len);
    CHECK(memcmp(cut, "127.0.0\0xxxx", 12) == 0);
    CHECK_IS(heartwheel_address(server, peer, cut, 1), len);
    CHECK_IS(cut[0], 0);
    CHECK_IS(heartwheel_address(server, peer, NULL, 0), len);
    CHECK_IS(heartwheel_address(server, peer, NULL, 1), E_ARGUMENT);
    reset(fd);
    expect(server, HEARTWHEEL_CLOSED);
    CHECK_IS(heartwheel_address(server, peer, text, sizeof text), E_GONE);
    heartwheel_free(server);
}

static void peers_are_listed_in_slices(void)
{
    enum { COUNT = 7 };
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    heartwheel_peer peers[COUNT], found[COUNT + 1];
    int fds[COUNT];
    CHECK_IS(heartwheel_peers(server, 0, found, COUNT), 0);
    for (int i = 0; i < COUNT; i++)
        fds[i] = open_peer(server, host.port, "/echo", &peers[i]);
    /* Who has not been told of is none yet. */
    int untold = dial(host.port, 0);
    ask_upgrade(untold, "/echo");
    settle(server);
    CHECK_IS(heartwheel_peers(server, 0, found, COUNT + 1), COUNT);
    CHECK_IS(heartwheel_close(server, peers[2], 1000), HEARTWHEEL_OK);
    int seen = 0, count;
    heartwheel_peer after = 0;
    while ((count = heartwheel_peers(server, after, found, 2)) > 0) {
        for (int i = 0; i < count; i++) {
            CHECK(found[i] != peers[2]);
            for (int j = 0; j < COUNT; j++)
                seen += found[i] == peers[j];
        }
        after = found[count - 1];
    }
    CHECK_IS(count, 0);
    CHECK_IS(seen, COUNT - 1);
    CHECK_IS(heartwheel_peers(server, UINT64_MAX, found, COUNT), 0);
    CHECK_IS(heartwheel_peers(server, 0, NULL, 0), 0);
    CHECK_IS(heartwheel_peers(server, 0, NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_peers(server, 0, (heartwheel_peer *)((char *)found + 1), 1), E_ARGUMENT);
    CHECK_IS(heartwheel_peers(server, 0, found, SIZE_MAX), E_ARGUMENT);
    CHECK_IS(heartwheel_peers(server, 0, found, SIZE_MAX / 8 + 1), E_ARGUMENT);
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
    close(untold);
    heartwheel_free(server);
}

static void ends_have_a_reason(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    heartwheel_peer peer;
    char longest[125];
    memset(longest, 'a', sizeof longest);
    int fd = open_peer(server, host.port, "/echo", &peer);
    CHECK_IS(heartwheel_close_text(server, peer, 4000, longest, 124), E_ARGUMENT);
    CHECK_IS(heartwheel_close_text(server, peer, 4000, "\xff", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_close_text(server, peer, 4000, NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_close_text(server, peer, 4000, "x", SIZE_MAX), E_ARGUMENT);
    CHECK_IS(heartwheel_close_text(server, peer, 1005, "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_close_text(server, 0, 4000, "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_close_text(server, peer, 4000, "come again", 10), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_close_text(server, peer, 4000, "come again", 10), E_GONE);
    expect_frame(server, fd, 8, "\x0f\xa0" "come again");
    close(fd);
    expect(server, HEARTWHEEL_CLOSED);

    fd = open_peer(server, host.port, "/echo", &peer);
    CHECK_IS(heartwheel_close_text(server, peer, 1000, longest, 123), HEARTWHEEL_OK);
    uint8_t *data;
    size_t len;
    CHECK_IS(read_frame(server, fd, &data, &len), 8);
    CHECK_IS(len, 125);
    free(data);
    close(fd);
    expect(server, HEARTWHEEL_CLOSED);

    fd = open_peer(server, host.port, "/echo", &peer);
    CHECK_IS(heartwheel_kick(server, peer), HEARTWHEEL_OK);
    expect_frame(server, fd, 8, "\x03\xf0kicked");
    send_frame(fd, 8, "\x03\xf0", 2);
    close(fd);
    heartwheel_event event = expect(server, HEARTWHEEL_CLOSED);
    CHECK(event.peer == peer && bears(event, "kicked"));
    CHECK_IS(heartwheel_kick(server, peer), E_GONE);
    CHECK_IS(heartwheel_kick(server, 0), E_ARGUMENT);

    fd = open_peer(server, host.port, "/echo", &peer);
    CHECK_IS(heartwheel_shed(server, -0.1), E_ARGUMENT);
    CHECK_IS(heartwheel_shed(server, 1.1), E_ARGUMENT);
    CHECK_IS(heartwheel_shed(server, 0.0 / 0.0), E_ARGUMENT);
    CHECK_IS(heartwheel_shed(server, 0), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_shed(server, 1), HEARTWHEEL_OK);
    CHECK_IS(read_frame(server, fd, &data, &len), 8);
    CHECK(memcmp(data, "\x03\xf4retry=", 8) == 0);
    free(data);
    close(fd);
    event = expect(server, HEARTWHEEL_CLOSED);
    CHECK(bears(event, "shed"));
    heartwheel_free(server);
}

static void a_subscription_begins_after_a_position(void)
{
    host host = host_new("[topics]\nretain_events = 3", "/echo");
    heartwheel *server = host.server;
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    char first[48], last[48], cut[4] = "xyz";
    CHECK_IS(heartwheel_latest(server, "t", &event, NULL, 0), HEARTWHEEL_E_NONE);
    CHECK_IS(event.kind, 0);
    CHECK_IS(heartwheel_publish_text(server, "t", "one", 3), HEARTWHEEL_OK);
    int len = heartwheel_latest(server, "t", &event, first, sizeof first);
    CHECK(len > 0 && (size_t)len == strlen(first) && strchr(first, '-') != NULL);
    CHECK(event.kind == HEARTWHEEL_TEXT && event.peer == 0 && bears(event, "one"));
    CHECK_IS(heartwheel_publish_binary(server, "t", "two", 3), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_latest(server, "t", &event, last, sizeof last), strlen(last));
    CHECK(event.kind == HEARTWHEEL_BINARY && bears(event, "two") && strcmp(first, last) != 0);
    CHECK(heartwheel_latest(server, "t", &event, cut, 3) > 3);
    CHECK(cut[2] == 0 && strncmp(cut, last, 2) == 0);
    CHECK_IS(heartwheel_publish_text(server, "empty", NULL, 0), HEARTWHEEL_OK);
    CHECK(heartwheel_latest(server, "empty", &event, NULL, 0) > 0);
    CHECK(event.data != NULL && event.len == 0);
    CHECK_IS(heartwheel_latest(server, "no blanks", &event, NULL, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_latest(server, NULL, &event, NULL, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_latest(server, "t", NULL, NULL, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_latest(server, "t", &event, NULL, 5), E_ARGUMENT);
    event.struct_size = 3;
    CHECK_IS(heartwheel_latest(server, "t", &event, NULL, 0), E_ARGUMENT);

    heartwheel_peer peer;
    int fd = open_peer(server, host.port, "/echo", &peer);
    CHECK_IS(heartwheel_subscribe_after(server, peer, "t", first), HEARTWHEEL_OK);
    expect_frame(server, fd, 2, "two");
    CHECK_IS(heartwheel_unsubscribe(server, peer, "t"), HEARTWHEEL_OK);
    for (int i = 0; i < 4; i++)
        CHECK_IS(heartwheel_publish_text(server, "t", "more", 4), HEARTWHEEL_OK);
    settle(server);
    CHECK_IS(heartwheel_subscribe_after(server, peer, "t", first), HEARTWHEEL_GAP);
    for (int i = 0; i < 3; i++)
        expect_frame(server, fd, 1, "more");
    CHECK_IS(heartwheel_unsubscribe(server, peer, "t"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_subscribe_after(server, peer, "t", "not a position"), HEARTWHEEL_GAP);
    for (int i = 0; i < 3; i++)
        expect_frame(server, fd, 1, "more");
    CHECK_IS(heartwheel_subscribe_after(server, peer, "t", NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_after(server, peer, NULL, "0-0"), E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_after(server, peer, "no blanks", "0-0"), E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_after(server, 0, "t", "0-0"), E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_after(server, peer ^ 1, "t", "0-0"), E_GONE);
    close(fd);
    heartwheel_free(server);
}

static void figures_and_the_table_are_shown(void)
{
    enum { COUNT = 80 };
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    const char *text = NULL;
    size_t len = 0, slices = 0, rows = 0, bytes = 0;
    CHECK_IS(heartwheel_metrics(server, &text, &len), HEARTWHEEL_OK);
    CHECK(strlen(text) == len && strstr(text, "heartwheel_connections_accepted_total 0\n") != NULL);
    CHECK_IS(heartwheel_metrics(server, NULL, &len), E_ARGUMENT);
    CHECK_IS(heartwheel_metrics(server, &text, NULL), E_ARGUMENT);
    uint64_t place = 0;
    CHECK_IS(heartwheel_connections(server, &place, &text, &len), HEARTWHEEL_OK);
    CHECK(strcmp(text, "[]\n") == 0 && len == 3);
    CHECK_IS(heartwheel_connections(server, &place, &text, &len), HEARTWHEEL_DONE);
    CHECK_IS(heartwheel_connections(server, &place, &text, &len), HEARTWHEEL_DONE);
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++)
        fds[i] = open_peer(server, host.port, "/echo", NULL);
    place = 0;
    while (heartwheel_connections(server, &place, &text, &len) == HEARTWHEEL_OK) {
        CHECK_IS(strlen(text), len);
        slices++;
        bytes += len;
        for (const char *row = text; (row = strstr(row, "\"phase\"")) != NULL; row++)
            rows++;
        /* Turns may go on. */
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    }
    CHECK_IS(rows, COUNT);
    printf("%zu rows in %zu slices of %zu bytes\n", rows, slices, bytes);
    CHECK(slices > 1);
    CHECK_IS(heartwheel_connections(server, NULL, &text, &len), E_ARGUMENT);
    place = 0;
    CHECK_IS(heartwheel_connections(server, &place, NULL, &len), E_ARGUMENT);
    CHECK_IS(place, 0);
    /* Whatever number it is given, it answers. */
    static const uint64_t places[] = {1, COUNT, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        place = places[i];
        CHECK_IS(heartwheel_connections(server, &place, &text, &len), HEARTWHEEL_OK);
    }
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
    heartwheel_free(server);
}

static void another_configuration_holds_from_the_next_turn_on(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    heartwheel_peer peer;
    int fd = open_peer(server, host.port, "/echo", &peer);
    char big[2000];
    memset(big, 'x', sizeof big);
    CHECK_IS(heartwheel_reload(server, "no_such_key = 1"), HEARTWHEEL_E_CONFIG);
    CHECK(strstr(heartwheel_last_error(server), "no_such_key") != NULL);
    CHECK_IS(heartwheel_reload(server, "workers = 1"), HEARTWHEEL_E_CONFIG);
    CHECK_IS(heartwheel_reload(server, "[admission]\ntokens = \"/no/such/file\""),
             HEARTWHEEL_E_CONFIG);
    CHECK_IS(heartwheel_reload(server, "[deadlines]\nread_idle = \"1s\""), HEARTWHEEL_E_CONFIG);
    CHECK_IS(heartwheel_reload(server, "\xff"), E_ARGUMENT);
    send_frame(fd, 2, big, sizeof big);
    CHECK_IS(expect(server, HEARTWHEEL_BINARY).len, sizeof big);
    CHECK_IS(heartwheel_reload(server, "[limits]\nmessage_bytes = \"1k\""), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_next_timeout_ms(server), 0);
    CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    send_frame(fd, 2, big, sizeof big);
    expect_frame(server, fd, 8, "\x03\xf1");
    close(fd);
    expect(server, HEARTWHEEL_CLOSED);
    /* The defaults again. */
    CHECK_IS(heartwheel_reload(server, NULL), HEARTWHEEL_OK);
    fd = open_peer(server, host.port, "/echo", &peer);
    send_frame(fd, 2, big, sizeof big);
    CHECK_IS(expect(server, HEARTWHEEL_BINARY).len, sizeof big);
    close(fd);
    heartwheel_free(server);
}

static int bound(int family, int type, int is_listening)
{
    struct sockaddr_in inet = {0};
    struct sockaddr_un path = {0};
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    inet.sin_family = AF_INET;
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    path.sun_family = AF_UNIX;
    snprintf(path.sun_path + 1, sizeof path.sun_path - 1, "heartwheel-%d", (int)getpid());
    if (family == AF_INET)
        CHECK_IS(bind(fd, (struct sockaddr *)&inet, sizeof inet), 0);
    else
        CHECK_IS(bind(fd, (struct sockaddr *)&path, sizeof path), 0);
    if (is_listening)
        CHECK_IS(listen(fd, 16), 0);
    return fd;
}

static void a_proxy_says_whom_it_connects_for(void)
{
    static const char line[] = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n";
    heartwheel *server;
    CHECK_IS(heartwheel_new("listen = \"proxy:127.0.0.1:0\"", &server), HEARTWHEEL_E_CONFIG);
    heartwheel_free(server);
    CHECK_IS(heartwheel_new(NULL, &server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_listen(server, "proxy:127.0.0.1:0"), HEARTWHEEL_E_IO);
    CHECK(strstr(heartwheel_last_error(server), "proxy.trusted") != NULL);
    heartwheel_free(server);
    CHECK_IS(heartwheel_new("[proxy]\ntrusted = \"127.0.0.1\"", &server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_websocket(server, "/echo"), HEARTWHEEL_OK);
    int adopted = heartwheel_adopt_fd(server, bound(AF_INET, SOCK_STREAM, 1), HEARTWHEEL_ADOPT_PROXY);
    int ports[] = {heartwheel_listen(server, "proxy:127.0.0.1:0"), adopted};
    for (int i = 0; i < 2; i++) {
        CHECK(ports[i] > 0);
        int fd = dial(ports[i], 0);
        CHECK_IS(send(fd, line, sizeof line - 1, MSG_NOSIGNAL), (ssize_t)sizeof line - 1);
        ask_upgrade(fd, "/echo");
        heartwheel_event event = expect(server, HEARTWHEEL_OPENED);
        char address[32];
        CHECK_IS(heartwheel_address(server, event.peer, address, sizeof address), 14);
        CHECK(strcmp(address, "192.0.2.1:1000") == 0);
        close(fd);
        expect(server, HEARTWHEEL_CLOSED);
    }
    heartwheel_free(server);
}

static void a_listener_of_somebody_else_is_served(void)
{
    heartwheel *server;
    CHECK_IS(heartwheel_new(NULL, &server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_websocket(server, "/echo"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_operator(server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_adopt_fd(server, -1, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_adopt_fd(server, INT32_MIN, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_adopt_fd(server, 1000000, 0), E_ARGUMENT);
    int others[4], ends[2];
    CHECK_IS(pipe(ends), 0);
    others[0] = ends[0];
    others[1] = ends[1];
    others[2] = bound(AF_INET, SOCK_DGRAM, 0);
    others[3] = bound(AF_INET, SOCK_STREAM, 0);
    for (int i = 0; i < 4; i++) {
        CHECK_IS(heartwheel_adopt_fd(server, others[i], 0), E_ARGUMENT);
        /* It is still the host's. */
        CHECK_IS(close(others[i]), 0);
    }
    int fd = bound(AF_INET, SOCK_STREAM, 1);
    CHECK_IS(heartwheel_adopt_fd(server, fd, 8), E_ARGUMENT);
    CHECK_IS(heartwheel_adopt_fd(server, fd, 3), E_ARGUMENT);
    CHECK_IS(heartwheel_adopt_fd(server, fd, 5), E_ARGUMENT);
    CHECK_IS(heartwheel_adopt_fd(server, fd, HEARTWHEEL_ADOPT_TLS), HEARTWHEEL_E_IO);
    CHECK_IS(heartwheel_adopt_fd(server, fd, HEARTWHEEL_ADOPT_PROXY), HEARTWHEEL_E_IO);
    int port = heartwheel_adopt_fd(server, fd, 0);
    CHECK(port > 0);
    CHECK(fcntl(fd, F_GETFD) < 0);
    fd = open_peer(server, port, "/echo", NULL);
    int own = bound(AF_INET, SOCK_STREAM, 1);
    own = heartwheel_adopt_fd(server, own, HEARTWHEEL_ADOPT_OPERATOR);
    CHECK(own > 0);
    CHECK_ANSWER(ask(server, own, "GET /metrics", "", ""), "200", "heartwheel_connections");
    CHECK_ANSWER(ask(server, port, "GET /metrics", "", ""), "404", "");
    CHECK_IS(heartwheel_adopt_fd(server, bound(AF_UNIX, SOCK_STREAM, 1), 0), 0);
    struct sockaddr_un path = {0};
    path.sun_family = AF_UNIX;
    snprintf(path.sun_path + 1, sizeof path.sun_path - 1, "heartwheel-%d", (int)getpid());
    int local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_IS(connect(local, (struct sockaddr *)&path, sizeof path), 0);
    ask_upgrade(local, "/echo");
    heartwheel_event event = expect(server, HEARTWHEEL_OPENED);
    char address[8];
    CHECK_IS(heartwheel_address(server, event.peer, address, sizeof address), 4);
    CHECK(strcmp(address, "unix") == 0);
    close(local);
    close(fd);
    heartwheel_free(server);
}

static void null_is_answered_everywhere(void)
{
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    heartwheel_peer peer = 0;
    const char *text;
    char address[64];
    size_t len;
    uint64_t place = 0;
    CHECK_IS(heartwheel_set_user(NULL, 1, NULL), E_ARGUMENT);
    CHECK(heartwheel_user(NULL, 1) == NULL);
    CHECK_IS(heartwheel_address(NULL, 1, address, sizeof address), E_ARGUMENT);
    CHECK_IS(heartwheel_close_text(NULL, 1, 1000, "", 0), E_ARGUMENT);
    CHECK_IS(heartwheel_kick(NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_peers(NULL, 0, &peer, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_subscribe_after(NULL, 1, "t", "0-0"), E_ARGUMENT);
    CHECK_IS(heartwheel_latest(NULL, "t", &event, NULL, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_shed(NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_reload(NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_adopt_fd(NULL, 0, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_metrics(NULL, &text, &len), E_ARGUMENT);
    CHECK_IS(heartwheel_connections(NULL, &place, &text, &len), E_ARGUMENT);
    heartwheel *server;
    CHECK_IS(heartwheel_new(NULL, &server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_set_user(server, 0, NULL), E_ARGUMENT);
    CHECK(heartwheel_user(server, 0) == NULL && heartwheel_user(server, 7) == NULL);
    CHECK_IS(heartwheel_address(server, 7, address, sizeof address), E_GONE);
    heartwheel_free(server);
}

int main(void)
{
    null_is_answered_everywhere();
    a_pointer_stays_with_its_peer();
    an_address_is_text_of_any_size();
    peers_are_listed_in_slices();
    ends_have_a_reason();
    a_subscription_begins_after_a_position();
    figures_and_the_table_are_shown();
    another_configuration_holds_from_the_next_turn_on();
    a_listener_of_somebody_else_is_served();
    a_proxy_says_whom_it_connects_for();
    puts("peers: ok");
    return 0;
}
