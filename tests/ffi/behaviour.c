/*
 * What a host relies on: it is woken for everything and by nothing else, the timeout is right after
 * each call, turns are bounded, events come in order, and servers do not know of each other.
 */
#include "check.h"

static void woken_once(heartwheel *server, const char *cause)
{
    if (!is_ready(server, 1000)) {
        fprintf(stderr, "not woken for %s\n", cause);
        exit(1);
    }
    settle(server);
    CHECK(!is_ready(server, 30));
    CHECK(heartwheel_next_timeout_ms(server) != 0);
}

static void the_descriptor_wakes_for_everything_and_for_nothing_else(void)
{
    host host = host_new("[deadlines]\nread_idle = \"300ms\"\n[heartbeat]\ninterval = \"off\"",
                         "/echo");
    heartwheel *server = host.server;
    int descriptor = heartwheel_fd(server);
    settle(server);
    CHECK_IS(heartwheel_next_timeout_ms(server), -1);
    CHECK(!is_ready(server, 30));
    int fd = dial(host.port, 4096);
    woken_once(server, "a connection");
    ask_upgrade(fd, "/echo");
    woken_once(server, "bytes");
    read_upgrade(server, fd);
    heartwheel_event event = expect(server, HEARTWHEEL_OPENED);
    CHECK(bears(event, "/echo"));
    heartwheel_peer peer = event.peer;
    CHECK_IS(heartwheel_wake(server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_wake(server), HEARTWHEEL_OK);
    woken_once(server, "a wake");

    /* What is queued leaves in the next turn, and the timeout says so. */
    CHECK(heartwheel_next_timeout_ms(server) > 0);
    CHECK_IS(heartwheel_send_text(server, peer, "now", 3), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_next_timeout_ms(server), 0);
    CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    CHECK(heartwheel_next_timeout_ms(server) > 0);
    expect_frame(server, fd, 1, "now");

    /* More than the kernel takes: there is nothing to do until the peer reads. */
    size_t len = 1000000;
    char *much = malloc(len + 1);
    CHECK(much != NULL);
    memset(much, 'x', len);
    much[len] = 0;
    CHECK_IS(heartwheel_send_binary(server, peer, much, len), HEARTWHEEL_OK);
    settle(server);
    CHECK(!is_ready(server, 50));
    uint8_t *data;
    size_t got;
    CHECK_IS(read_frame(server, fd, &data, &got), 2);
    CHECK(got == len && memcmp(data, much, len) == 0);
    free(data);
    free(much);
    expect(server, HEARTWHEEL_DRAINED);

    /* A deadline is nobody's readiness. */
    send_text(fd, "last words");
    CHECK(bears(expect(server, HEARTWHEEL_TEXT), "last words"));
    int64_t heard = now_us();
    event.kind = 0;
    while (heartwheel_next_event(server, &event) == HEARTWHEEL_DONE
           && now_us() - heard < PATIENCE_MS * 1000) {
        int64_t wait = heartwheel_next_timeout_ms(server);
        CHECK(wait >= 0 && wait <= 300 + 60);
        CHECK(!is_ready(server, (int)wait));
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
        uint8_t head[4];
        if (recv(fd, head, sizeof head, MSG_DONTWAIT) == sizeof head) {
            CHECK(memcmp(head, "\x88\x02\x0b\xc0", 4) == 0);
            CHECK(now_us() - heard >= 300000);
            break;
        }
    }
    send_frame(fd, 8, "\x0b\xc0", 2);
    close(fd);
    event = expect(server, HEARTWHEEL_CLOSED);
    CHECK(event.peer == peer && bears(event, "read_idle"));
    CHECK_IS(event.close_code, 3008);
    settle(server);
    CHECK_IS(heartwheel_next_timeout_ms(server), -1);
    CHECK_IS(heartwheel_fd(server), descriptor);
    heartwheel_free(server);
}

static void a_turn_is_bounded_and_says_that_work_is_left(void)
{
    enum { MESSAGES = 500 };
    host host = host_new("[turn]\nbytes = \"1k\"\nevents = 1", "/echo");
    heartwheel *server = host.server;
    int fd = open_peer(server, host.port, "/echo", NULL);
    settle(server);
    for (int i = 0; i < MESSAGES; i++)
        send_text(fd, "one of many");
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    int turns = 0, most = 0, messages = 0;
    CHECK(is_ready(server, 1000));
    while (messages < MESSAGES) {
        int pulled = 0;
        CHECK(turns++ < 100000);
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK)
            pulled++;
        most = pulled > most ? pulled : most;
        messages += pulled;
        if (messages < MESSAGES && heartwheel_next_timeout_ms(server) != 0)
            CHECK(is_ready(server, 1000));
    }
    printf("%d messages in %d turns, %d in one at the most\n", messages, turns, most);
    /* 128 bytes of turn.bytes for each, beside its own; one read is decoded as far as that goes. */
    CHECK(most <= 10);
    close(fd);
    heartwheel_free(server);
}

static void events_come_in_order_and_none_after_a_close(void)
{
    host host = host_new("[limits]\ninbox_messages = 4\noutbox_bytes = \"1k\"", "/echo");
    heartwheel *server = host.server;
    CHECK_IS(heartwheel_route_websocket(server, "/rooms/{topic}"), HEARTWHEEL_OK);
    heartwheel_peer peer;
    int fd = open_peer(server, host.port, "/rooms/7", &peer);
    for (int i = 0; i < 40; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        send_text(fd, text);
    }
    send_frame(fd, 2, "\0\xff", 2);
    for (int i = 0; i < 40; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        heartwheel_event event = expect(server, HEARTWHEEL_TEXT);
        CHECK(event.peer == peer && bears(event, text));
        /* The event pulled last can be answered: an outbox of 1 KiB does not overflow. */
        CHECK_IS(heartwheel_send_text(server, peer, (const char *)event.data, event.len), 0);
    }
    heartwheel_event event = expect(server, HEARTWHEEL_BINARY);
    CHECK(event.len == 2 && memcmp(event.data, "\0\xff", 2) == 0);
    for (int i = 0; i < 40; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        expect_frame(server, fd, 1, text);
    }
    /* A message as large as the outbox, and larger, comes back. */
    size_t len = 100000;
    char *much = malloc(len);
    CHECK(much != NULL);
    memset(much, 'x', len);
    send_frame(fd, 2, much, len);
    event = expect(server, HEARTWHEEL_BINARY);
    CHECK(event.len == len && memcmp(event.data, much, len) == 0);
    CHECK_IS(heartwheel_send_binary(server, peer, event.data, event.len), HEARTWHEEL_OK);
    free(much);
    uint8_t *data;
    CHECK_IS(read_frame(server, fd, &data, &len), 2);
    free(data);
    /* After a close: nothing of what waits, but the end. */
    for (int i = 0; i < 10; i++)
        send_text(fd, "too late");
    do
        event = next_event(server);
    while (event.kind == HEARTWHEEL_DRAINED);
    CHECK(bears(event, "too late"));
    CHECK_IS(heartwheel_close(server, peer, 1000), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_next_timeout_ms(server), 0);
    expect_frame(server, fd, 8, "\x03\xe8");
    send_frame(fd, 8, "\x03\xe8", 2);
    CHECK_IS(shutdown(fd, SHUT_WR), 0);
    event = expect(server, HEARTWHEEL_CLOSED);
    CHECK(event.peer == peer && bears(event, "application"));
    close(fd);
    heartwheel_free(server);
}

static void events_that_are_not_pulled_keep(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    int fds[10];
    for (int i = 0; i < 10; i++)
        fds[i] = open_peer(server, host.port, "/echo", NULL);
    for (int i = 0; i < 10; i++) {
        send_text(fds[i], "one");
        send_text(fds[i], "two");
        close(fds[i]);
    }
    settle(server);
    settle(server);
    /* One event a turn: each peer has its three, in order. */
    heartwheel_peer peers[10];
    int told[10] = {0}, known = 0, ended = 0;
    while (ended < 10) {
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
        if (heartwheel_next_event(server, &event) != HEARTWHEEL_OK) {
            is_ready(server, 10);
            continue;
        }
        int which = 0;
        while (which < known && peers[which] != event.peer)
            which++;
        if (which == known)
            peers[known++] = event.peer;
        CHECK(which < 10);
        told[which]++;
        if (event.kind == HEARTWHEEL_CLOSED) {
            CHECK_IS(told[which], 3);
            ended++;
        } else {
            CHECK(bears(event, told[which] == 1 ? "one" : "two"));
        }
    }
    heartwheel_free(server);
}

static void topics_reach_who_subscribes(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    heartwheel_peer one, two;
    int first = open_peer(server, host.port, "/echo", &one);
    int second = open_peer(server, host.port, "/echo", &two);
    CHECK_IS(heartwheel_subscribe(server, one, "news"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_subscribe(server, two, "news"), HEARTWHEEL_OK);
    settle(server);
    CHECK_IS(heartwheel_publish_text(server, "news", "to all", 6), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_next_timeout_ms(server), 0);
    expect_frame(server, first, 1, "to all");
    expect_frame(server, second, 1, "to all");
    CHECK_IS(heartwheel_unsubscribe(server, one, "news"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_unsubscribe(server, one, "never heard of"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_publish_binary(server, "news", "to two", 6), HEARTWHEEL_OK);
    expect_frame(server, second, 2, "to two");
    CHECK_IS(heartwheel_send_text(server, one, "next", 4), HEARTWHEEL_OK);
    expect_frame(server, first, 1, "next");
    /* Faster than turns deliver: it is told, and after turns it goes on. */
    static char event[1024];
    memset(event, 'x', sizeof event);
    int published = 0, code;
    while ((code = heartwheel_publish_binary(server, "news", event, sizeof event)) == 0)
        CHECK(published++ < 100000);
    CHECK_IS(code, HEARTWHEEL_E_FULL);
    CHECK_IS(heartwheel_next_timeout_ms(server), 0);
    CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_publish_binary(server, "news", event, sizeof event), HEARTWHEEL_OK);
    close(first);
    close(second);
    heartwheel_free(server);
}

static void silence_is_told_before_it_is_the_end(void)
{
    host host = host_new("tick = \"10ms\"\n[heartbeat]\ninterval = \"100ms\"\npong = \"100ms\"\n"
                         "max_missed = 3",
                         "/echo");
    heartwheel_peer peer;
    int fd = open_peer(host.server, host.port, "/echo", &peer);
    CHECK(expect(host.server, HEARTWHEEL_SUSPECT).peer == peer);
    heartwheel_event event;
    int64_t began = now_us();
    /* It answers the close, but no ping. */
    for (;;) {
        uint8_t *data;
        size_t len;
        int opcode = read_frame(host.server, fd, &data, &len);
        free(data);
        CHECK(now_us() - began < PATIENCE_MS * 1000);
        if (opcode == 8)
            break;
        CHECK_IS(opcode, 9);
    }
    send_frame(fd, 8, "\x0b\xc0", 2);
    CHECK_IS(shutdown(fd, SHUT_WR), 0);
    event = expect(host.server, HEARTWHEEL_CLOSED);
    CHECK(bears(event, "heartbeat"));
    CHECK_IS(event.close_code, 3008);
    close(fd);
    heartwheel_free(host.server);
}

static void a_drain_ends_with_done(void)
{
    host host = host_new("[deadlines]\ndrain = \"5s\"", "/echo");
    heartwheel *server = host.server;
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    int fd = open_peer(server, host.port, "/echo", NULL);
    settle(server);
    CHECK_IS(heartwheel_drain(server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_drain(server), HEARTWHEEL_OK);
    struct sockaddr_in address = {0};
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)host.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int refused = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(refused, (struct sockaddr *)&address, sizeof address) < 0);
    CHECK_IS(errno, ECONNREFUSED);
    close(refused);
    uint8_t *data;
    size_t len;
    CHECK_IS(read_frame(server, fd, &data, &len), 8);
    CHECK(len > 2 && memcmp(data, "\x03\xe9retry=", 8) == 0);
    send_frame(fd, 8, data, 2);
    free(data);
    CHECK_IS(shutdown(fd, SHUT_WR), 0);
    int64_t began = now_us();
    int told = 0, code;
    while ((code = heartwheel_turn(server)) == HEARTWHEEL_OK) {
        CHECK(now_us() - began < PATIENCE_MS * 1000);
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
            CHECK(event.kind == HEARTWHEEL_CLOSED && bears(event, "drain"));
            told++;
        }
        int64_t wait = heartwheel_next_timeout_ms(server);
        CHECK(wait >= 0);
        is_ready(server, (int)wait);
    }
    CHECK_IS(code, HEARTWHEEL_DONE);
    CHECK_IS(told, 1);
    CHECK_IS(heartwheel_next_timeout_ms(server), -1);
    CHECK_IS(heartwheel_turn(server), HEARTWHEEL_DONE);
    CHECK(strcmp(heartwheel_last_error(server), "") == 0);
    close(fd);
    heartwheel_free(server);
}

static void two_servers_do_not_mix(void)
{
    host left = host_new(NULL, "/echo"), right = host_new(NULL, "/echo");
    heartwheel_peer one, two;
    int first = open_peer(left.server, left.port, "/echo", &one);
    int second = open_peer(right.server, right.port, "/echo", &two);
    settle(left.server);
    settle(right.server);
    CHECK_IS(heartwheel_subscribe(left.server, one, "news"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_publish_text(right.server, "news", "right", 5), HEARTWHEEL_OK);
    settle(left.server);
    send_text(second, "for the right");
    CHECK(is_ready(right.server, 1000));
    CHECK(!is_ready(left.server, 30));
    CHECK(bears(expect(right.server, HEARTWHEEL_TEXT), "for the right"));
    heartwheel_free(right.server);
    send_text(first, "for the left");
    CHECK(bears(expect(left.server, HEARTWHEEL_TEXT), "for the left"));
    CHECK_IS(heartwheel_publish_text(left.server, "news", "left", 4), HEARTWHEEL_OK);
    expect_frame(left.server, first, 1, "left");
    close(first);
    close(second);
    heartwheel_free(left.server);
}

int main(void)
{
    the_descriptor_wakes_for_everything_and_for_nothing_else();
    a_turn_is_bounded_and_says_that_work_is_left();
    events_come_in_order_and_none_after_a_close();
    events_that_are_not_pulled_keep();
    topics_reach_who_subscribes();
    silence_is_told_before_it_is_the_end();
    a_drain_ends_with_done();
    two_servers_do_not_mix();
    puts("behaviour: ok");
    return 0;
}
