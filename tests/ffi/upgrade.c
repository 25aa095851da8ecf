/*
 * Requests that the host lets in, or not: upgrades, event streams, topics and its own; with an
 * identity, rights, header lines and a subprotocol; too late, and wrongly.
 */
#include "check.h"

#define E_ARGUMENT HEARTWHEEL_E_ARGUMENT
#define E_GONE HEARTWHEEL_E_GONE
#define E_NONE HEARTWHEEL_E_NONE

static heartwheel *server;
static int port;

static void begin(const char *toml)
{
    host host = host_new(toml, "/echo");
    server = host.server;
    port = host.port;
    CHECK_IS(heartwheel_route_ask(server, "/echo"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_topics(server, "/topics/{topic}"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_ask(server, "/topics/{topic}"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_request(server, "GET", "/own"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_ask(server, "/own"), HEARTWHEEL_OK);
}

/* Sends a request, and pulls that it asks to be let in. */
static int come(const char *request, heartwheel_peer *peer)
{
    int fd = dial(port, 0);
    send_all(fd, request, strlen(request));
    heartwheel_event event = expect(server, HEARTWHEEL_UPGRADE);
    *peer = event.peer;
    return fd;
}

#define UPGRADE(path, more)                                                                        \
    "GET " path " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"    \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" more "\r\n"
#define PLAIN(line) line " HTTP/1.1\r\nHost: localhost\r\n\r\n"

/* Reads a head while the server turns, and checks its beginning and that it has a line. */
static void expect_head(int fd, const char *beginning, const char *line)
{
    char head[4096] = "";
    size_t len = 0;
    while (strstr(head, "\r\n\r\n") == NULL) {
        CHECK(len < sizeof head - 1);
        read_turning(server, fd, head + len, 1);
        head[++len] = 0;
    }
    if (strncmp(head, beginning, strlen(beginning)) != 0 || strstr(head, line) == NULL) {
        fprintf(stderr, "%s", head);
        exit(1);
    }
}

static void an_upgrade_is_let_in_or_not(void)
{
    begin(NULL);
    heartwheel_peer peer;
    char text[300];
    int fd = come(UPGRADE("/echo?a=b", "Sec-WebSocket-Protocol: v1, v2\r\n"), &peer);
    CHECK_IS(heartwheel_method(server, peer, text, sizeof text), 3);
    CHECK_IS(heartwheel_query_value(server, peer, "a", text, sizeof text), 1);
    CHECK_IS(heartwheel_identity(server, peer, text, sizeof text), E_NONE);
    CHECK_IS(heartwheel_send_text(server, peer, "x", 1), E_GONE);
    CHECK_IS(heartwheel_respond(server, peer, 200, NULL, NULL, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_respond_header(server, peer, "Set-Cookie", "seen=1"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_accept(server, peer, "ada", NULL, NULL, "v2"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_accept(server, peer, "ada", NULL, NULL, "v2"), E_GONE);
    CHECK_IS(expect(server, HEARTWHEEL_OPENED).peer, peer);
    CHECK_IS(heartwheel_identity(server, peer, text, sizeof text), 3);
    CHECK(strcmp(text, "ada") == 0);
    CHECK_IS(heartwheel_identity(server, peer, text, 2), 3);
    CHECK(strcmp(text, "a") == 0);
    expect_head(fd, "HTTP/1.1 101", "Set-Cookie: seen=1\r\n");
    send_text(fd, "x");
    expect(server, HEARTWHEEL_TEXT);
    const char *table;
    size_t len;
    uint64_t place = 0;
    CHECK_IS(heartwheel_connections(server, &place, &table, &len), HEARTWHEEL_OK);
    CHECK(strstr(table, "ada") != NULL);
    reset(fd);
    expect(server, HEARTWHEEL_CLOSED);
    CHECK_IS(heartwheel_identity(server, peer, text, sizeof text), E_GONE);

    /* Without anything, and by the protocol that was offered. */
    fd = come(UPGRADE("/echo", ""), &peer);
    CHECK_IS(heartwheel_accept(server, peer, NULL, NULL, NULL, NULL), HEARTWHEEL_OK);
    expect(server, HEARTWHEEL_OPENED);
    expect_head(fd, "HTTP/1.1 101", "");
    close(fd);
    expect(server, HEARTWHEEL_CLOSED);

    fd = come(UPGRADE("/echo", ""), &peer);
    CHECK_IS(heartwheel_respond_header(server, peer, "X-Why", "because"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_refuse(server, peer, 403, "not you"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_refuse(server, peer, 403, "not you"), E_GONE);
    expect_head(fd, "HTTP/1.1 403", "X-Why: because\r\n");
    close(fd);
    settle(server);
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    heartwheel_free(server);
}

static void all_that_is_served_is_asked_about(void)
{
    begin(NULL);
    heartwheel_peer peer;
    char text[64];
    /* What it asks for is among its rights, or it is refused. */
    int fd = come(PLAIN("GET /topics/a"), &peer);
    CHECK_IS(heartwheel_accept(server, peer, "bob", "", "a b.*", NULL), HEARTWHEEL_OK);
    expect_head(fd, "HTTP/1.1 204", "");
    close(fd);
    fd = come(PLAIN("GET /topics/c"), &peer);
    CHECK_IS(heartwheel_accept(server, peer, "bob", "", "a b.*", NULL), HEARTWHEEL_OK);
    expect_head(fd, "HTTP/1.1 403", "");
    close(fd);
    fd = come(PLAIN("GET /topics/a"), &peer);
    CHECK_IS(heartwheel_accept(server, peer, NULL, "a", NULL, NULL), HEARTWHEEL_OK);
    expect_head(fd, "HTTP/1.1 403", "");
    close(fd);
    /* A WebSocket of a topic: it may listen, and not publish. */
    fd = come(UPGRADE("/topics/a", ""), &peer);
    CHECK_IS(heartwheel_accept(server, peer, "bob", "", "a", NULL), HEARTWHEEL_OK);
    expect_head(fd, "HTTP/1.1 101", "");
    CHECK_IS(heartwheel_publish_text(server, "a", "one", 3), HEARTWHEEL_OK);
    expect_frame(server, fd, 1, "one");
    send_text(fd, "two");
    settle(server);
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    CHECK(heartwheel_latest(server, "a", &event, NULL, 0) > 0);
    CHECK(bears(event, "one"));
    close(fd);
    /* The host's own: first the question, then the request. */
    fd = come(PLAIN("GET /own"), &peer);
    CHECK_IS(heartwheel_accept(server, peer, "eve", NULL, NULL, NULL), HEARTWHEEL_OK);
    CHECK_IS(expect(server, HEARTWHEEL_REQUEST).peer, peer);
    CHECK_IS(heartwheel_identity(server, peer, text, sizeof text), 3);
    CHECK_IS(heartwheel_accept(server, peer, NULL, NULL, NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_respond(server, peer, 200, "text/plain", "own", 3), HEARTWHEEL_OK);
    expect_head(fd, "HTTP/1.1 200", "");
    close(fd);
    fd = come(PLAIN("GET /own"), &peer);
    CHECK_IS(heartwheel_refuse(server, peer, 302, "elsewhere"), HEARTWHEEL_OK);
    expect_head(fd, "HTTP/1.1 302", "");
    close(fd);
    heartwheel_free(server);
}

static void who_is_let_in_too_late_is_gone(void)
{
    begin("[deadlines]\nhandshake = \"1s\"");
    CHECK_IS(heartwheel_set_clock(server, 0), HEARTWHEEL_OK);
    heartwheel_peer gone, late;
    int fd_gone = come(UPGRADE("/echo", ""), &gone), fd = come(UPGRADE("/echo", ""), &late);
    reset(fd_gone);
    CHECK_IS(expect(server, HEARTWHEEL_ABANDONED).peer, gone);
    CHECK_IS(heartwheel_accept(server, gone, NULL, NULL, NULL, NULL), E_GONE);
    CHECK_IS(heartwheel_set_clock(server, 1200), HEARTWHEEL_OK);
    settle(server);
    CHECK_IS(heartwheel_accept(server, late, NULL, NULL, NULL, NULL), E_GONE);
    CHECK_IS(expect(server, HEARTWHEEL_ABANDONED).peer, late);
    expect_head(fd, "HTTP/1.1 503", "");
    close(fd);
    /* Nobody is let into a server that drains, and it is no fault of the host. */
    fd = come(UPGRADE("/echo", ""), &late);
    CHECK_IS(heartwheel_drain(server), HEARTWHEEL_OK);
    int code = heartwheel_accept(server, late, NULL, NULL, NULL, NULL);
    CHECK(code == HEARTWHEEL_OK || code == E_GONE);
    expect_head(fd, "HTTP/1.1 503", "");
    close(fd);
    heartwheel_free(server);
}

static void bad_arguments_are_answered(void)
{
    begin(NULL);
    heartwheel_peer peer;
    CHECK_IS(heartwheel_route_ask(NULL, "/echo"), E_ARGUMENT);
    CHECK_IS(heartwheel_route_ask(server, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_route_ask(server, "/nothing"), E_ARGUMENT);
    /* What is always the same is for all whom a token lets in: nobody is asked. */
    CHECK_IS(heartwheel_route_get(server, "/page", "text/plain", "page", 4), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_ask(server, "/page"), E_ARGUMENT);
    CHECK_ANSWER(ask(server, port, "GET /page", "", ""), "200", "page");
    CHECK_IS(heartwheel_accept(NULL, 1, NULL, NULL, NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, 0, NULL, NULL, NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, 1, NULL, NULL, NULL, NULL), E_GONE);
    CHECK_IS(heartwheel_identity(NULL, 1, NULL, 0), E_ARGUMENT);
    CHECK_IS(heartwheel_identity(server, 1, NULL, 0), E_GONE);

    int fd = come(UPGRADE("/echo", "Sec-WebSocket-Protocol: v1\r\n"), &peer);
    char longest[2000], many[200];
    memset(longest, 'a', sizeof longest);
    longest[257] = 0;
    for (int i = 0; i < 65; i++)
        memcpy(many + 2 * i, "a ", 3);
    CHECK_IS(heartwheel_accept(server, peer, "", NULL, NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, peer, "a\nb", NULL, NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, peer, "\xff", NULL, NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, peer, longest, NULL, NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, peer, NULL, "a/b", NULL, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, peer, NULL, NULL, "\xff", NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, peer, NULL, NULL, many, NULL), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, peer, NULL, NULL, NULL, "v2"), E_ARGUMENT);
    CHECK_IS(heartwheel_accept(server, peer, NULL, NULL, NULL, "v 1"), E_ARGUMENT);
    CHECK(strlen(heartwheel_last_error(server)) > 10);
    /* After all that it is let in. */
    longest[256] = 0;
    CHECK_IS(heartwheel_accept(server, peer, longest, "*", "*", "v1"), HEARTWHEEL_OK);
    expect(server, HEARTWHEEL_OPENED);
    CHECK_IS(heartwheel_identity(server, peer, NULL, 0), 256);
    expect_head(fd, "HTTP/1.1 101", "Sec-WebSocket-Protocol: v1\r\n");
    close(fd);
    expect(server, HEARTWHEEL_CLOSED);

    /* With such a request in hand it is freed. */
    fd = come(UPGRADE("/echo", ""), &peer);
    heartwheel_free(server);
    close(fd);
}

int main(void)
{
    an_upgrade_is_let_in_or_not();
    all_that_is_served_is_asked_about();
    who_is_let_in_too_late_is_gone();
    bad_arguments_are_answered();
    puts("upgrade: ok");
    return 0;
}
