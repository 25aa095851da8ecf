/* A client of MQTT in C: publishes COUNT messages of 200 bytes with quality 1, 20 of them at most
 * without an acknowledgement, and prints how many seconds passed until the last one. By libmosquitto,
 * with the same socket options as a bridge: without Nagle's delay. */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WINDOW = 20, BYTES = 200 };

static int acknowledged, sent, count;
static char payload[BYTES];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fill(struct mosquitto *client) {
    while (sent < count && sent - acknowledged < WINDOW) {
        if (mosquitto_publish(client, NULL, "load", BYTES, payload, 1, false) != MOSQ_ERR_SUCCESS)
            exit(1);
        sent++;
    }
}

static void on_publish(struct mosquitto *client, void *host, int id) {
    (void)host, (void)id;
    acknowledged++;
    fill(client);
}

static void on_connect(struct mosquitto *client, void *host, int code) {
    (void)host;
    if (code != 0) exit(1);
    fill(client);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    count = atoi(argv[2]);
    memset(payload, 'x', sizeof payload);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(NULL, true, NULL);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_int_option(client, MOSQ_OPT_SEND_MAXIMUM, WINDOW);
    mosquitto_publish_callback_set(client, on_publish);
    mosquitto_connect_callback_set(client, on_connect);
    double begun = now();
    if (mosquitto_connect(client, "127.0.0.1", atoi(argv[1]), 60) != MOSQ_ERR_SUCCESS) return 1;
    while (acknowledged < count && mosquitto_loop(client, 1000, 1) == MOSQ_ERR_SUCCESS) {}
    if (acknowledged < count) return 1;
    printf("%.6f\n", now() - begun);
    return 0;
}
