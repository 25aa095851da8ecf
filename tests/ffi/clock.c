/* A day of deadlines in milliseconds: the host moves the clock. */
#include "check.h"

static void turn_all(heartwheel *server)
{
    do
        CHECK(heartwheel_turn(server) >= 0);
    while (heartwheel_next_timeout_ms(server) == 0);
}

static void a_day_of_pings_passes_at_once(void)
{
    host host = host_new("[heartbeat]\ninterval = \"30s\"", "/echo");
    heartwheel *server = host.server;
    uint64_t ms = 1000000, day = 24 * 60 * 60 * 1000;
    CHECK_IS(heartwheel_set_clock(server, ms), HEARTWHEEL_OK);
    int fd = dial(host.port, 0), pings = 0;
    ask_upgrade(fd, "/echo");
    int64_t began = now_us();
    heartwheel_event event = expect(server, HEARTWHEEL_OPENED);
    read_upgrade(server, fd);
    while (ms < 1000000 + day) {
        turn_all(server);
        int64_t wait = heartwheel_next_timeout_ms(server);
        CHECK(wait > 0 && wait <= 60000);
        ms += (uint64_t)wait;
        CHECK_IS(heartwheel_set_clock(server, ms), HEARTWHEEL_OK);
        /* What lies behind changes nothing. */
        CHECK_IS(heartwheel_set_clock(server, ms - 5), HEARTWHEEL_OK);
        CHECK_IS(heartwheel_next_timeout_ms(server), 0);
        turn_all(server);
        uint8_t ping[130], pong[140];
        ssize_t len;
        while ((len = recv(fd, ping, sizeof ping, MSG_DONTWAIT)) > 2) {
            CHECK_IS(ping[0], 0x89);
            CHECK_IS(len, 2 + ping[1]);
            send_all(fd, pong, put_frame(pong, 10, ping + 2, ping[1]));
            CHECK(is_ready(server, 1000));
            turn_all(server);
            pings++;
        }
    }
    int64_t took_ms = (now_us() - began) / 1000;
    printf("a day with %d pings in %" PRId64 " ms\n", pings, took_ms);
    CHECK(pings >= 24 * 60 * 2 && pings < 24 * 60 * 4);
    /* It goes silent, and is given up in its time. */
    do {
        ms += 1000;
        CHECK_IS(heartwheel_set_clock(server, ms), HEARTWHEEL_OK);
        turn_all(server);
        CHECK(ms < 1000000 + day + 120000);
    } while (heartwheel_next_event(server, &event) == HEARTWHEEL_DONE);
    CHECK_IS(event.kind, HEARTWHEEL_SUSPECT);
    close(fd);
    heartwheel_free(server);
}

int main(void)
{
    a_day_of_pings_passes_at_once();
    host host = host_new(NULL, "/echo");
    CHECK_IS(heartwheel_turn(host.server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_set_clock(host.server, 0), HEARTWHEEL_E_ARGUMENT);
    CHECK(strstr(heartwheel_last_error(host.server), "first") != NULL);
    CHECK_IS(heartwheel_set_clock(NULL, 0), HEARTWHEEL_E_ARGUMENT);
    heartwheel_free(host.server);
    puts("clock: ok");
    return 0;
}
