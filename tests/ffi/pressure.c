/*
 * Backpressure both ways. A host that pulls nothing: its peers are not read beyond their inboxes,
 * memory stays, the loop sleeps, and not a message is lost. A peer that reads nothing: the host is
 * told HEARTWHEEL_E_FULL, and HEARTWHEEL_DRAINED when there is room.
 */
#include "check.h"

/* The memory of this process, in bytes. */
static long memory(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL);
    CHECK_IS(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* Sends messages of len bytes, each with its number, until the kernel takes no more for a while.
 * The server turns and pulls nothing. Gives how many messages were sent whole; the rest of the last
 * one is kept in rest. */
static int stuff(heartwheel *server, int fd, size_t len, uint8_t *rest, size_t *rest_len, int *turns)
{
    uint8_t *frame = malloc(len + 14);
    char *message = calloc(1, len);
    CHECK(frame != NULL && message != NULL);
    int sent = 0, idle = 0;
    size_t left = 0, size = 0;
    while (idle < 20) {
        if (left == 0) {
            memcpy(message, &sent, sizeof sent);
            left = size = put_frame(frame, 2, message, len);
        }
        ssize_t took = send(fd, frame + size - left, left, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (took > 0) {
            left -= (size_t)took;
            sent += left == 0;
            idle = 0;
        } else {
            CHECK_IS(errno, EAGAIN);
            idle++;
        }
        int64_t wait = heartwheel_next_timeout_ms(server);
        if (is_ready(server, wait == 0 || took > 0 ? 0 : 10) || wait == 0) {
            CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
            ++*turns;
        }
    }
    memcpy(rest, frame + size - left, left);
    *rest_len = left;
    free(frame);
    free(message);
    return sent + (left > 0);
}

static void a_host_that_pulls_nothing_is_not_flooded(void)
{
    enum { PEERS = 20, LEN = 1000, INBOX = 64 * 1024 };
    host host = host_new("[limits]\ninbox_messages = 64\ninbox_bytes = \"64k\"", "/echo");
    heartwheel *server = host.server;
    heartwheel_peer peers[PEERS];
    int fds[PEERS], sent[PEERS], got[PEERS] = {0}, turns = 0;
    static uint8_t rest[PEERS][LEN + 14];
    size_t rest_len[PEERS];
    for (int i = 0; i < PEERS; i++) {
        fds[i] = open_peer(server, host.port, "/echo", &peers[i]);
        /* What the kernel keeps is not ours, but there need not be much of it. */
        int room = 32 * 1024;
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    }
    long before = memory(), total = 0;
    for (int i = 0; i < PEERS; i++) {
        sent[i] = stuff(server, fds[i], LEN, rest[i], &rest_len[i], &turns);
        total += sent[i];
    }
    long grown = memory() - before;
    printf("%ld messages of %d bytes sent to a host that pulls nothing: %ld kB more memory, "
           "%d turns\n",
           total, LEN, grown / 1024, turns);
    /* An inbox, and what was read with it and waits to be decoded, for each. */
    CHECK(grown < PEERS * (INBOX + 64 * 1024) + 1024 * 1024);
    for (int i = 0; i < PEERS; i++)
        CHECK(sent[i] >= 64);

    /* Nothing to do, and nothing is done. */
    turns = 0;
    int64_t began = now_us();
    while (now_us() - began < 500000) {
        int64_t wait = heartwheel_next_timeout_ms(server);
        is_ready(server, wait >= 0 && wait < 100 ? (int)wait : 100);
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
        turns++;
    }
    printf("%d turns in half a second\n", turns);
    CHECK(turns <= 10);

    /* It pulls again: everything comes, each peer's in order. */
    long pulled = 0;
    int rests = PEERS;
    began = now_us();
    while (pulled < total) {
        CHECK(now_us() - began < 3 * PATIENCE_MS * 1000);
        heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
            int which = 0, number;
            CHECK_IS(event.kind, HEARTWHEEL_BINARY);
            CHECK_IS(event.len, LEN);
            while (which < PEERS && peers[which] != event.peer)
                which++;
            CHECK(which < PEERS);
            memcpy(&number, event.data, sizeof number);
            CHECK_IS(number, got[which]++);
            pulled++;
        }
        for (int i = 0; i < PEERS && rests > 0; i++) {
            ssize_t took = rest_len[i] == 0 ? 0
                                            : send(fds[i], rest[i], rest_len[i],
                                                   MSG_DONTWAIT | MSG_NOSIGNAL);
            if (took > 0) {
                rest_len[i] -= (size_t)took;
                memmove(rest[i], rest[i] + took, rest_len[i]);
            }
        }
        int64_t wait = heartwheel_next_timeout_ms(server);
        is_ready(server, wait == 0 ? 0 : 5);
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    }
    for (int i = 0; i < PEERS; i++) {
        CHECK_IS(got[i], sent[i]);
        close(fds[i]);
    }
    heartwheel_free(server);
}

static void a_peer_that_reads_nothing_is_told_of(void)
{
    enum { LEN = 4096, OUTBOX = 64 * 1024 };
    host host = host_new("[limits]\noutbox_bytes = \"64k\"", "/echo");
    heartwheel *server = host.server;
    int fd = dial(host.port, 4096);
    ask_upgrade(fd, "/echo");
    heartwheel_peer peer = expect(server, HEARTWHEEL_OPENED).peer;
    read_upgrade(server, fd);
    char *message = calloc(1, LEN);
    CHECK(message != NULL);
    long before = memory();
    int sent = 0, full = 0;
    while (full < 1000) {
        memcpy(message, &sent, sizeof sent);
        int code = heartwheel_send_binary(server, peer, message, LEN);
        if (code == HEARTWHEEL_OK) {
            CHECK(sent++ < 100000);
        } else {
            CHECK_IS(code, HEARTWHEEL_E_FULL);
            CHECK(strstr(heartwheel_last_error(server), "outbox_bytes") != NULL);
            full++;
        }
        if (full == 500)
            settle(server);
    }
    long grown = memory() - before;
    printf("%d messages of %d bytes sent to a peer that reads nothing: %ld kB more memory\n", sent,
           LEN, grown / 1024);
    CHECK(sent >= OUTBOX / LEN - 1);
    CHECK(grown < 1024 * 1024);
    CHECK(heartwheel_next_timeout_ms(server) != 0);
    /* It reads: all that was taken arrives, in order, and the host is told that there is room. */
    for (int i = 0; i < sent; i++) {
        uint8_t *data;
        size_t len;
        int number;
        CHECK_IS(read_frame(server, fd, &data, &len), 2);
        CHECK_IS(len, LEN);
        memcpy(&number, data, sizeof number);
        CHECK_IS(number, i);
        free(data);
    }
    CHECK(expect(server, HEARTWHEEL_DRAINED).peer == peer);
    CHECK_IS(heartwheel_send_text(server, peer, "again", 5), HEARTWHEEL_OK);
    expect_frame(server, fd, 1, "again");
    free(message);
    close(fd);
    heartwheel_free(server);
}

/* Its answers are not read, so its messages are not pulled, so it is not read; and a close of its
 * own is still found when the host goes on. */
static void a_peer_that_does_not_read_its_answers_is_pushed_back(void)
{
    host host = host_new("[limits]\noutbox_bytes = \"16k\"\ninbox_bytes = \"16k\"\n"
                         "[deadlines]\nwrite_stall = \"500ms\"",
                         "/echo");
    heartwheel *server = host.server;
    int fd = dial(host.port, 4096);
    ask_upgrade(fd, "/echo");
    heartwheel_peer peer = expect(server, HEARTWHEEL_OPENED).peer;
    read_upgrade(server, fd);
    static char message[4096];
    uint8_t frame[sizeof message + 14];
    size_t size = put_frame(frame, 2, message, sizeof message), left = 0;
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    int64_t began = now_us();
    do {
        if (left == 0)
            left = size;
        ssize_t took = send(fd, frame + size - left, left, MSG_DONTWAIT | MSG_NOSIGNAL);
        left -= took > 0 ? (size_t)took : 0;
        CHECK(now_us() - began < PATIENCE_MS * 1000);
        int64_t wait = heartwheel_next_timeout_ms(server);
        is_ready(server, wait == 0 || took > 0 ? 0 : 5);
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
        event.kind = 0;
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK
               && event.kind == HEARTWHEEL_BINARY) {
            /* Its end may have come before its last messages were pulled. */
            int code = heartwheel_send_binary(server, peer, event.data, event.len);
            CHECK(code == HEARTWHEEL_OK || code == HEARTWHEEL_E_GONE);
        }
    } while (event.kind != HEARTWHEEL_CLOSED);
    CHECK(bears(event, "write_stall"));
    CHECK_IS(event.close_code, 1006);
    CHECK_IS(heartwheel_send_text(server, peer, "x", 1), HEARTWHEEL_E_GONE);
    close(fd);
    heartwheel_free(server);
}

int main(void)
{
    a_host_that_pulls_nothing_is_not_flooded();
    a_peer_that_reads_nothing_is_told_of();
    a_peer_that_does_not_read_its_answers_is_pushed_back();
    puts("pressure: ok");
    return 0;
}
