/* Timers of peers, by a clock that is moved by hand. */
#include "check.h"

#define E_ARGUMENT HEARTWHEEL_E_ARGUMENT
#define E_GONE HEARTWHEEL_E_GONE
#define E_NONE HEARTWHEEL_E_NONE

static heartwheel *server;
static uint64_t now_ms;

static void turn_all(void)
{
    do
        CHECK(heartwheel_turn(server) >= 0);
    while (heartwheel_next_timeout_ms(server) == 0);
}

static void move_to(uint64_t ms)
{
    now_ms = ms;
    CHECK_IS(heartwheel_set_clock(server, now_ms), HEARTWHEEL_OK);
    turn_all();
}

static void expect_timer(heartwheel_peer peer, uint64_t token)
{
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_OK);
    CHECK_IS(event.kind, HEARTWHEEL_TIMER);
    CHECK(event.peer == peer && event.token == token && event.data != NULL && event.len == 0);
}

static void expect_nothing(void)
{
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
}

int main(void)
{
    host host = host_new("[limits]\ntimers = 3\n[heartbeat]\ninterval = \"off\"\n"
                         "[deadlines]\nread_idle = \"7d\"",
                         "/echo");
    server = host.server;
    CHECK_IS(heartwheel_set_clock(server, 0), HEARTWHEEL_OK);
    heartwheel_peer peer, other;
    int fd = open_peer(server, host.port, "/echo", &peer);
    int fd_other = open_peer(server, host.port, "/echo", &other);
    turn_all();
    expect_nothing();
    CHECK_IS(heartwheel_after(server, peer, 5000, 7), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_after(server, other, 1000, UINT64_MAX), HEARTWHEEL_OK);
    int64_t wait = heartwheel_next_timeout_ms(server);
    CHECK(wait > 0 && wait <= 1100);
    move_to(900);
    expect_nothing();
    move_to(1100);
    expect_timer(other, UINT64_MAX);
    expect_nothing();
    /* Moved: it is one timer, and comes once. */
    CHECK_IS(heartwheel_after(server, peer, 10000, 7), HEARTWHEEL_OK);
    move_to(6000);
    expect_nothing();
    CHECK_IS(heartwheel_after(server, peer, 1000, 7), HEARTWHEEL_OK);
    move_to(7200);
    expect_timer(peer, 7);
    move_to(20000);
    expect_nothing();
    /* Cancelled, also when it is due and was not pulled. */
    CHECK_IS(heartwheel_cancel(server, peer, 7), E_NONE);
    CHECK_IS(heartwheel_after(server, peer, 100, 1), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_after(server, peer, 200, 2), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_after(server, peer, 0, 3), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_after(server, peer, 100, 4), HEARTWHEEL_E_FULL);
    CHECK_IS(heartwheel_cancel(server, peer, 1), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_cancel(server, peer, 1), E_NONE);
    move_to(21000);
    CHECK_IS(heartwheel_cancel(server, peer, 2), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_cancel(server, peer, 2), E_NONE);
    expect_timer(peer, 3);
    expect_nothing();
    /* Two of one job: the second is taken back while the first is in hand. */
    CHECK_IS(heartwheel_after(server, peer, 100, 5), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_after(server, peer, 200, 6), HEARTWHEEL_OK);
    move_to(22000);
    expect_timer(peer, 5);
    CHECK_IS(heartwheel_cancel(server, peer, 6), HEARTWHEEL_OK);
    expect_nothing();
    /* However far: it does not come, and the server waits for nothing else. */
    CHECK_IS(heartwheel_after(server, peer, UINT64_MAX, 8), HEARTWHEEL_OK);
    wait = heartwheel_next_timeout_ms(server);
    CHECK(wait == -1 || wait > 3600000);
    move_to(22000 + UINT64_C(86400000));
    expect_nothing();
    /* It ends with its peer. */
    CHECK_IS(heartwheel_after(server, peer, 100, 9), HEARTWHEEL_OK);
    reset(fd);
    CHECK_IS(expect(server, HEARTWHEEL_CLOSED).peer, peer);
    move_to(now_ms + 1000);
    expect_nothing();
    CHECK_IS(heartwheel_after(server, peer, 100, 9), E_GONE);
    CHECK_IS(heartwheel_cancel(server, peer, 9), E_NONE);
    CHECK_IS(heartwheel_after(server, 0, 100, 9), E_ARGUMENT);
    CHECK_IS(heartwheel_after(NULL, other, 100, 9), E_ARGUMENT);
    CHECK_IS(heartwheel_cancel(server, 0, 9), E_ARGUMENT);
    CHECK_IS(heartwheel_cancel(NULL, other, 9), E_ARGUMENT);
    CHECK_IS(heartwheel_close(server, other, 1000), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_after(server, other, 100, 9), E_GONE);
    /* To free with timers under way. */
    close(fd_other);
    heartwheel_free(server);
    puts("timers: ok");
    return 0;
}
