/*
 * Random calls, with arguments good and bad, while peers come, talk, misbehave and go. Whatever
 * comes: no call fails by the library's own fault, nothing is written beyond its place, each event
 * has its turn, each end is told once, and the server serves on.
 *
 *     fuzz SEED ROUNDS
 */
#include "check.h"

enum { CLIENTS = 8, KNOWN = 64, ROOM = 65536 };

static uint64_t state;
static heartwheel *server;
static int port;
static int clients[CLIENTS];
static uint8_t bytes[ROOM];
static char history[200];

static uint64_t chance(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

/* A peer that was seen, and what is due of it. */
static struct {
    heartwheel_peer peer;
    int is_open, is_asked;
} known[KNOWN];
static int next_known;

static int find(heartwheel_peer peer)
{
    for (int i = 0; i < KNOWN; i++)
        if (known[i].peer == peer)
            return i;
    int tries = 0;
    while (known[next_known].is_open || known[next_known].is_asked) {
        next_known = (next_known + 1) % KNOWN;
        CHECK(tries++ < KNOWN);
    }
    known[next_known].peer = peer;
    return next_known;
}

static int is_anything_due(void)
{
    int due = 0;
    for (int i = 0; i < KNOWN; i++)
        due |= known[i].is_open || known[i].is_asked;
    return due;
}

static heartwheel_peer some_peer(void)
{
    switch (chance(10)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return known[chance(KNOWN)].peer ^ 1;
    case 3:
        return known[chance(KNOWN)].peer ^ (UINT64_C(1) << (24 + chance(40)));
    default:
        return known[chance(KNOWN)].peer;
    }
}

static const char *some_text(void)
{
    static char longest[5001];
    static const char *const texts[] = {
        NULL, "", "t", "u", "$stats", "a b", "\xff", "\xe2\x82", "0-0", "1-1", "not a position",
        "/echo", "/judged", "/own", "/page", "/topics/{topic}", "/{a}/b", "/*", "GET", "POST", "PUT",
        "text/plain", "a\r\nEvil: 1", "name", "X-Name", "host", "Content-Length", "t u *", "v1",
        "[limits]\nmessage_bytes = \"2k\"", "[topics]\nretain_events = 2", "log = \"debug\"", "= bad",
        "workers = 3", "memory", "identity", "query:name", "cookie:a", "$presence.t",
    };
    memset(longest, 'a', 5000);
    uint64_t which = chance(sizeof texts / sizeof *texts + 1);
    return which == sizeof texts / sizeof *texts ? longest : texts[which];
}

static size_t some_len(void)
{
    static const size_t lens[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 + 1, (size_t)INT32_MAX + 1};
    switch (chance(8)) {
    case 0:
        return lens[chance(4)];
    case 1:
        return ROOM;
    default:
        return (size_t)chance(200);
    }
}

/* Checks what a call returned. A length may be anything that is not negative. */
static int fine(int code)
{
    if (code < HEARTWHEEL_E_NONE || code == HEARTWHEEL_E_PANIC) {
        fprintf(stderr, "%s: %d %s\n", history, code, heartwheel_last_error(server));
        exit(1);
    }
    CHECK(code >= 0 || strlen(heartwheel_last_error(server)) > 0);
    return code;
}

static void settle_request(heartwheel_peer peer, int code)
{
    if (code == HEARTWHEEL_OK) {
        int at = find(peer);
        CHECK(known[at].is_asked);
        known[at].is_asked = 0;
    }
}

/* Calls what writes text, and looks behind its place. */
static void call_for_text(heartwheel_peer peer)
{
    char text[80];
    memset(text, 'x', sizeof text);
    size_t size = (size_t)chance(64);
    char *place = chance(8) == 0 ? NULL : text;
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    int code = 0;
    switch (chance(8)) {
    case 0:
        code = heartwheel_address(server, peer, place, size);
        break;
    case 1:
        code = heartwheel_identity(server, peer, place, size);
        break;
    case 2:
        code = heartwheel_method(server, peer, place, size);
        break;
    case 3:
        code = heartwheel_path(server, peer, place, size);
        break;
    case 4:
        code = heartwheel_query(server, peer, place, size);
        break;
    case 5:
        code = heartwheel_query_value(server, peer, some_text(), place, size);
        break;
    case 6:
        code = heartwheel_header(server, peer, some_text(), place, size);
        break;
    default:
        code = heartwheel_latest(server, some_text(), &event, place, size);
        CHECK(code < 0 || event.data != NULL);
        break;
    }
    fine(code);
    if (place != NULL && size > 0 && code >= 0)
        CHECK(memchr(text, 0, size) != NULL);
    for (size_t i = code < 0 || place == NULL ? 0 : size; i < sizeof text; i++)
        CHECK_IS(text[i], 'x');
}

/* Calls what shows something of the library's. */
static void call_for_view(heartwheel_peer peer)
{
    const char *text = NULL;
    const uint8_t *data = NULL;
    size_t len = 0;
    uint64_t place = chance(4) == 0 ? chance(UINT64_MAX) : 0;
    heartwheel_peer peers[9];
    memset(peers, 0xaa, sizeof peers);
    switch (chance(4)) {
    case 0:
        if (fine(heartwheel_metrics(server, &text, &len)) == HEARTWHEEL_OK)
            CHECK_IS(strlen(text), len);
        break;
    case 1:
        if (fine(heartwheel_connections(server, &place, &text, &len)) == HEARTWHEEL_OK)
            CHECK_IS(strlen(text), len);
        break;
    case 2:
        if (fine(heartwheel_body(server, peer, &data, &len)) == HEARTWHEEL_OK) {
            size_t sum = 0;
            for (size_t i = 0; i < len; i++)
                sum += data[i];
            CHECK(data != NULL && sum <= len * 255);
        }
        break;
    default:
        CHECK(fine(heartwheel_peers(server, peer, peers, (size_t)chance(9))) <= 8);
        CHECK(peers[8] == UINT64_C(0xaaaaaaaaaaaaaaaa));
        break;
    }
}

static void call_about_requests(heartwheel_peer peer)
{
    int status = chance(4) == 0 ? (int)chance(70000) - 100 : 200 + 100 * (int)chance(4);
    const char *text = some_text();
    int code;
    switch (chance(5)) {
    case 0:
        code = fine(heartwheel_respond(server, peer, status, chance(2) ? "a/b" : text, bytes,
                                       some_len()));
        settle_request(peer, code);
        break;
    case 1:
        fine(heartwheel_respond_header(server, peer, text, some_text()));
        break;
    case 2:
        settle_request(peer, fine(heartwheel_refuse(server, peer, status, text)));
        break;
    case 3:
        code = fine(heartwheel_accept(server, peer, chance(2) ? NULL : text,
                                      chance(2) ? NULL : some_text(), chance(2) ? NULL : some_text(),
                                      chance(2) ? NULL : some_text()));
        settle_request(peer, code);
        break;
    default:
        fine(heartwheel_keep_request(server, peer));
        break;
    }
}

/* Freezes and thaws as badly as may be. What it keeps is a number and needs no memory. */
static int64_t freeze(void *context, void *user, void *out, size_t size)
{
    (void)context, (void)user;
    CHECK_IS(heartwheel_turn(server), HEARTWHEEL_E_ARGUMENT);
    memset(out, 'f', size);
    return chance(4) == 0 ? (int64_t)chance(UINT64_MAX) : (int64_t)chance(size + 2) - 1;
}

static int thaw(void *context, const void *data, size_t len, void **user)
{
    (void)context;
    CHECK(data != NULL && *user == NULL);
    for (size_t i = 0; i < len; i++)
        CHECK(((const uint8_t *)data)[i] == 'f');
    *user = chance(2) ? NULL : (void *)&known[chance(KNOWN)];
    return (int)chance(3) - 1;
}

static void discard(void *context, void *user)
{
    (void)context;
    CHECK(user != NULL);
}

static void call_for_sessions(const char *path)
{
    heartwheel_sessions sessions = {sizeof sessions, some_text(), some_text(), (int)chance(2),
                                    chance(8) == 0, NULL, freeze, thaw, discard};
    if (chance(2) == 0)
        sessions.store = "memory";
    if (chance(2) == 0)
        sessions.key = "query:name";
    if (chance(8) == 0)
        sessions.freeze = NULL;
    if (chance(8) == 0)
        sessions.struct_size = (size_t)chance(300);
    if (sessions.struct_size >= sizeof sessions || sessions.struct_size == 0)
        fine(heartwheel_route_sessions(server, chance(2) ? "/judged" : path, &sessions));
}

static void call_about_clients(heartwheel_peer peer)
{
    heartwheel_member member = {sizeof member, 0, 0, NULL, NULL, NULL};
    uint64_t reference = 0;
    switch (chance(3)) {
    case 0:
        fine(heartwheel_presence(server, peer, some_text(), &reference));
        break;
    case 1:
        fine(heartwheel_subscribe_as(server, peer, some_text(), some_text(), some_text()));
        break;
    default:
        fine(heartwheel_event_member(server, (size_t)chance(UINT64_MAX), &member));
        CHECK(heartwheel_event_count(server) == HEARTWHEEL_E_NONE);
        break;
    }
}

static void call_about_the_server(void)
{
    const char *text = some_text();
    switch (chance(14)) {
    case 13:
        call_for_sessions(text);
        break;
    case 12:
        fine(heartwheel_route_set(server, text, some_text(), some_text()));
        break;
    case 0:
        fine(heartwheel_route_websocket(server, text));
        break;
    case 1:
        fine(heartwheel_route_topics(server, text));
        break;
    case 2:
        fine(heartwheel_route_get(server, text, some_text(), bytes, some_len()));
        break;
    case 3:
        fine(heartwheel_route_request(server, some_text(), text));
        break;
    case 4:
        fine(heartwheel_route_ask(server, text));
        break;
    case 5:
        fine(heartwheel_route_open(server, text));
        break;
    case 6:
        fine(heartwheel_reload(server, text));
        break;
    case 7:
        fine(heartwheel_shed(server, (double)chance(20) / 10 - 0.5));
        break;
    case 8:
        fine(heartwheel_adopt_fd(server, (int)chance(3) - 1, (unsigned)chance(5)));
        break;
    case 9:
        fine(heartwheel_set_clock(server, chance(UINT64_MAX)));
        break;
    case 10:
        fine(heartwheel_wake(server));
        break;
    default:
        fine(chance(2) ? heartwheel_route_hub(server, text) : heartwheel_route_events(server, text));
        break;
    }
}

static void call_about_messages(heartwheel_peer peer)
{
    const char *text = some_text(), *data = chance(8) == 0 ? NULL : (const char *)bytes;
    size_t len = some_len();
    switch (chance(13)) {
    case 12:
        call_about_clients(peer);
        break;
    case 0:
        fine(heartwheel_send_text(server, peer, data, len));
        break;
    case 1:
        fine(heartwheel_send_binary(server, peer, data, len));
        break;
    case 2:
        fine(heartwheel_publish_text(server, text, data, len));
        break;
    case 3:
        fine(heartwheel_publish_binary(server, text, data, len));
        break;
    case 4:
        fine(heartwheel_subscribe(server, peer, text));
        break;
    case 5:
        fine(heartwheel_subscribe_after(server, peer, text, some_text()));
        break;
    case 6:
        fine(heartwheel_unsubscribe(server, peer, text));
        break;
    case 7:
        fine(heartwheel_close(server, peer, (uint16_t)(chance(2) ? 1000 : chance(65536))));
        break;
    case 8:
        fine(heartwheel_close_text(server, peer, 4000, data, len));
        break;
    case 9:
        fine(heartwheel_kick(server, peer));
        break;
    case 10:
        if (chance(4) == 0)
            fine(heartwheel_cancel(server, peer, chance(20)));
        else
            fine(heartwheel_after(server, peer, chance(2) ? chance(UINT64_MAX) : chance(50),
                                  chance(20)));
        break;
    default:
        if (fine(heartwheel_set_user(server, peer, &known[chance(KNOWN)])) == HEARTWHEEL_OK)
            CHECK(heartwheel_user(server, peer) != NULL);
        heartwheel_user(server, some_peer());
        break;
    }
}

/* A client comes, says something, listens, or goes. */
static void do_something_else(void)
{
    static const char *const requests[] = {
        "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "GET /judged?name=a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Protocol: v1\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "GET /own?name=a HTTP/1.1\r\nHost: localhost\r\nX-Name: b\r\n\r\n",
        "POST /own HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
        "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /topics/t HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\x81\x80\x00\x00\x00\x00",
        "\x82\x84\x00\x00\x00\x00""data",
        "\x88\x82\x00\x00\x00\x00\x03\xe8",
        "GARBAGE\r\n\r\n",
    };
    static const size_t lens[] = {0, 0, 0, 0, 0, 0, 6, 10, 8, 0};
    int *fd = &clients[chance(CLIENTS)];
    if (*fd < 0) {
        *fd = dial(port, 0);
        CHECK_IS(fcntl(*fd, F_SETFL, O_NONBLOCK), 0);
        return;
    }
    uint64_t what = chance(16);
    if (what == 0) {
        reset(*fd);
        *fd = -1;
    } else if (what == 1) {
        close(*fd);
        *fd = -1;
    } else if (what < 6) {
        uint8_t some[4096];
        if (recv(*fd, some, sizeof some, MSG_DONTWAIT) == 0) {
            close(*fd);
            *fd = -1;
        }
    } else {
        uint64_t which = chance(10);
        size_t len = lens[which] > 0 ? lens[which] : strlen(requests[which]);
        /* It may have been ended. */
        if (send(*fd, requests[which], len, MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
            close(*fd);
            *fd = -1;
        }
    }
}

static void pull(int most)
{
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    while (most-- > 0 && fine(heartwheel_next_event(server, &event)) == HEARTWHEEL_OK) {
        CHECK(event.data != NULL && event.peer != 0);
        size_t sum = 0;
        for (size_t i = 0; i < event.len; i++)
            sum += event.data[i];
        CHECK(sum <= event.len * 255);
        int at = find(event.peer);
        switch (event.kind) {
        case HEARTWHEEL_OPENED:
            CHECK(!known[at].is_open && !known[at].is_asked);
            known[at].is_open = 1;
            break;
        case HEARTWHEEL_REQUEST:
        case HEARTWHEEL_UPGRADE:
            CHECK(!known[at].is_open && !known[at].is_asked);
            known[at].is_asked = 1;
            break;
        case HEARTWHEEL_ABANDONED:
            CHECK(known[at].is_asked);
            known[at].is_asked = 0;
            break;
        case HEARTWHEEL_CLOSED:
            CHECK(known[at].is_open);
            known[at].is_open = 0;
            break;
        default:
            CHECK(known[at].is_open);
            break;
        }
        if (chance(4) == 0)
            call_for_text(event.peer);
    }
}

/* Whatever is called from inside the log is refused. */
static void hear(void *user, int level, const char *line)
{
    (void)user, (void)level;
    CHECK(strlen(line) > 0);
    if (server != NULL) {
        CHECK_IS(heartwheel_kick(server, 1), HEARTWHEEL_E_ARGUMENT);
        CHECK_IS(heartwheel_reload(server, NULL), HEARTWHEEL_E_ARGUMENT);
        CHECK_IS(heartwheel_route_ask(server, "/echo"), HEARTWHEEL_E_ARGUMENT);
        CHECK(heartwheel_user(server, 1) == NULL);
        heartwheel_free(server);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    long rounds = argc > 2 ? atol(argv[2]) : 20000;
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    printf("seed %" PRIu64 ", %ld rounds\n", seed, rounds);
    fflush(stdout);
    snprintf(history, sizeof history, "seed %" PRIu64, seed);
    heartwheel_set_log(hear, NULL);
    heartwheel *made;
    const char *toml = "log = \"debug\"\n[limits]\nconnections = 32\noutbox_bytes = \"70k\"\n"
                       "[deadlines]\nhandshake = \"1s\"";
    CHECK_IS(heartwheel_new(toml, &made), HEARTWHEEL_OK);
    server = made;
    CHECK_IS(heartwheel_route_websocket(server, "/echo"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_websocket(server, "/judged"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_ask(server, "/judged"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_request(server, "GET", "/own"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_request(server, "POST", "/own"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_get(server, "/page", "text/plain", "page", 4), HEARTWHEEL_OK);
    port = heartwheel_listen(server, "127.0.0.1:0");
    CHECK(port > 0);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = -1;
    memset(bytes, 'b', sizeof bytes);
    for (long round = 0; round < rounds; round++) {
        heartwheel_peer peer = some_peer();
        switch (chance(12)) {
        case 0:
            call_for_text(peer);
            break;
        case 1:
            call_for_view(peer);
            break;
        case 2:
            call_about_requests(peer);
            break;
        case 3:
            if (chance(10) == 0)
                call_about_the_server();
            break;
        case 4:
            call_about_messages(peer);
            break;
        case 5:
        case 6:
        case 7:
            do_something_else();
            break;
        default:
            CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
            pull((int)chance(8));
            break;
        }
    }
    /* All that was begun comes to its end, if only by its deadline, and the server still serves. */
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i] >= 0)
            reset(clients[i]);
    int64_t began = now_us();
    while (is_anything_due()) {
        CHECK(now_us() - began < PATIENCE_MS * 1000);
        settle(server);
        pull(1 << 20);
    }
    CHECK_IS(heartwheel_route_health(server), HEARTWHEEL_OK);
    CHECK_ANSWER(ask(server, port, "GET /healthz", "", ""), "200", "ok");
    heartwheel_set_log(NULL, NULL);
    heartwheel_free(server);
    puts("fuzz: ok");
    return 0;
}
