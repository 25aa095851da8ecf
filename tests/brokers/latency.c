/* How much later an event arrives that goes through a bridge: publishes COUNT messages to the broker
 * itself and as many to a server whose bridge passes them on, in turns, one at a time and with a rest
 * between, and prints the medians and the 99th percentiles of both in microseconds.
 *
 *   latency BROKER_PORT SERVER_PORT COUNT
 */
#include <arpa/inet.h>
#include <mosquitto.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 200, REST_US = 2000 };

static bool subscribed;
static int arrived;

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void fail(const char *what) {
    fprintf(stderr, "latency: %s\n", what);
    exit(1);
}

static void on_message(struct mosquitto *client, void *host, const struct mosquitto_message *message) {
    (void)client, (void)host, (void)message;
    arrived++;
}

static void on_subscribe(struct mosquitto *client, void *host, int id, int count, const int *granted) {
    (void)client, (void)host, (void)id, (void)count, (void)granted;
    subscribed = true;
}

static struct mosquitto *connected(int port) {
    struct mosquitto *client = mosquitto_new(NULL, true, NULL);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    if (mosquitto_connect(client, "127.0.0.1", port, 60) != MOSQ_ERR_SUCCESS) fail("no broker");
    return client;
}

static int connected_plainly(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int wire = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(wire, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(wire, (struct sockaddr *)&address, sizeof address) != 0) fail("no server");
    return wire;
}

static int by_size(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int count = atoi(argv[3]);
    double *took[2] = {calloc((size_t)count, sizeof(double)), calloc((size_t)count, sizeof(double))};
    char payload[BYTES], request[BYTES + 200], answer[1024];
    memset(payload, 'x', sizeof payload);
    int length = snprintf(request, sizeof request,
                          "POST /topics/load HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
                          "Content-Length: %d\r\n\r\n%.*s", BYTES, BYTES, payload);
    mosquitto_lib_init();
    struct mosquitto *reader = connected(atoi(argv[1])), *writer = connected(atoi(argv[1]));
    int wire = connected_plainly(atoi(argv[2]));
    mosquitto_message_callback_set(reader, on_message);
    mosquitto_subscribe_callback_set(reader, on_subscribe);
    if (mosquitto_subscribe(reader, NULL, "load", 0) != MOSQ_ERR_SUCCESS) fail("no subscription");
    while (!subscribed)
        if (mosquitto_loop(reader, 1000, 1) != MOSQ_ERR_SUCCESS) fail("the reader was ended");
    for (int n = 0; n < 2 * count; n++) {
        double begun = now_us();
        if (n % 2 == 0) {
            if (mosquitto_publish(writer, NULL, "load", BYTES, payload, 1, false) != MOSQ_ERR_SUCCESS)
                fail("the writer was ended");
        } else if (write(wire, request, (size_t)length) != length) {
            fail("the server has ended");
        }
        for (int before = arrived; arrived == before;) {
            if (now_us() - begun > 5e6) fail("nothing arrives");
            if (mosquitto_loop(reader, 1000, 1) != MOSQ_ERR_SUCCESS) fail("the reader was ended");
        }
        took[n % 2][n / 2] = now_us() - begun;
        if (n % 2 == 0)
            mosquitto_loop(writer, 1000, 1);
        else if (read(wire, answer, sizeof answer) <= 0 || memcmp(answer, "HTTP/1.1 200", 12) != 0)
            fail("the server has not taken it");
        usleep(REST_US);
    }
    for (int which = 0; which < 2; which++) {
        qsort(took[which], (size_t)count, sizeof(double), by_size);
        printf("%.0f %.0f\n", took[which][count / 2], took[which][count * 99 / 100]);
    }
    return 0;
}
