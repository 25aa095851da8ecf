/*
 * Sessions that outlast connections, from C: what is kept, who has it, and a host that freezes and
 * thaws badly. FAULTS 260, 263, 269. Clean under valgrind.
 *
 *     sessions STORE...    each store, "sqlite:FILE" or a URL of Redis, is shared by two servers
 *     sessions PID STORE   as above; then Redis, which is this process, is killed
 */
#include "check.h"

#include <pthread.h>

/* The thread that is inside the handles: none of the library's calls anything here. */
static pthread_t host_thread;

/* What is kept with a peer. */
struct tally {
    uint32_t magic, count;
};

enum { MAGIC = 0x7a11e4, BYTES = 64 };

/* How the host does it, and what it was asked. */
static struct host_of_sessions {
    heartwheel *server;
    int64_t freezes_to;      /* 0: as it is; else what is returned */
    int thaws_to;            /* likewise */
    int freezes, thaws, discards;
    int alive;
} world;

static struct tally *make(uint32_t count)
{
    struct tally *tally = malloc(sizeof *tally);
    CHECK(tally != NULL);
    *tally = (struct tally){MAGIC, count};
    world.alive++;
    return tally;
}

static void drop(struct tally *tally)
{
    if (tally == NULL)
        return;
    CHECK_IS(tally->magic, MAGIC);
    tally->magic = 0;
    world.alive--;
    free(tally);
}

/* Whatever is called from inside is refused. */
static void calls_are_refused(void)
{
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    CHECK(pthread_equal(pthread_self(), host_thread));
    if (world.server == NULL)
        return;
    CHECK_IS(heartwheel_turn(world.server), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_next_event(world.server, &event), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_publish_text(world.server, "t", "x", 1), HEARTWHEEL_E_ARGUMENT);
    CHECK(heartwheel_user(world.server, 1) == NULL);
    heartwheel_free(world.server);
}

static int64_t freeze(void *context, void *user, void *out, size_t size)
{
    CHECK(context == &world);
    CHECK_IS(size, BYTES);
    for (size_t i = 0; i < size; i++)
        CHECK_IS(((uint8_t *)out)[i], 0);
    world.freezes++;
    calls_are_refused();
    if (world.freezes_to != 0) {
        memset(out, 0xee, size);
        return world.freezes_to;
    }
    struct tally *tally = user;
    if (tally == NULL)
        return 0;
    CHECK_IS(tally->magic, MAGIC);
    memcpy(out, &tally->count, sizeof tally->count);
    return sizeof tally->count;
}

static int thaw(void *context, const void *data, size_t len, void **user)
{
    CHECK(context == &world && data != NULL && *user == NULL);
    world.thaws++;
    calls_are_refused();
    if (world.thaws_to != 0) {
        *user = (void *)-1;
        return world.thaws_to;
    }
    if (len == 0)
        return HEARTWHEEL_OK;
    uint32_t count;
    CHECK(len == sizeof count || len == BYTES);
    memcpy(&count, data, sizeof count);
    *user = make(count);
    return HEARTWHEEL_OK;
}

static void discard(void *context, void *user)
{
    CHECK(context == &world && user != NULL);
    world.discards++;
    calls_are_refused();
    drop(user);
}

static heartwheel_sessions sessions_of(const char *key, const char *store)
{
    heartwheel_sessions sessions = {sizeof sessions, key, store, 0, 0, &world, freeze, thaw, discard};
    return sessions;
}

static const char *save = "10s";

static host start(const char *store)
{
    host host;
    /* Raw sockets answer no pings. */
    char toml[256];
    snprintf(toml, sizeof toml,
             "[sessions]\nbytes = 64\nsave = \"%s\"\n[heartbeat]\ninterval = \"5m\"\n"
             "[deadlines]\nread_idle = \"30m\"",
             save);
    CHECK_IS(heartwheel_new(toml, &host.server), HEARTWHEEL_OK);
    heartwheel_sessions sessions = sessions_of("query:sid", store);
    CHECK_IS(heartwheel_route_sessions(host.server, "/tally", &sessions), HEARTWHEEL_OK);
    /* All of it was copied. */
    memset(&sessions, 0xaa, sizeof sessions);
    host.port = heartwheel_listen(host.server, "127.0.0.1:0");
    CHECK(host.port > 0);
    world.freezes_to = 0;
    world.thaws_to = world.freezes = world.thaws = world.discards = 0;
    CHECK_IS(world.alive, 0);
    return host;
}

static uint64_t figure(heartwheel *server, const char *name)
{
    const char *text;
    size_t len;
    CHECK_IS(heartwheel_metrics(server, &text, &len), HEARTWHEEL_OK);
    const char *line = strstr(text, name);
    CHECK(line != NULL);
    return strtoull(line + strlen(name), NULL, 10);
}

/* Handles an event as a host does. Returns it. */
static heartwheel_event handled(heartwheel *server)
{
    heartwheel_event event = next_event(server);
    struct tally *tally = heartwheel_user(server, event.peer);
    switch (event.kind) {
    case HEARTWHEEL_OPENED:
        if (tally == NULL)
            CHECK_IS(heartwheel_set_user(server, event.peer, make(0)), HEARTWHEEL_OK);
        break;
    case HEARTWHEEL_TEXT:
        CHECK(tally != NULL);
        tally->count++;
        break;
    case HEARTWHEEL_CLOSED:
        drop(tally);
        break;
    default:
        break;
    }
    return event;
}

static heartwheel_event handle_until(heartwheel *server, uint32_t kind)
{
    for (;;) {
        heartwheel_event event = handled(server);
        if (event.kind == kind)
            return event;
    }
}

/* Opens a connection. Returns what its peer counts already. */
static uint32_t open_tally(heartwheel *server, int port, const char *path, int *fd,
                           heartwheel_peer *peer)
{
    *fd = dial(port, 0);
    ask_upgrade(*fd, path);
    heartwheel_event event = handle_until(server, HEARTWHEEL_OPENED);
    *peer = event.peer;
    read_upgrade(server, *fd);
    struct tally *tally = heartwheel_user(server, event.peer);
    CHECK(tally != NULL);
    return tally->count;
}

static void count(heartwheel *server, int fd, int times)
{
    while (times-- > 0) {
        send_text(fd, "one");
        handle_until(server, HEARTWHEEL_TEXT);
    }
}

static void hang_up(heartwheel *server, int fd)
{
    reset(fd);
    handle_until(server, HEARTWHEEL_CLOSED);
}

/* Visits a server, counts so often, and goes. Returns what was counted before. */
static uint32_t visit(heartwheel *server, int port, const char *path, int times)
{
    int fd;
    heartwheel_peer peer;
    uint32_t before = open_tally(server, port, path, &fd, &peer);
    count(server, fd, times);
    hang_up(server, fd);
    return before;
}

static void what_is_wrong_is_answered(void)
{
    heartwheel *server;
    CHECK_IS(heartwheel_new(NULL, &server), HEARTWHEEL_OK);
    heartwheel_sessions good = sessions_of("query:sid", "memory"), bad = good;
    CHECK_IS(heartwheel_route_sessions(NULL, "/a", &good), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_sessions(server, NULL, &good), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_sessions(server, "/a", NULL), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_sessions(server, "a", &good), HEARTWHEEL_E_ARGUMENT);
    static const size_t sizes[] = {0, 1, sizeof good - 1, 257, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bad.struct_size = sizes[i];
        CHECK_IS(heartwheel_route_sessions(server, "/a", &bad), HEARTWHEEL_E_ARGUMENT);
    }
    static const char *const keys[] = {NULL, "", "sid", "cookie", "cookie:", "query:", "header:x",
                                       "identity:x", "\xff"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bad = sessions_of(keys[i], "memory");
        CHECK_IS(heartwheel_route_sessions(server, "/a", &bad), HEARTWHEEL_E_ARGUMENT);
    }
    static const char *const stores[] = {NULL, "", "memory:", "sqlite:", "sqlite", "file:/a",
                                         "redis://", "redis:/x", "sentinel://a", "unix:", "\xff"};
    for (size_t i = 0; i < sizeof stores / sizeof *stores; i++) {
        bad = sessions_of("identity", stores[i]);
        CHECK_IS(heartwheel_route_sessions(server, "/a", &bad), HEARTWHEEL_E_ARGUMENT);
    }
    bad = sessions_of("identity", "sqlite:/no/such/folder/file");
    CHECK_IS(heartwheel_route_sessions(server, "/a", &bad), HEARTWHEEL_E_IO);
    CHECK(strstr(heartwheel_last_error(server), "/no/such/folder/file") != NULL);
    bad = good;
    bad.freeze = NULL;
    CHECK_IS(heartwheel_route_sessions(server, "/a", &bad), HEARTWHEEL_E_ARGUMENT);
    CHECK(strstr(heartwheel_last_error(server), "freeze and thaw") != NULL);
    bad = good;
    bad.thaw = NULL;
    CHECK_IS(heartwheel_route_sessions(server, "/a", &bad), HEARTWHEEL_E_ARGUMENT);
    bad = good;
    bad.reserved = 1;
    CHECK_IS(heartwheel_route_sessions(server, "/a", &bad), HEARTWHEEL_E_ARGUMENT);
    heartwheel_free(server);
}

static void a_client_goes_on(void)
{
    host host = start("memory");
    world.server = host.server;
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 2), 0);
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 3), 2);
    CHECK_IS(visit(host.server, host.port, "/tally?sid=b", 1), 0);
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 0), 5);
    CHECK_IS(world.thaws, 2);
    /* Without a key nothing is kept, and nobody is asked to freeze it. */
    int freezes = world.freezes;
    CHECK_IS(visit(host.server, host.port, "/tally", 1), 0);
    CHECK_IS(visit(host.server, host.port, "/tally", 1), 0);
    CHECK_IS(world.freezes, freezes);
    CHECK_ANSWER(ask(host.server, host.port, "GET /tally?sid=a", "", ""), "426", "WebSocket");
    heartwheel_sessions strict = sessions_of("cookie:sid", "memory");
    strict.is_required = 1;
    CHECK_IS(heartwheel_route_sessions(host.server, "/strict", &strict), HEARTWHEEL_OK);
    static const char *const lines =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    CHECK_ANSWER(ask(host.server, host.port, "GET /strict", lines, ""), "400", "session");
    CHECK_IS(figure(host.server, "heartwheel_sessions_held "), 0);
    CHECK_IS(figure(host.server, "heartwheel_sessions_opened_total{result=\"resumed\"} "), 2);
    heartwheel_free(host.server);
    CHECK_IS(world.alive, 0);
}

/* Of two connections with one key the newer has all, and the older is told. */
static void a_newer_connection_has_what_the_older_had(void)
{
    host host = start("memory");
    world.server = host.server;
    int old, new;
    heartwheel_peer older, newer;
    CHECK_IS(open_tally(host.server, host.port, "/tally?sid=a", &old, &older), 0);
    count(host.server, old, 3);
    CHECK_IS(open_tally(host.server, host.port, "/tally?sid=a", &new, &newer), 3);
    expect_frame(host.server, old, 8, "\x11\x39replaced");
    send_frame(old, 8, "\x11\x39", 2);
    heartwheel_event event = handle_until(host.server, HEARTWHEEL_CLOSED);
    CHECK(event.peer == older && bears(event, "replaced"));
    CHECK_IS(event.close_code, 4409);
    count(host.server, new, 1);
    hang_up(host.server, new);
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 0), 4);
    CHECK_IS(figure(host.server, "heartwheel_sessions_taken_over_total{how=\"handed\"} "), 1);
    close(old);
    heartwheel_free(host.server);
    CHECK_IS(world.alive, 0);
}

/* Moves the clock, and handles what is due. */
static void pass(heartwheel *server, uint64_t *now_ms, uint64_t ms)
{
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    for (uint64_t step = 0; step < ms; step += 500) {
        CHECK_IS(heartwheel_set_clock(server, *now_ms += 500), HEARTWHEEL_OK);
        while (heartwheel_next_timeout_ms(server) == 0 || is_ready(server, 0)) {
            CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
            while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK)
                CHECK_IS(event.kind, HEARTWHEEL_SUSPECT);
        }
    }
}

static void an_open_session_is_saved_if_it_may_have_changed(void)
{
    host host = start("memory");
    world.server = host.server;
    uint64_t now_ms = 0;
    CHECK_IS(heartwheel_set_clock(host.server, now_ms), HEARTWHEEL_OK);
    int fd;
    heartwheel_peer peer;
    CHECK_IS(open_tally(host.server, host.port, "/tally?sid=a", &fd, &peer), 0);
    count(host.server, fd, 2);
    CHECK_IS(world.freezes, 0);
    pass(host.server, &now_ms, 11000);
    CHECK_IS(world.freezes, 1);
    CHECK_IS(figure(host.server, "heartwheel_sessions_saves_total{result=\"saved\"} "), 1);
    pass(host.server, &now_ms, 15000);
    CHECK_IS(world.freezes, 1);
    struct tally *tally = heartwheel_user(host.server, peer);
    tally->count = 7;
    CHECK_IS(heartwheel_set_user(host.server, peer, tally), HEARTWHEEL_OK);
    pass(host.server, &now_ms, 11000);
    CHECK_IS(world.freezes, 2);
    CHECK_IS(figure(host.server, "heartwheel_sessions_saves_total{result=\"saved\"} "), 2);
    hang_up(host.server, fd);
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 0), 7);
    heartwheel_free(host.server);
    CHECK_IS(world.alive, 0);
}

/* Pulls what is told of a session that cannot be saved. */
static void is_unsaved(heartwheel *server, uint64_t *now_ms, const char *why)
{
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    int told = 0;
    for (int i = 0; i < 60; i++) {
        CHECK_IS(heartwheel_set_clock(server, *now_ms += 500), HEARTWHEEL_OK);
        while (heartwheel_next_timeout_ms(server) == 0 || is_ready(server, 0)) {
            CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
            while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
                if (event.kind == HEARTWHEEL_SUSPECT)
                    continue;
                CHECK_IS(event.kind, HEARTWHEEL_UNSAVED);
                CHECK(bears(event, why) && event.peer != 0);
                told++;
            }
        }
    }
    CHECK_IS(told, 1);
}

/* A host that returns what no session has: it is told, and what was saved before stays. */
static void a_host_that_freezes_badly_loses_nothing_that_was_saved(void)
{
    static const int64_t much[] = {BYTES + 1, INT64_MAX, INT32_MAX, (int64_t)UINT32_MAX + 5};
    static const int64_t none[] = {-1, INT64_MIN, HEARTWHEEL_E_FULL};
    host host = start("memory");
    world.server = host.server;
    uint64_t now_ms = 0;
    CHECK_IS(heartwheel_set_clock(host.server, now_ms), HEARTWHEEL_OK);
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 3), 0);
    for (size_t i = 0; i < sizeof much / sizeof *much; i++) {
        int fd;
        heartwheel_peer peer;
        CHECK_IS(open_tally(host.server, host.port, "/tally?sid=a", &fd, &peer), 3);
        count(host.server, fd, 1);
        world.freezes_to = much[i];
        is_unsaved(host.server, &now_ms, "too_big");
        hang_up(host.server, fd);
        world.freezes_to = 0;
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        int fd;
        heartwheel_peer peer;
        CHECK_IS(open_tally(host.server, host.port, "/tally?sid=a", &fd, &peer), 3);
        count(host.server, fd, 1);
        world.freezes_to = none[i];
        pass(host.server, &now_ms, 11000);
        hang_up(host.server, fd);
        world.freezes_to = 0;
    }
    /* As long as may be, and nothing at all, are sessions. */
    world.freezes_to = BYTES;
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 0), 3);
    world.freezes_to = 0;
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 0), 0xeeeeeeee);
    int fd = dial(host.port, 0);
    ask_upgrade(fd, "/tally?sid=null");
    heartwheel_event event = expect(host.server, HEARTWHEEL_OPENED);
    CHECK(heartwheel_user(host.server, event.peer) == NULL);
    hang_up(host.server, fd);
    int thaws = world.thaws;
    CHECK_IS(visit(host.server, host.port, "/tally?sid=null", 0), 0);
    CHECK_IS(world.thaws, thaws + 1);
    heartwheel_free(host.server);
    CHECK_IS(world.alive, 0);
}

/* A host that makes nothing of the bytes: 500, and they stay. */
static void a_host_that_refuses_to_thaw_leaves_what_was_saved(void)
{
    static const char *const lines =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    static const int refusals[] = {HEARTWHEEL_E_ARGUMENT, HEARTWHEEL_E_PANIC, HEARTWHEEL_DONE,
                                   INT32_MAX, INT32_MIN};
    host host = start("memory");
    world.server = host.server;
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 3), 0);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        world.thaws_to = refusals[i];
        CHECK_ANSWER(ask(host.server, host.port, "GET /tally?sid=a", lines, ""), "500", "session");
    }
    world.thaws_to = 0;
    CHECK_IS(figure(host.server, "heartwheel_sessions_opened_total{result=\"unreadable\"} "), 5);
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 0), 3);
    CHECK_IS(figure(host.server, "heartwheel_sessions_held "), 0);
    heartwheel_free(host.server);
    CHECK_IS(world.alive, 0);
}

/* What was thawed for a peer that the host never hears of is given back to it. */
static void what_is_never_opened_is_discarded(void)
{
    host host = start("memory");
    world.server = host.server;
    CHECK_IS(visit(host.server, host.port, "/tally?sid=a", 3), 0);
    int fd = dial(host.port, 0);
    ask_upgrade(fd, "/tally?sid=a");
    read_upgrade(host.server, fd);
    CHECK_IS(world.thaws, 1);
    CHECK_IS(world.alive, 1);
    heartwheel_free(host.server);
    CHECK_IS(world.discards, 1);
    CHECK_IS(world.alive, 0);
    close(fd);
}

/* Who asks may name the session, as the host says when it lets a request in. */
static void an_identity_names_a_session(void)
{
    host host = start("memory");
    world.server = host.server;
    heartwheel_sessions sessions = sessions_of("identity", "memory");
    CHECK_IS(heartwheel_route_sessions(host.server, "/own", &sessions), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_ask(host.server, "/own"), HEARTWHEEL_OK);
    static const char *const names[] = {"ann", "bob", "ann", NULL, NULL};
    static const int freezes[] = {1, 1, 1, 0, 0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int before = world.freezes, fd = dial(host.port, 0);
        ask_upgrade(fd, "/own");
        heartwheel_event event = expect(host.server, HEARTWHEEL_UPGRADE);
        CHECK_IS(heartwheel_accept(host.server, event.peer, names[i], NULL, NULL, NULL), 0);
        event = handle_until(host.server, HEARTWHEEL_OPENED);
        read_upgrade(host.server, fd);
        struct tally *tally = heartwheel_user(host.server, event.peer);
        CHECK_IS(tally->count, i == 2 ? 2 : 0);
        count(host.server, fd, 2);
        hang_up(host.server, fd);
        CHECK_IS(world.freezes, before + freezes[i]);
    }
    heartwheel_free(host.server);
    CHECK_IS(world.alive, 0);
}

/* Two servers with one store: a client moves there and back, and takes its session along. */
static void a_client_moves_between_servers(const char *store)
{
    host hosts[2] = {start(store), start(store)};
    world.server = NULL;
    char path[64];
    snprintf(path, sizeof path, "/tally?sid=%ld-%s", (long)getpid(), "secret");
    uint32_t counted = 0;
    for (int move = 0; move < 10; move++) {
        host *host = &hosts[move % 3 == 0];
        CHECK_IS(visit(host->server, host->port, path, move), counted);
        counted += (uint32_t)move;
    }
    /* A server that ends saves what was let go of, and another goes on with it. */
    heartwheel_free(hosts[0].server);
    heartwheel_free(hosts[1].server);
    hosts[0] = start(store);
    CHECK_IS(visit(hosts[0].server, hosts[0].port, path, 0), counted);
    heartwheel_free(hosts[0].server);
    CHECK_IS(world.alive, 0);
}

static int lines_of_failure;

/* No other thread than the host's writes a line. */
static void hear(void *user, int level, const char *line)
{
    (void)user;
    CHECK(pthread_equal(pthread_self(), host_thread));
    CHECK(strstr(line, "secret") == NULL);
    lines_of_failure += level == HEARTWHEEL_LOG_WARN && strstr(line, "cannot be kept") != NULL;
}

/* A store that ends: the host is told, by the event and by the log; nobody gets an empty session. */
static void a_store_that_fails_is_told(const char *store, pid_t pid)
{
    static const char *const lines =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    heartwheel_set_log(hear, NULL);
    save = "1s";
    host host = start(store);
    int fd;
    heartwheel_peer peer;
    CHECK_IS(open_tally(host.server, host.port, "/tally?sid=secret-1", &fd, &peer), 0);
    count(host.server, fd, 1);
    CHECK_IS(kill(pid, SIGKILL), 0);
    count(host.server, fd, 1);
    heartwheel_event event = handle_until(host.server, HEARTWHEEL_UNSAVED);
    CHECK(event.peer == peer && bears(event, "store"));
    CHECK_ANSWER(ask(host.server, host.port, "GET /tally?sid=secret-2", lines, ""), "503", "session");
    CHECK_IS(lines_of_failure, 1);
    hang_up(host.server, fd);
    heartwheel_free(host.server);
    CHECK_IS(world.alive, 0);
    heartwheel_set_log(NULL, NULL);
}

int main(int argc, char **argv)
{
    host_thread = pthread_self();
    what_is_wrong_is_answered();
    a_client_goes_on();
    a_newer_connection_has_what_the_older_had();
    an_open_session_is_saved_if_it_may_have_changed();
    a_host_that_freezes_badly_loses_nothing_that_was_saved();
    a_host_that_refuses_to_thaw_leaves_what_was_saved();
    what_is_never_opened_is_discarded();
    an_identity_names_a_session();
    pid_t pid = argc == 3 ? (pid_t)atoi(argv[1]) : 0;
    for (int i = pid > 0 ? 2 : 1; i < argc; i++)
        a_client_moves_between_servers(argv[i]);
    if (pid > 0)
        a_store_that_fails_is_told(argv[2], pid);
    puts("sessions: ok");
    return 0;
}
