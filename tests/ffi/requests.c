/*
 * Requests that the host answers: at once, later, too late, or never; what it reads of them, and
 * what it is answered when it asks for what is not there.
 */
#include "check.h"

#define E_ARGUMENT HEARTWHEEL_E_ARGUMENT
#define E_GONE HEARTWHEEL_E_GONE
#define E_NONE HEARTWHEEL_E_NONE

static void send_request(int fd, const char *request)
{
    send_all(fd, request, strlen(request));
}

/* Sends a request on a new connection, and pulls its event. */
static int begin(host host, const char *request, heartwheel_peer *peer)
{
    int fd = dial(host.port, 0);
    send_all(fd, request, strlen(request));
    heartwheel_event event = expect(host.server, HEARTWHEEL_REQUEST);
    *peer = event.peer;
    return fd;
}

/* Reads an answer up to this text while the server turns. */
static void expect_answer(heartwheel *server, int fd, const char *beginning, const char *end)
{
    char text[4096] = "";
    size_t len = 0;
    while (strstr(text, end) == NULL) {
        CHECK(len < sizeof text - 1);
        read_turning(server, fd, text + len, 1);
        text[++len] = 0;
    }
    if (strncmp(text, beginning, strlen(beginning)) != 0) {
        fprintf(stderr, "%s", text);
        exit(1);
    }
}

static host serving(const char *toml)
{
    host host = host_new(toml, "/echo");
    CHECK_IS(heartwheel_route_request(host.server, "GET", "/a/{topic}"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_request(host.server, "POST", "/a/{topic}"), HEARTWHEEL_OK);
    return host;
}

static void a_request_is_read_and_answered(void)
{
    host host = serving(NULL);
    heartwheel *server = host.server;
    heartwheel_peer peer;
    char text[64];
    const uint8_t *body;
    size_t len;
    int fd = dial(host.port, 0);
    const char request[] =
        "POST /a/b%20c?x=1+2&y HTTP/1.1\r\nHost: localhost\r\nX-Two: one\r\nx-two: two\r\n"
        "Traceparent: 01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x\r\n"
        "Content-Length: 5\r\n\r\nab\0cd";
    send_all(fd, request, sizeof request - 1);
    heartwheel_event event = expect(server, HEARTWHEEL_REQUEST);
    peer = event.peer;
    CHECK(bears(event, "/a/b%20c"));
    CHECK_IS(heartwheel_method(server, peer, text, sizeof text), 4);
    CHECK(strcmp(text, "POST") == 0);
    CHECK_IS(heartwheel_path(server, peer, text, sizeof text), 8);
    CHECK(strcmp(text, "/a/b%20c") == 0);
    CHECK_IS(heartwheel_path(server, peer, text, 3), 8);
    CHECK(strcmp(text, "/a") == 0);
    CHECK_IS(heartwheel_path(server, peer, NULL, 0), 8);
    CHECK_IS(heartwheel_parameter(server, peer, "topic", text, sizeof text), 3);
    CHECK(strcmp(text, "b c") == 0);
    CHECK_IS(heartwheel_parameter(server, peer, "other", text, sizeof text), E_NONE);
    CHECK_IS(heartwheel_parameter(server, peer, NULL, text, sizeof text), E_ARGUMENT);
    CHECK_IS(heartwheel_query(server, peer, text, sizeof text), 7);
    CHECK(strcmp(text, "x=1+2&y") == 0);
    CHECK_IS(heartwheel_query_value(server, peer, "x", text, sizeof text), 3);
    CHECK(strcmp(text, "1 2") == 0);
    CHECK_IS(heartwheel_query_value(server, peer, "y", text, sizeof text), 0);
    CHECK_IS(heartwheel_query_value(server, peer, "z", text, sizeof text), E_NONE);
    CHECK_IS(heartwheel_trace(server, peer, text, sizeof text), 55);
    CHECK(strcmp(text, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") == 0);
    CHECK_IS(heartwheel_header(server, peer, "X-TWO", text, sizeof text), 3);
    CHECK(strcmp(text, "one") == 0);
    CHECK_IS(heartwheel_header(server, peer, "X-None", text, sizeof text), E_NONE);
    CHECK_IS(heartwheel_body(server, peer, &body, &len), HEARTWHEEL_OK);
    CHECK(len == 5 && memcmp(body, "ab\0cd", 5) == 0);
    CHECK(heartwheel_address(server, peer, text, sizeof text) > 10);
    /* It is no WebSocket. */
    CHECK_IS(heartwheel_send_text(server, peer, "x", 1), E_GONE);
    CHECK_IS(heartwheel_subscribe(server, peer, "t"), E_GONE);
    CHECK_IS(heartwheel_close(server, peer, 1000), E_GONE);
    CHECK_IS(heartwheel_peers(server, 0, &peer, 1), 0);
    CHECK_IS(event.peer, peer);
    CHECK_IS(heartwheel_keep_request(server, peer), E_GONE);

    CHECK_IS(heartwheel_respond_header(server, peer, "X-Answer", "42"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_respond_header(server, peer, "Content-Length", "42"), E_ARGUMENT);
    CHECK_IS(heartwheel_respond_header(server, peer, "X", "a\r\nEvil: 1"), E_ARGUMENT);
    CHECK_IS(heartwheel_respond_header(server, peer, "X Y", "a"), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 201, "text/plain", "made", 4), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_next_timeout_ms(server), 0);
    CHECK_IS(heartwheel_respond(server, peer, 201, "text/plain", "made", 4), E_GONE);
    CHECK_IS(heartwheel_path(server, peer, text, sizeof text), E_GONE);
    CHECK_IS(heartwheel_body(server, peer, &body, &len), E_GONE);
    expect_answer(server, fd, "HTTP/1.1 201 Created\r\n", "X-Answer: 42\r\n\r\nmade");
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);

    /* The next one on the same connection: HEAD, answered as GET without the body. */
    send_request(fd, "HEAD /a/b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK_IS(expect(server, HEARTWHEEL_REQUEST).peer, peer);
    CHECK_IS(heartwheel_query(server, peer, text, sizeof text), E_NONE);
    CHECK_IS(heartwheel_body(server, peer, &body, &len), HEARTWHEEL_OK);
    CHECK(body != NULL && len == 0);
    CHECK_IS(heartwheel_respond(server, peer, 200, "text/plain", "body", 4), HEARTWHEEL_OK);
    expect_answer(server, fd, "HTTP/1.1 200 OK\r\n", "\r\n\r\n");
    send_request(fd, "GET /a/b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(server, HEARTWHEEL_REQUEST);
    CHECK_IS(heartwheel_respond(server, peer, 204, NULL, NULL, 0), HEARTWHEEL_OK);
    expect_answer(server, fd, "HTTP/1.1 204 No Content\r\n", "\r\n\r\n");
    send_request(fd, "GET /a/b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(server, HEARTWHEEL_REQUEST);
    CHECK_IS(heartwheel_respond_header(server, peer, "Set-Cookie", "a=1"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_refuse(server, peer, 401, "who are you"), HEARTWHEEL_OK);
    expect_answer(server, fd, "HTTP/1.1 401 Unauthorized\r\n", "who are you\n");
    close(fd);
    CHECK_ANSWER(ask(server, host.port, "DELETE /a/b", "", ""), "405", "Allow");

    /* Any method, and parameters anywhere. */
    CHECK_IS(heartwheel_route_request(server, "PUT", "/{one}/of/{rest...}"), HEARTWHEEL_OK);
    fd = dial(host.port, 0);
    send_request(fd, "PUT /x%2Fy/of/1/2/3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    peer = expect(server, HEARTWHEEL_REQUEST).peer;
    CHECK_IS(heartwheel_method(server, peer, text, sizeof text), 3);
    CHECK_IS(heartwheel_parameter(server, peer, "one", text, sizeof text), 3);
    CHECK(strcmp(text, "x/y") == 0);
    CHECK_IS(heartwheel_parameter(server, peer, "rest", text, sizeof text), 5);
    CHECK(strcmp(text, "1/2/3") == 0);
    CHECK_IS(heartwheel_respond(server, peer, 204, NULL, NULL, 0), HEARTWHEEL_OK);
    expect_answer(server, fd, "HTTP/1.1 204 No Content\r\n", "\r\n\r\n");
    close(fd);
    heartwheel_free(server);
}

static void many_requests_wait_and_are_answered_in_any_order(void)
{
    enum { COUNT = 20 };
    host host = serving(NULL);
    heartwheel *server = host.server;
    heartwheel_peer peers[COUNT], socket;
    int fds[COUNT], numbers[COUNT];
    for (int i = 0; i < COUNT; i++) {
        fds[i] = begin(host, "GET /a/b HTTP/1.1\r\nHost: localhost\r\n\r\n", &peers[i]);
        CHECK(heartwheel_user(server, peers[i]) == NULL);
        CHECK_IS(heartwheel_set_user(server, peers[i], &numbers[i]), HEARTWHEEL_OK);
    }
    /* The host's WebSockets go on beside them. */
    int fd = open_peer(server, host.port, "/echo", &socket);
    send_text(fd, "x");
    CHECK(bears(expect(server, HEARTWHEEL_TEXT), "x"));
    for (int i = COUNT - 1; i >= 0; i--) {
        CHECK(heartwheel_user(server, peers[i]) == &numbers[i]);
        char text[16];
        int len = snprintf(text, sizeof text, "number %d.", i);
        CHECK_IS(heartwheel_respond(server, peers[i], 200, "text/plain", text, (size_t)len), 0);
        expect_answer(server, fds[i], "HTTP/1.1 200", text);
        close(fds[i]);
    }
    close(fd);
    heartwheel_free(server);
}

static void an_end_without_an_answer_is_told_once(void)
{
    host host = serving("[deadlines]\nhandshake = \"1s\"");
    heartwheel *server = host.server;
    CHECK_IS(heartwheel_set_clock(server, 0), HEARTWHEEL_OK);
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    heartwheel_peer gone, late, kicked, answered;
    int number = 7;
    char text[16];
    const char *request = "GET /a/b HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd_gone = begin(host, request, &gone), fd_late = begin(host, request, &late);
    int fd_kicked = begin(host, request, &kicked), fd = begin(host, request, &answered);
    CHECK_IS(heartwheel_set_user(server, gone, &number), HEARTWHEEL_OK);
    reset(fd_gone);
    event = expect(server, HEARTWHEEL_ABANDONED);
    CHECK(event.peer == gone && event.data != NULL);
    /* Here what its pointer points to is freed. */
    CHECK(heartwheel_user(server, gone) == &number);
    CHECK_IS(heartwheel_respond(server, gone, 200, NULL, NULL, 0), E_GONE);
    CHECK_IS(heartwheel_path(server, gone, text, sizeof text), E_GONE);
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    CHECK(heartwheel_user(server, gone) == NULL);
    CHECK_IS(heartwheel_kick(server, kicked), HEARTWHEEL_OK);
    CHECK_IS(expect(server, HEARTWHEEL_ABANDONED).peer, kicked);
    CHECK_IS(heartwheel_respond(server, answered, 200, NULL, NULL, 0), HEARTWHEEL_OK);
    settle(server);
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    /* Nobody is answered twice: the client of a late one has been told. */
    CHECK_IS(heartwheel_set_clock(server, 1200), HEARTWHEEL_OK);
    settle(server);
    CHECK_IS(heartwheel_respond(server, late, 200, NULL, NULL, 0), E_GONE);
    CHECK_IS(heartwheel_respond_header(server, late, "A", "b"), E_GONE);
    CHECK_IS(heartwheel_refuse(server, late, 404, ""), E_GONE);
    expect_answer(server, fd_late, "HTTP/1.1 503", "\r\n\r\n");
    CHECK_IS(expect(server, HEARTWHEEL_ABANDONED).peer, late);
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    close(fd_late);
    close(fd_kicked);
    close(fd);
    /* A drain waits for what is in hand, and no longer than it may. */
    fd = begin(host, request, &late);
    CHECK_IS(heartwheel_drain(server), HEARTWHEEL_OK);
    settle(server);
    CHECK_IS(heartwheel_respond(server, late, 200, "text/plain", "last", 4), HEARTWHEEL_OK);
    int64_t began = now_us();
    while (heartwheel_turn(server) != HEARTWHEEL_DONE) {
        char some[512];
        ssize_t len = recv(fd, some, sizeof some, MSG_DONTWAIT);
        if (len == 0)
            close(fd);
        CHECK(now_us() - began < PATIENCE_MS * 1000);
    }
    heartwheel_free(server);
}

static void a_host_that_does_not_pull_or_answer_leaves_nothing_behind(void)
{
    host host = serving(NULL);
    heartwheel *server = host.server;
    heartwheel_peer peer;
    const char *request = "GET /a/b HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd = begin(host, request, &peer), other = dial(host.port, 0);
    send_all(other, request, strlen(request));
    settle(server);
    heartwheel_free(server);
    close(fd);
    close(other);
}

static void the_request_of_a_websocket_is_kept_if_asked(void)
{
    host host = serving(NULL);
    heartwheel *server = host.server;
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    heartwheel_peer kept, other;
    char text[64];
    int fd_other = dial(host.port, 0), number = 3;
    ask_upgrade(fd_other, "/echo?which=other");
    other = expect(server, HEARTWHEEL_OPENED).peer;
    CHECK_IS(heartwheel_query_value(server, other, "which", text, sizeof text), 5);
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    CHECK_IS(heartwheel_path(server, other, text, sizeof text), E_NONE);
    CHECK_IS(heartwheel_keep_request(server, other), E_GONE);

    int fd = dial(host.port, 0);
    ask_upgrade(fd, "/echo?which=kept");
    kept = expect(server, HEARTWHEEL_OPENED).peer;
    CHECK_IS(heartwheel_keep_request(server, other), E_GONE);
    CHECK_IS(heartwheel_set_user(server, kept, &number), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_keep_request(server, kept), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_keep_request(server, kept), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    CHECK_IS(heartwheel_query_value(server, kept, "which", text, sizeof text), 4);
    CHECK(strcmp(text, "kept") == 0 && heartwheel_user(server, kept) == &number);
    send_text(fd, "x");
    expect(server, HEARTWHEEL_TEXT);
    CHECK_IS(heartwheel_keep_request(server, kept), E_ARGUMENT);
    CHECK_IS(heartwheel_header(server, kept, "upgrade", text, sizeof text), 9);
    reset(fd);
    expect(server, HEARTWHEEL_CLOSED);
    CHECK_IS(heartwheel_path(server, kept, text, sizeof text), 5);
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    CHECK_IS(heartwheel_path(server, kept, text, sizeof text), E_GONE);
    close(fd_other);
    heartwheel_free(server);
}

static void bad_arguments_are_answered(void)
{
    host host = serving(NULL);
    heartwheel *server = host.server;
    heartwheel_peer peer;
    const uint8_t *body;
    size_t len;
    char text[16];
    CHECK_IS(heartwheel_route_request(NULL, "GET", "/x"), E_ARGUMENT);
    CHECK_IS(heartwheel_route_request(server, NULL, "/x"), E_ARGUMENT);
    CHECK_IS(heartwheel_route_request(server, "GET", NULL), E_ARGUMENT);
    static const char *const methods[] = {"", "get", "HEAD", "CONNECT", "G T", "\xff"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        CHECK_IS(heartwheel_route_request(server, methods[i], "/x"), E_ARGUMENT);
    CHECK_IS(heartwheel_route_request(server, "GET", "x"), E_ARGUMENT);
    int (*const parts[])(heartwheel *, heartwheel_peer, char *, size_t) = {
        heartwheel_method, heartwheel_path, heartwheel_query, heartwheel_trace};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        CHECK_IS(parts[i](NULL, 1, text, sizeof text), E_ARGUMENT);
        CHECK_IS(parts[i](server, 0, text, sizeof text), E_ARGUMENT);
        CHECK_IS(parts[i](server, 1, text, sizeof text), E_GONE);
        CHECK_IS(parts[i](server, UINT64_MAX, text, sizeof text), E_GONE);
    }
    CHECK_IS(heartwheel_respond(NULL, 1, 200, NULL, NULL, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_respond_header(NULL, 1, "a", "b"), E_ARGUMENT);
    CHECK_IS(heartwheel_refuse(NULL, 1, 404, ""), E_ARGUMENT);
    CHECK_IS(heartwheel_body(NULL, 1, &body, &len), E_ARGUMENT);
    CHECK_IS(heartwheel_header(NULL, 1, "a", text, sizeof text), E_ARGUMENT);
    CHECK_IS(heartwheel_query_value(NULL, 1, "a", text, sizeof text), E_ARGUMENT);
    CHECK_IS(heartwheel_parameter(NULL, 1, "a", text, sizeof text), E_ARGUMENT);
    CHECK_IS(heartwheel_keep_request(NULL, 1), E_ARGUMENT);

    int fd = begin(host, "GET /a/b?c HTTP/1.1\r\nHost: localhost\r\n\r\n", &peer);
    CHECK_IS(heartwheel_path(server, peer, NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_header(server, peer, NULL, text, sizeof text), E_ARGUMENT);
    CHECK_IS(heartwheel_header(server, peer, "\xff", text, sizeof text), E_ARGUMENT);
    CHECK_IS(heartwheel_query_value(server, peer, NULL, text, sizeof text), E_ARGUMENT);
    CHECK_IS(heartwheel_body(server, peer, NULL, &len), E_ARGUMENT);
    CHECK_IS(heartwheel_body(server, peer, &body, NULL), E_ARGUMENT);
    static const int statuses[] = {0, -1, 99, 100, 101, 199, 600, 65736, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        CHECK_IS(heartwheel_respond(server, peer, statuses[i], NULL, NULL, 0), E_ARGUMENT);
        CHECK_IS(heartwheel_refuse(server, peer, statuses[i], "no"), E_ARGUMENT);
    }
    CHECK_IS(heartwheel_refuse(server, peer, 200, "no"), E_ARGUMENT);
    CHECK_IS(heartwheel_refuse(server, peer, 404, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_refuse(server, peer, 404, "\xff"), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 200, NULL, "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 204, "a/b", "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 304, "a/b", "", 0), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 200, "", "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 200, "a\r\nb: c", "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 200, "a/b", NULL, 1), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 200, "a/b", "x", SIZE_MAX), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 200, "a/b", "x", (size_t)INT32_MAX + 1), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, 0, 200, "a/b", "x", 1), E_ARGUMENT);
    CHECK_IS(heartwheel_respond_header(server, peer, NULL, "b"), E_ARGUMENT);
    CHECK_IS(heartwheel_respond_header(server, peer, "a", NULL), E_ARGUMENT);
    char longest[4097];
    memset(longest, 'a', sizeof longest);
    longest[4096] = 0;
    CHECK_IS(heartwheel_respond_header(server, peer, "X", longest), HEARTWHEEL_E_FULL);
    longest[2000] = 0;
    CHECK_IS(heartwheel_respond_header(server, peer, "X", longest), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_respond_header(server, peer, "X", longest), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_respond_header(server, peer, "X", longest), HEARTWHEEL_E_FULL);
    /* After all that it is answered. */
    CHECK_IS(heartwheel_respond(server, peer, 200, "text/plain", "fine", 4), HEARTWHEEL_OK);
    settle(server);
    close(fd);
    heartwheel_free(server);
}

int main(void)
{
    a_request_is_read_and_answered();
    many_requests_wait_and_are_answered_in_any_order();
    an_end_without_an_answer_is_told_once();
    a_host_that_does_not_pull_or_answer_leaves_nothing_behind();
    the_request_of_a_websocket_is_kept_if_asked();
    bad_arguments_are_answered();
    puts("requests: ok");
    return 0;
}
