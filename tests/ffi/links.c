/* Clients of a host, on the handle of the server that they connect to, and on one without. */
#include "check.h"

static heartwheel *server;
static heartwheel *other;

static void wait_a_little(void)
{
    struct pollfd fds[2] = {{heartwheel_fd(server), POLLIN, 0}, {heartwheel_fd(other), POLLIN, 0}};
    poll(fds, 2, 10);
    CHECK(heartwheel_turn(server) >= 0);
    CHECK(heartwheel_turn(other) >= 0);
}

/* Waits for an event of this kind of a client, and passes over all others; what peers say to the
 * server comes back to them. */
static heartwheel_event expect_of(heartwheel *handle, heartwheel_peer client, uint32_t kind)
{
    int64_t until = now_us() + PATIENCE_MS * 1000;
    while (now_us() < until) {
        heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
        while (heartwheel_next_event(handle, &event) == HEARTWHEEL_OK) {
            if (event.peer == client && event.kind == kind)
                return event;
            if (event.peer != client && event.kind == HEARTWHEEL_TEXT)
                heartwheel_send_text(handle, event.peer, (const char *)event.data, event.len);
        }
        heartwheel_event own = {sizeof own, 0, 0, 0, 0, NULL, 0, 0};
        while (handle != server && heartwheel_next_event(server, &own) == HEARTWHEEL_OK)
            if (own.kind == HEARTWHEEL_TEXT)
                heartwheel_send_text(server, own.peer, (const char *)own.data, own.len);
        wait_a_little();
    }
    fprintf(stderr, "no event of kind %u\n", kind);
    exit(1);
}

static void expect_state(heartwheel *handle, heartwheel_peer client, const char *state)
{
    heartwheel_event event;
    do
        event = expect_of(handle, client, HEARTWHEEL_STATE);
    while (event.len != strlen(state) || memcmp(event.data, state, event.len) != 0);
}

static void echoes(heartwheel *handle, const char *url)
{
    heartwheel_peer client = 0;
    CHECK_IS(heartwheel_connect(handle, url, NULL, 0, &client), HEARTWHEEL_OK);
    CHECK(client != 0);
    CHECK_IS(heartwheel_send_text(handle, client, "early", 5), HEARTWHEEL_E_GONE);
    expect_state(handle, client, "open");
    CHECK_IS(heartwheel_send_text(handle, client, "hello", 5), HEARTWHEEL_OK);
    heartwheel_event event = expect_of(handle, client, HEARTWHEEL_TEXT);
    CHECK(event.len == 5 && memcmp(event.data, "hello", 5) == 0);
    CHECK_IS(heartwheel_subscribe(handle, client, "a"), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_close(handle, client, 1000), HEARTWHEEL_OK);
    expect_state(handle, client, "stopped");
    CHECK_IS(heartwheel_send_text(handle, client, "late", 4), HEARTWHEEL_E_GONE);
    CHECK_IS(heartwheel_close(handle, client, 1000), HEARTWHEEL_E_GONE);
}

static void topics(heartwheel *handle, const char *url)
{
    heartwheel_peer client = 0;
    CHECK_IS(heartwheel_connect(handle, url, "no token is asked for", HEARTWHEEL_CONNECT_TOPICS, &client),
             HEARTWHEEL_OK);
    CHECK_IS(heartwheel_subscribe(handle, client, "doors"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_subscribe(handle, client, "no topic"), HEARTWHEEL_E_ARGUMENT);
    expect_state(handle, client, "open");
    uint64_t reference = 99;
    CHECK_IS(heartwheel_publish_to(handle, client, "doors", "open", 4, &reference), HEARTWHEEL_OK);
    CHECK_IS(reference, 0);
    char topic[129], id[42], published[42];
    heartwheel_event event = expect_of(handle, client, HEARTWHEEL_PUBLISHED);
    CHECK_IS(event.token, 0);
    CHECK(heartwheel_event_id(handle, published, sizeof published) > 2);
    CHECK_IS(heartwheel_event_topic(handle, topic, sizeof topic), HEARTWHEEL_E_NONE);
    event = expect_of(handle, client, HEARTWHEEL_TOPIC_TEXT);
    CHECK(event.len == 4 && memcmp(event.data, "open", 4) == 0);
    CHECK_IS(heartwheel_event_topic(handle, topic, sizeof topic), 5);
    CHECK(strcmp(topic, "doors") == 0);
    CHECK(heartwheel_event_id(handle, id, sizeof id) > 2);
    CHECK(strcmp(id, published) == 0);
    CHECK_IS(heartwheel_publish_binary_to(handle, client, "doors", "\0\377", 2, &reference),
             HEARTWHEEL_OK);
    CHECK_IS(reference, 1);
    event = expect_of(handle, client, HEARTWHEEL_TOPIC_BINARY);
    CHECK(event.len == 2 && memcmp(event.data, "\0\377", 2) == 0);
    CHECK_IS(heartwheel_publish_binary_to(handle, client, "doors", NULL, 2, NULL), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_publish_to(handle, client, "$own", "x", 1, NULL), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_unsubscribe(handle, client, "doors"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_close(handle, client, 1000), HEARTWHEEL_OK);
    expect_state(handle, client, "stopped");
}

int main(void)
{
    host host = host_new("[client]\ndelay = \"10ms\"", "/echo");
    server = host.server;
    CHECK_IS(heartwheel_route_hub(server, "/ws"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_new(NULL, &other), HEARTWHEEL_OK);
    char echo[64], hub[64];
    snprintf(echo, sizeof echo, "ws://127.0.0.1:%d/echo", host.port);
    snprintf(hub, sizeof hub, "ws://127.0.0.1:%d", host.port);
    heartwheel_peer client = 7;
    const char *bad[] = {"", "127.0.0.1", "ftp://a", "ws://a b", "ws://a/#b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_IS(heartwheel_connect(server, bad[i], NULL, 0, &client), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_connect(server, echo, "a\r\nb", 0, &client), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_connect(server, echo, NULL, 2, &client), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_connect(server, echo, NULL, 0, NULL), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(client, 7);
    echoes(server, echo);
    echoes(other, echo);
    topics(server, hub);
    topics(other, hub);
    /* A server that is gone is tried again and again; the handle may go meanwhile. */
    CHECK_IS(heartwheel_connect(other, echo, NULL, 0, &client), HEARTWHEEL_OK);
    expect_state(other, client, "open");
    heartwheel_free(server);
    heartwheel_new(NULL, &server);
    heartwheel_event event;
    do
        event = expect_of(other, client, HEARTWHEEL_STATE);
    while (memcmp(event.data, "waiting", 7 < event.len ? 7 : event.len) != 0);
    CHECK_IS(event.close_code, 1006);
    heartwheel_free(other);
    heartwheel_free(server);
    return 0;
}
