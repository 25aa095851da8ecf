/*
 * What a host pays: its own timer of 10 ms, on a descriptor of its own, while clients are idle and
 * while they flood it. Arguments: how many clients there will be, and for how many milliseconds the
 * host stays idle, and is then flooded. One line of figures for each: late is how late the timer
 * was seen to, whoever else used the machine; a turn is measured in CPU time.
 */
#include "check.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/timerfd.h>

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int64_t cpu_us(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * (int64_t)1000000 + used.ru_utime.tv_usec
           + used.ru_stime.tv_usec;
}

static int threads(void)
{
    int count = -2;
    DIR *tasks = opendir("/proc/self/task");
    while (readdir(tasks) != NULL)
        count++;
    closedir(tasks);
    return count;
}

/* The CPU time of this thread: what a turn takes, whoever else uses the machine. */
static int64_t own_us(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

static heartwheel *server;
static long opened, closed, messages;

/* One round of the host's loop; gives the CPU time of the turn and its events. */
static int64_t go_round(struct pollfd *watched, int count, int wait_ms)
{
    int64_t wait = heartwheel_next_timeout_ms(server);
    poll(watched, (nfds_t)count, wait < 0 || wait > wait_ms ? wait_ms : (int)wait);
    int64_t began = own_us();
    CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
        opened += event.kind == HEARTWHEEL_OPENED;
        closed += event.kind == HEARTWHEEL_CLOSED;
        if (event.kind == HEARTWHEEL_BINARY) {
            messages++;
            heartwheel_send_binary(server, event.peer, event.data, event.len);
        }
    }
    return own_us() - began;
}

int main(int argc, char **argv)
{
    CHECK_IS(argc, 4);
    long clients = atol(argv[1]);
    int64_t idle_us = atol(argv[2]) * 1000, flood_us = atol(argv[3]) * 1000;
    CHECK_IS(heartwheel_new("[turn]\nevents = 64\nbytes = \"16k\"\n[limits]\nconnections = 5000",
                            &server),
             HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_websocket(server, "/echo"), HEARTWHEEL_OK);
    printf("listening on port %d\n", heartwheel_listen(server, "127.0.0.1:0"));
    fflush(stdout);
    struct pollfd watched[2] = {{heartwheel_fd(server), POLLIN, 0}, {-1, POLLIN, 0}};
    while (opened < clients)
        go_round(watched, 1, 1000);
    go_round(watched, 1, 0);

    int64_t began = now_us(), cpu = cpu_us();
    long rounds = 0;
    while (now_us() - began < idle_us) {
        go_round(watched, 1, (int)((idle_us - (now_us() - began)) / 1000) + 1);
        rounds++;
    }
    printf("idle clients=%ld threads=%d ms=%" PRId64 " cpu_us=%" PRId64 " rounds=%ld\n", opened,
           threads() - 1, (now_us() - began) / 1000, cpu_us() - cpu, rounds);
    fflush(stdout);

    while (messages == 0)
        go_round(watched, 1, 1000);
    static int64_t late[100000];
    int64_t longest = 0, turns_us = 0;
    long ticks = 0, turns = 0, before = messages;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    now.tv_sec += 1;
    int64_t due = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    struct itimerspec every = {{0, 10000000}, now};
    CHECK_IS(timerfd_settime(timer, TFD_TIMER_ABSTIME, &every, NULL), 0);
    watched[1].fd = timer;
    began = now_us();
    while (now_us() - began < flood_us && ticks < 100000) {
        int64_t took = go_round(watched, 2, 1000);
        uint64_t count;
        if (due - now_us() < 500000) {
            longest = took > longest ? took : longest;
            turns_us += took;
            turns++;
        }
        if (watched[1].revents != 0 && read(timer, &count, sizeof count) == sizeof count) {
            /* All that came due meanwhile was late, the first of them most. */
            for (uint64_t i = 0; i < count && ticks < 100000; i++) {
                late[ticks++] = now_us() - due;
                due += 10000;
            }
        }
    }
    CHECK(ticks > 0);
    qsort(late, (size_t)ticks, sizeof *late, compare);
    printf("flood messages=%ld ticks=%ld late_p50_us=%" PRId64 " late_p99_us=%" PRId64
           " late_max_us=%" PRId64 " turn_max_us=%" PRId64 " turn_mean_us=%" PRId64 " closed=%ld\n",
           messages - before, ticks, late[ticks / 2], late[ticks * 99 / 100], late[ticks - 1],
           longest, turns_us / (turns + !turns), closed);
    heartwheel_free(server);
    return 0;
}
