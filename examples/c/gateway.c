/*
 * A gateway with a table in memory: devices send readings, browsers see those of their own devices.
 *
 *     ws://127.0.0.1:8765/device    a device; each text that it sends is a reading, a number
 *     /events?topic=readings.boiler an event stream; it resumes with Last-Event-ID
 *     /readings/boiler              the newest readings of a device from the table, as JSON
 *
 * All three take a token: "Authorization: Bearer TOKEN", or "access_token=TOKEN" in the query.
 * Topics: "readings.NAME", and "presence.NAME", which is "online" or "offline". A device is known by
 * its token and a user by another; a user may watch the devices that it owns and no others.
 * SIGTERM ends the gateway gracefully: devices and browsers are told when to come back.
 */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heartwheel.h"

enum { DEVICES = 3, USERS = 2, KEPT = 8, READING_MAX = 64, NAME_MAX_BYTES = 32 };

/* A row of the table: what a device is, who owns it, and its newest readings. */
struct device {
    const char *name, *token, *owner;
    heartwheel_peer peer; /* 0: it is not there */
    unsigned long count;  /* of all its readings; the newest are kept */
    char readings[KEPT][READING_MAX + 1];
};

struct user {
    const char *name, *token;
};

struct gateway {
    heartwheel *server;
    struct device devices[DEVICES];
};

static const struct user users[USERS] = {{"ada", "ada-3f9c52d1"}, {"bob", "bob-a06e77b4"}};

static const struct device inventory[DEVICES] = {
    {.name = "boiler", .token = "boiler-51f0c7a2", .owner = "ada"},
    {.name = "pump", .token = "pump-9d24e8b3", .owner = "ada"},
    {.name = "garage", .token = "garage-c47a1e60", .owner = "bob"},
};

/* Compares without stopping at the first difference: the time it takes tells nothing. */
static int is_same(const char *given, const char *token)
{
    size_t len = strlen(token);
    unsigned char difference = strlen(given) != len;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)(given[strlen(given) > i ? i : 0] ^ token[i]);
    return difference == 0;
}

/* Finds the token that a request bears: in Authorization, or, since a browser's EventSource sends
 * no such header, in the query. */
static int find_token(heartwheel *server, heartwheel_peer peer, char *token, size_t size)
{
    char line[128];
    int len = heartwheel_header(server, peer, "Authorization", line, sizeof line);
    if (len >= 0 && len < (int)sizeof line && strncmp(line, "Bearer ", 7) == 0)
        return snprintf(token, size, "%s", line + 7) < (int)size;
    len = heartwheel_query_value(server, peer, "access_token", token, size);
    return len >= 0 && len < (int)size;
}

static struct device *device_by_name(struct gateway *gateway, const char *name)
{
    for (int i = 0; i < DEVICES; i++)
        if (strcmp(gateway->devices[i].name, name) == 0)
            return &gateway->devices[i];
    return NULL;
}

static struct device *device_by_token(struct gateway *gateway, const char *token)
{
    struct device *found = NULL;
    for (int i = 0; i < DEVICES; i++)
        if (is_same(token, gateway->devices[i].token))
            found = &gateway->devices[i];
    return found;
}

static const struct user *user_by_token(const char *token)
{
    const struct user *found = NULL;
    for (const struct user *user = users; user < users + USERS; user++)
        if (is_same(token, user->token))
            found = user;
    return found;
}

/* Lets a device or a user in, as whom its token says, and to its own topics alone. */
static void let_in(struct gateway *gateway, const heartwheel_event *event)
{
    heartwheel *server = gateway->server;
    char token[64], topics[DEVICES * 2 * (NAME_MAX_BYTES + 12)];
    if (!find_token(server, event->peer, token, sizeof token)) {
        heartwheel_refuse(server, event->peer, 401, "this takes a token");
        return;
    }
    if (event->len == 7 && memcmp(event->data, "/device", 7) == 0) {
        const struct device *device = device_by_token(gateway, token);
        if (device == NULL)
            heartwheel_refuse(server, event->peer, 401, "this token is not a device's");
        else
            heartwheel_accept(server, event->peer, device->name, "", "", NULL);
        return;
    }
    const struct user *user = user_by_token(token);
    if (user == NULL) {
        heartwheel_refuse(server, event->peer, 401, "this token is not a user's");
        return;
    }
    size_t len = 0;
    topics[0] = 0;
    for (int i = 0; i < DEVICES; i++)
        if (strcmp(gateway->devices[i].owner, user->name) == 0)
            len += (size_t)snprintf(topics + len, sizeof topics - len, "readings.%s presence.%s ",
                                    gateway->devices[i].name, gateway->devices[i].name);
    heartwheel_accept(server, event->peer, user->name, "", topics, NULL);
}

static void tell_presence(struct gateway *gateway, const struct device *device)
{
    char topic[NAME_MAX_BYTES + 12];
    const char *state = device->peer != 0 ? "online" : "offline";
    snprintf(topic, sizeof topic, "presence.%s", device->name);
    heartwheel_publish_text(gateway->server, topic, state, strlen(state));
}

/* A device is there. If it was there already, its old connection is dead and not noticed yet. */
static void device_opened(struct gateway *gateway, heartwheel_peer peer)
{
    char name[NAME_MAX_BYTES];
    if (heartwheel_identity(gateway->server, peer, name, sizeof name) < 0)
        return;
    struct device *device = device_by_name(gateway, name);
    if (device->peer != 0)
        heartwheel_close_text(gateway->server, device->peer, 4001, "replaced", 8);
    device->peer = peer;
    heartwheel_set_user(gateway->server, peer, device);
    tell_presence(gateway, device);
}

static void device_closed(struct gateway *gateway, heartwheel_peer peer)
{
    struct device *device = heartwheel_user(gateway->server, peer);
    if (device == NULL || device->peer != peer)
        return; /* it was replaced */
    device->peer = 0;
    tell_presence(gateway, device);
}

static int is_number(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (strchr("-.0123456789", data[i]) == NULL || data[i] == 0)
            return 0;
    return len > 0 && len <= READING_MAX;
}

/* Takes a reading into the table, and publishes it. */
static void take_reading(struct gateway *gateway, const heartwheel_event *event)
{
    struct device *device = heartwheel_user(gateway->server, event->peer);
    if (device == NULL || device->peer != event->peer)
        return; /* it was replaced */
    if (!is_number(event->data, event->len)) {
        heartwheel_close_text(gateway->server, event->peer, 1008, "a reading is a number", 21);
        return;
    }
    char *row = device->readings[device->count++ % KEPT];
    memcpy(row, event->data, event->len);
    row[event->len] = 0;
    char topic[NAME_MAX_BYTES + 12];
    snprintf(topic, sizeof topic, "readings.%s", device->name);
    if (heartwheel_publish_text(gateway->server, topic, row, event->len) == HEARTWHEEL_E_FULL)
        fprintf(stderr, "%s: %s\n", topic, heartwheel_last_error(gateway->server));
}

/* Answers with the newest readings of a device, to the one who owns it. */
static void show_readings(struct gateway *gateway, const heartwheel_event *event)
{
    heartwheel *server = gateway->server;
    char path[64], owner[NAME_MAX_BYTES], json[KEPT * (READING_MAX + 3) + 64];
    heartwheel_path(server, event->peer, path, sizeof path);
    heartwheel_identity(server, event->peer, owner, sizeof owner);
    const struct device *device = device_by_name(gateway, path + strlen("/readings/"));
    if (device == NULL || strcmp(device->owner, owner) != 0) {
        /* Nobody is told which devices others have. */
        heartwheel_refuse(server, event->peer, 404, "you have no such device");
        return;
    }
    size_t len = (size_t)snprintf(json, sizeof json, "{\"online\":%s,\"count\":%lu,\"newest\":[",
                                  device->peer != 0 ? "true" : "false", device->count);
    unsigned long first = device->count > KEPT ? device->count - KEPT : 0;
    for (unsigned long i = first; i < device->count; i++)
        len += (size_t)snprintf(json + len, sizeof json - len, "%s\"%s\"", i > first ? "," : "",
                                device->readings[i % KEPT]);
    len += (size_t)snprintf(json + len, sizeof json - len, "]}\n");
    heartwheel_respond(server, event->peer, 200, "application/json", json, len);
}

/* Handles all that has come. */
static void gateway_handle_events(struct gateway *gateway)
{
    heartwheel_event event;
    event.struct_size = sizeof event;
    while (heartwheel_next_event(gateway->server, &event) == HEARTWHEEL_OK) {
        switch (event.kind) {
        case HEARTWHEEL_UPGRADE:
            let_in(gateway, &event);
            break;
        case HEARTWHEEL_REQUEST:
            show_readings(gateway, &event);
            break;
        case HEARTWHEEL_OPENED:
            device_opened(gateway, event.peer);
            break;
        case HEARTWHEEL_TEXT:
            take_reading(gateway, &event);
            break;
        case HEARTWHEEL_CLOSED:
            device_closed(gateway, event.peer);
            break;
        default:
            break; /* readings as bytes are none; the rest is of no interest here */
        }
    }
}

/* Makes the gateway, on no address yet. Returns whether that was possible. */
static int gateway_new(struct gateway *gateway, const char *toml)
{
    memcpy(gateway->devices, inventory, sizeof inventory);
    if (heartwheel_new(toml, &gateway->server) != HEARTWHEEL_OK)
        return 0;
    heartwheel *server = gateway->server;
    return heartwheel_route_websocket(server, "/device") == HEARTWHEEL_OK
           && heartwheel_route_ask(server, "/device") == HEARTWHEEL_OK
           && heartwheel_route_events(server, "/events") == HEARTWHEEL_OK
           && heartwheel_route_ask(server, "/events") == HEARTWHEEL_OK
           && heartwheel_route_request(server, "GET", "/readings/{topic}") == HEARTWHEEL_OK
           && heartwheel_route_ask(server, "/readings/{topic}") == HEARTWHEEL_OK
           && heartwheel_route_health(server) == HEARTWHEEL_OK;
}

#ifndef GATEWAY_IN_A_TEST

static volatile sig_atomic_t is_ending;
static struct gateway the_gateway;

static void end(int signal)
{
    (void)signal;
    is_ending = 1;
    heartwheel_wake(the_gateway.server);
}

int main(int argc, char **argv)
{
    struct gateway *gateway = &the_gateway;
    int port = -1;
    if (!gateway_new(gateway, NULL)
        || (port = heartwheel_listen(gateway->server, argc > 1 ? argv[1] : "127.0.0.1:8765")) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(gateway->server));
        return 1;
    }
    struct sigaction ending = {0};
    ending.sa_handler = end;
    sigaction(SIGINT, &ending, NULL);
    sigaction(SIGTERM, &ending, NULL);
    printf("listening on port %d\n", port);
    fflush(stdout);

    int code = HEARTWHEEL_OK;
    while (code == HEARTWHEEL_OK) {
        struct pollfd watched = {heartwheel_fd(gateway->server), POLLIN, 0};
        poll(&watched, 1, (int)heartwheel_next_timeout_ms(gateway->server));
        if (is_ending)
            heartwheel_drain(gateway->server); /* again and again is harmless */
        code = heartwheel_turn(gateway->server); /* HEARTWHEEL_DONE: drained */
        gateway_handle_events(gateway);
    }
    if (code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(gateway->server));
    heartwheel_free(gateway->server);
    return code == HEARTWHEEL_DONE ? 0 : 1;
}

#endif
