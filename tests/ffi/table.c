/*
 * The gateway of examples/c with its table, by a clock that is moved by hand: who gets in, who sees
 * what, a device that dies, a browser that comes back, and the end.
 */
#include "check.h"

#define GATEWAY_IN_A_TEST
#include "../../examples/c/gateway.c"

static struct gateway gateway;
static int port;
static uint64_t clock_ms;

/* Turns and handles until nothing is left to do at this time. */
static void settle_gateway(void)
{
    do {
        CHECK(heartwheel_turn(gateway.server) >= 0);
        gateway_handle_events(&gateway);
    } while (heartwheel_next_timeout_ms(gateway.server) == 0 || is_ready(gateway.server, 1));
}

static void pass(uint64_t ms)
{
    for (uint64_t end = clock_ms + ms; clock_ms < end; clock_ms += 1000) {
        CHECK_IS(heartwheel_set_clock(gateway.server, clock_ms + 1000), HEARTWHEEL_OK);
        settle_gateway();
    }
}

/* Reads what has come up to now behind what was read before. */
static void read_more(int fd, char *text, size_t size)
{
    size_t len = strlen(text);
    settle_gateway();
    ssize_t some = recv(fd, text + len, size - len - 1, MSG_DONTWAIT);
    text[len + (some > 0 ? (size_t)some : 0)] = 0;
}

#define CHECK_HAS(text, word)                                                                      \
    do {                                                                                           \
        if (strstr(text, word) == NULL) {                                                          \
            fprintf(stderr, "%s:%d: no %s in:\n%s\n", __FILE__, __LINE__, word, text);             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static int request(const char *line, const char *token, const char *more, char *text, size_t size)
{
    char head[512];
    int fd = dial(port, 0);
    int len = snprintf(head, sizeof head,
                       "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n",
                       line, token, more);
    send_all(fd, head, (size_t)len);
    text[0] = 0;
    read_more(fd, text, size);
    return fd;
}

static int device(const char *token, char *text, size_t size)
{
    return request("/device", token,
                   "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                   text, size);
}

static void nobody_gets_in_without_a_token(void)
{
    char text[4096];
    close(device("nonsense", text, sizeof text));
    CHECK_HAS(text, "HTTP/1.1 401");
    /* A user's token is not a device's, and the other way round. */
    close(device(users[0].token, text, sizeof text));
    CHECK_HAS(text, "HTTP/1.1 401");
    close(request("/events?topic=readings.boiler", inventory[0].token, "", text, sizeof text));
    CHECK_HAS(text, "HTTP/1.1 401");
    close(request("/readings/boiler", "", "", text, sizeof text));
    CHECK_HAS(text, "HTTP/1.1 401");
    CHECK(gateway.devices[0].peer == 0);
}

static void a_user_sees_its_own_devices_and_no_others(void)
{
    char text[4096], ada[8192];
    close(request("/events?topic=readings.garage", users[0].token, "", text, sizeof text));
    CHECK_HAS(text, "HTTP/1.1 403");
    close(request("/events?topic=readings.boiler&topic=presence.garage", users[0].token, "", text,
                  sizeof text));
    CHECK_HAS(text, "HTTP/1.1 403");
    close(request("/readings/garage", users[0].token, "", text, sizeof text));
    CHECK_HAS(text, "HTTP/1.1 404");
    close(request("/readings/nothing", users[0].token, "", text, sizeof text));
    CHECK_HAS(text, "HTTP/1.1 404");

    int stream = request("/events?topic=readings.boiler&topic=presence.boiler", users[0].token, "",
                         ada, sizeof ada);
    CHECK_HAS(ada, "HTTP/1.1 200");
    int boiler = device(inventory[0].token, text, sizeof text);
    CHECK_HAS(text, "HTTP/1.1 101");
    CHECK(gateway.devices[0].peer != 0);
    char address[64];
    CHECK(heartwheel_identity(gateway.server, gateway.devices[0].peer, address, 64) == 6);
    CHECK(strcmp(address, "boiler") == 0);
    read_more(stream, ada, sizeof ada);
    CHECK_HAS(ada, "event: presence.boiler");
    CHECK_HAS(ada, "data: online");
    for (int i = 0; i < KEPT + 2; i++) {
        char reading[8];
        snprintf(reading, sizeof reading, "%d.5", i);
        send_text(boiler, reading);
    }
    read_more(stream, ada, sizeof ada);
    CHECK_HAS(ada, "data: 0.5");
    CHECK_HAS(ada, "data: 9.5");
    close(request("/readings/boiler", users[0].token, "", text, sizeof text));
    CHECK_HAS(text, "{\"online\":true,\"count\":10,\"newest\":[\"2.5\",\"3.5\"");

    /* The browser goes away and comes back: what it missed comes first. */
    char *id = NULL, *next = ada, last[64] = "Last-Event-ID: ";
    while ((next = strstr(next, "id: ")) != NULL)
        id = next, next += 4;
    CHECK(id != NULL);
    strncat(last, id + 4, strcspn(id + 4, "\r\n"));
    strcat(last, "\r\n");
    close(stream);
    settle_gateway();
    send_text(boiler, "77");
    settle_gateway();
    stream = request("/events?topic=readings.boiler", users[0].token, last, ada, sizeof ada);
    CHECK_HAS(ada, "data: 77");
    CHECK(strstr(ada, "data: 9.5") == NULL);
    close(stream);

    /* What is no number is no reading. */
    send_text(boiler, "77 degrees");
    settle_gateway();
    CHECK(gateway.devices[0].count == 11);
    char frame[64] = "";
    ssize_t len = recv(boiler, frame, sizeof frame - 1, MSG_DONTWAIT);
    CHECK(len > 4 && memcmp(frame + 4, "a reading is a number", 21) == 0);
    send_frame(boiler, 8, "\x03\xf0", 2);
    close(boiler);
    settle_gateway();
    CHECK(gateway.devices[0].peer == 0);
}

static void a_device_that_dies_is_offline_and_one_that_comes_again_is_one(void)
{
    char text[4096], bob[8192];
    int stream = request("/events?topic=presence.garage", users[1].token, "", bob, sizeof bob);
    int garage = device(inventory[2].token, text, sizeof text);
    heartwheel_peer first = gateway.devices[2].peer;
    CHECK(first != 0);
    /* The second connection of the same device takes the place of the first. */
    int again = device(inventory[2].token, text, sizeof text);
    heartwheel_peer second = gateway.devices[2].peer;
    CHECK(second != 0 && second != first);
    reset(garage);
    settle_gateway();
    CHECK(gateway.devices[2].peer == second);
    read_more(stream, bob, sizeof bob);
    CHECK_HAS(bob, "data: online");
    CHECK(strstr(bob, "data: offline") == NULL);
    /* It answers no ping: after its heartbeats it is gone, two minutes pass at once. */
    bob[0] = 0;
    pass(120000);
    CHECK(gateway.devices[2].peer == 0);
    read_more(stream, bob, sizeof bob);
    CHECK_HAS(bob, "data: offline");
    close(again);
    close(stream);
}

static void the_end_is_told_to_all(void)
{
    char text[4096];
    int pump = device(inventory[1].token, text, sizeof text), code;
    CHECK(gateway.devices[1].peer != 0);
    CHECK_IS(heartwheel_drain(gateway.server), HEARTWHEEL_OK);
    pass(3000);
    char frame[128];
    ssize_t len = recv(pump, frame, sizeof frame, MSG_DONTWAIT);
    CHECK(len > 10 && memcmp(frame + 2, "\x03\xe9retry=", 8) == 0);
    send_frame(pump, 8, "\x03\xe9", 2);
    close(pump);
    int64_t began = now_us();
    while ((code = heartwheel_turn(gateway.server)) == HEARTWHEEL_OK) {
        gateway_handle_events(&gateway);
        clock_ms += 1000;
        CHECK_IS(heartwheel_set_clock(gateway.server, clock_ms), HEARTWHEEL_OK);
        CHECK(now_us() - began < PATIENCE_MS * 1000);
    }
    CHECK_IS(code, HEARTWHEEL_DONE);
    gateway_handle_events(&gateway);
    CHECK(gateway.devices[1].peer == 0);
}

int main(void)
{
    int64_t began = now_us();
    CHECK(gateway_new(&gateway, NULL));
    CHECK_IS(heartwheel_set_clock(gateway.server, clock_ms), HEARTWHEEL_OK);
    port = heartwheel_listen(gateway.server, "127.0.0.1:0");
    CHECK(port > 0);
    nobody_gets_in_without_a_token();
    a_user_sees_its_own_devices_and_no_others();
    a_device_that_dies_is_offline_and_one_that_comes_again_is_one();
    the_end_is_told_to_all();
    heartwheel_free(gateway.server);
    printf("table: ok, in %d ms\n", (int)((now_us() - began) / 1000));
    return 0;
}
