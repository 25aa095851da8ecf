/* A distance: packets between two network namespaces, each on its way for the same time.
 *
 *   cc -O2 -o relay relay.c
 *   ./relay MICROSECONDS NAMESPACE NAMESPACE
 *
 * Each namespace gets a TUN device `far0`; what goes into one comes out of the other that much
 * later, in its order. "ready" is printed when they are there. Nothing is lost but what finds no
 * room among QUEUE_BYTES under way in its direction; at the end, on SIGTERM, the count is printed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKET_MAX = 2048, SLOTS = 32 * 1024 };

struct packet {
    uint64_t due;
    uint32_t length;
    unsigned char bytes[PACKET_MAX];
};

/* Packets under way in one direction: a ring. */
struct way {
    int from, to;
    uint32_t first, count;
    struct packet *packets;
};

static volatile sig_atomic_t has_ended;
static unsigned long lost, carried;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void end(int signal) {
    (void)signal;
    has_ended = 1;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int device_in(const char *name) {
    char path[256];
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int namespace, device;
    snprintf(path, sizeof path, "/var/run/netns/%s", name);
    namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) != 0) fail(path);
    close(namespace);
    device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0) fail("/dev/net/tun");
    strcpy(request.ifr_name, "far0");
    if (ioctl(device, TUNSETIFF, &request) != 0) fail("TUNSETIFF");
    return device;
}

static void take_in(struct way *way, uint64_t delay) {
    for (int budget = 256; budget > 0; budget--) {
        unsigned char spare[PACKET_MAX];
        int is_full = way->count == SLOTS;
        struct packet *packet = &way->packets[(way->first + way->count) % SLOTS];
        ssize_t length = read(way->from, is_full ? spare : packet->bytes, PACKET_MAX);
        if (length <= 0) return;
        if (is_full) {
            lost++;
            continue;
        }
        packet->due = now() + delay;
        packet->length = (uint32_t)length;
        way->count++;
    }
}

/* Gives the nanoseconds until the next packet is due, or `most`. */
static uint64_t let_out(struct way *way, uint64_t most) {
    while (way->count > 0) {
        struct packet *packet = &way->packets[way->first];
        uint64_t time = now();
        if (packet->due > time) return packet->due - time < most ? packet->due - time : most;
        /* A device that takes nothing has no room: then a router loses it, too. */
        if (write(way->to, packet->bytes, packet->length) < 0) lost++; else carried++;
        way->first = (way->first + 1) % SLOTS;
        way->count--;
    }
    return most;
}

int main(int count, char **words) {
    struct way ways[2] = {{0}};
    struct sigaction action = {.sa_handler = end};
    uint64_t delay;
    if (count != 4) return 2;
    delay = strtoull(words[1], NULL, 10) * 1000;
    ways[0].from = ways[1].to = device_in(words[2]);
    ways[1].from = ways[0].to = device_in(words[3]);
    for (int way = 0; way < 2; way++) {
        ways[way].packets = malloc(SLOTS * sizeof(struct packet));
        if (ways[way].packets == NULL) fail("malloc");
    }
    sigaction(SIGTERM, &action, NULL);
    puts("ready");
    fflush(stdout);
    while (!has_ended) {
        struct pollfd devices[2] = {{ways[0].from, POLLIN, 0}, {ways[1].from, POLLIN, 0}};
        uint64_t wait = 1000000000u;
        struct timespec span;
        for (int way = 0; way < 2; way++) wait = let_out(&ways[way], wait);
        span.tv_sec = (time_t)(wait / 1000000000u);
        span.tv_nsec = (long)(wait % 1000000000u);
        if (ppoll(devices, 2, &span, NULL) < 0 && errno != EINTR) fail("ppoll");
        for (int way = 0; way < 2; way++) take_in(&ways[way], delay);
    }
    fprintf(stderr, "carried %lu packets, lost %lu\n", carried, lost);
    return 0;
}
