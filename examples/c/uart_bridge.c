/*
 * A serial line on the web: each line that the device sends is an event of the topic "uart", which
 * browsers watch (GET /topics/uart, a WebSocket or an event stream), and what clients send on
 * ws://127.0.0.1:8765/uart is written to the device, a message a line.
 *
 *     uart_bridge /dev/ttyUSB0 127.0.0.1:8765
 *
 * Nothing here grows. While the device takes nothing, no event is pulled: what clients send waits in
 * their inboxes, and then with them. The topic "uart.state" says whether the device is there; one
 * that was unplugged is looked for each second. Until SIGTERM or SIGINT.
 */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "heartwheel.h"

enum { LINE_MAX_BYTES = 256, RETRY_MS = 1000 };

static volatile sig_atomic_t is_ending;
static heartwheel *server;

/* The device: its descriptor or -1, what has come of a line, what it has not taken yet. */
static struct {
    const char *name;
    int fd;
    long long look_at; /* when to look for it again */
    char in[LINE_MAX_BYTES], out[LINE_MAX_BYTES + 1];
    size_t in_len, out_len;
    int is_too_long; /* the rest of this line is dropped */
} uart;

static void end(int signal)
{
    (void)signal;
    is_ending = 1;
    heartwheel_wake(server);
}

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void tell_state(const char *state)
{
    heartwheel_publish_text(server, "uart.state", state, strlen(state));
}

static void lose_uart(void)
{
    if (uart.fd >= 0) {
        close(uart.fd);
        tell_state("gone");
    }
    uart.fd = -1;
    uart.in_len = uart.out_len = 0;
    uart.is_too_long = 0;
    uart.look_at = now_ms() + RETRY_MS;
}

static void find_uart(void)
{
    struct termios line;
    uart.fd = open(uart.name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (uart.fd < 0 || tcgetattr(uart.fd, &line) < 0) {
        int fd = uart.fd;
        uart.fd = -1;
        if (fd >= 0)
            close(fd);
        lose_uart();
        return;
    }
    cfmakeraw(&line);
    cfsetspeed(&line, B115200);
    line.c_cflag |= CLOCAL | CREAD;
    tcsetattr(uart.fd, TCSANOW, &line);
    tell_state("there");
}

/* Publishes a line. What is not UTF-8 is an event of bytes. HEARTWHEEL_E_FULL: more is published
 * than turns deliver, and this line is lost; a sensor's next is as good. */
static void publish_line(void)
{
    if (heartwheel_publish_text(server, "uart", uart.in, uart.in_len) == HEARTWHEEL_E_ARGUMENT)
        heartwheel_publish_binary(server, "uart", uart.in, uart.in_len);
}

static void read_uart(void)
{
    char bytes[1024];
    ssize_t len = read(uart.fd, bytes, sizeof bytes);
    if (len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR)) {
        lose_uart();
        return;
    }
    for (ssize_t i = 0; i < len; i++) {
        if (bytes[i] == '\n') {
            if (!uart.is_too_long)
                publish_line();
            uart.in_len = 0;
            uart.is_too_long = 0;
        } else if (bytes[i] != '\r' && !uart.is_too_long) {
            if (uart.in_len == sizeof uart.in)
                uart.is_too_long = 1;
            else
                uart.in[uart.in_len++] = bytes[i];
        }
    }
}

static void write_uart(void)
{
    ssize_t len = write(uart.fd, uart.out, uart.out_len);
    if (len > 0) {
        memmove(uart.out, uart.out + len, uart.out_len - (size_t)len);
        uart.out_len -= (size_t)len;
    } else if (len < 0 && errno != EAGAIN && errno != EINTR) {
        lose_uart();
    }
}

/* Pulls events as long as there is room for the line that one may bear. */
static void pull_events(void)
{
    heartwheel_event event;
    event.struct_size = sizeof event;
    while (uart.out_len == 0 && heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
        if (event.kind != HEARTWHEEL_TEXT && event.kind != HEARTWHEEL_BINARY)
            continue;
        if (uart.fd < 0) {
            heartwheel_close_text(server, event.peer, 1013, "no device", 9);
            continue;
        }
        /* limits.message_bytes has seen to it that there is room. */
        memcpy(uart.out, event.data, event.len);
        uart.out[event.len] = '\n';
        uart.out_len = event.len + 1;
        write_uart();
    }
}

int main(int argc, char **argv)
{
    char toml[64];
    int port = -1;
    if (argc < 2) {
        fprintf(stderr, "usage: uart_bridge DEVICE [ADDRESS]\n");
        return 2;
    }
    uart.name = argv[1];
    uart.fd = -1;
    snprintf(toml, sizeof toml, "[limits]\nmessage_bytes = %d", LINE_MAX_BYTES);
    if (heartwheel_new(toml, &server) != HEARTWHEEL_OK
        || heartwheel_route_websocket(server, "/uart") != HEARTWHEEL_OK
        || heartwheel_route_topics(server, "/topics/{topic}") != HEARTWHEEL_OK
        || (port = heartwheel_listen(server, argc > 2 ? argv[2] : "127.0.0.1:8765")) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
        return 1;
    }
    struct sigaction ending = {0};
    ending.sa_handler = end;
    sigaction(SIGINT, &ending, NULL);
    sigaction(SIGTERM, &ending, NULL);
    find_uart();
    printf("listening on port %d\n", port);
    fflush(stdout);

    int code = HEARTWHEEL_OK;
    while (code == HEARTWHEEL_OK) {
        struct pollfd watched[2] = {{heartwheel_fd(server), POLLIN, 0}, {uart.fd, POLLIN, 0}};
        long long wait = heartwheel_next_timeout_ms(server), own = uart.look_at - now_ms();
        if (uart.out_len > 0)
            watched[1].events |= POLLOUT;
        if (uart.fd < 0 && (wait < 0 || own < wait))
            wait = own < 0 ? 0 : own;
        poll(watched, 2, (int)wait);

        if (is_ending)
            heartwheel_drain(server); /* again and again is harmless */
        if (watched[1].revents & POLLOUT)
            write_uart();
        if (uart.fd >= 0 && watched[1].revents & (POLLIN | POLLHUP | POLLERR))
            read_uart();
        if (uart.fd < 0 && now_ms() >= uart.look_at)
            find_uart();
        code = heartwheel_turn(server); /* HEARTWHEEL_DONE: drained */
        pull_events();
    }
    if (code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(server));
    if (uart.fd >= 0)
        close(uart.fd);
    heartwheel_free(server);
    return code == HEARTWHEEL_DONE ? 0 : 1;
}
