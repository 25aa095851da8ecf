/*
 * heartwheel: a server for long-lived connections (WebSocket) inside a main loop of your own.
 *
 *     heartwheel *server;
 *     heartwheel_event event;
 *     event.struct_size = sizeof event;
 *     if (heartwheel_new(NULL, &server) != HEARTWHEEL_OK
 *         || heartwheel_route_websocket(server, "/echo") != HEARTWHEEL_OK
 *         || heartwheel_listen(server, "127.0.0.1:8765") < 0) {
 *         fprintf(stderr, "%s\n", heartwheel_last_error(server));
 *         exit(1);
 *     }
 *     for (;;) {
 *         struct pollfd watched[2] = {{heartwheel_fd(server), POLLIN, 0}, {own_fd, POLLIN, 0}};
 *         poll(watched, 2, (int)heartwheel_next_timeout_ms(server));
 *         heartwheel_turn(server);
 *         while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK)
 *             if (event.kind == HEARTWHEEL_TEXT)
 *                 heartwheel_send_text(server, event.peer, (const char *)event.data, event.len);
 *         if (watched[1].revents)
 *             own_service();
 *     }
 *
 * The model. One descriptor, the next timeout, a bounded turn. You pull events; the library calls
 * you back only with log lines. All reading, writing and accepting happens in heartwheel_turn. What
 * the other functions queue (messages, closes, events of topics) leaves in the next turn:
 * heartwheel_next_timeout_ms is 0 until then, so a loop as above sends it at once.
 *
 * Threads. One thread at a time may use a handle; which one may change. If a second thread, or the
 * log callback, calls a function with a handle in use, the call returns HEARTWHEEL_E_ARGUMENT and
 * changes nothing. Only heartwheel_wake may be called by any thread, and by signal handlers, at any
 * time between heartwheel_new and heartwheel_free. The library starts no thread, installs no signal
 * handler, touches no signal mask, raises no SIGPIPE and never ends the process. Servers are
 * independent; only the log callback belongs to the process.
 *
 * Memory. The configuration bounds everything. An event that you do not pull waits in the inbox of
 * its connection; beyond limits.inbox_messages or limits.inbox_bytes that connection is not read
 * any more, and TCP holds its peer back. A message that you send waits in the outbox of its peer;
 * beyond limits.outbox_bytes the message is not taken, and the call returns HEARTWHEEL_E_FULL.
 *
 * Return values. HEARTWHEEL_OK or another non-negative number after success. After a failure one of
 * the HEARTWHEEL_E_ codes; heartwheel_last_error has a sentence for it, and nothing has changed.
 * Each function with a handle returns HEARTWHEEL_E_ARGUMENT for NULL and for what is not a handle,
 * as far as that shows; HEARTWHEEL_E_CONFIG or HEARTWHEEL_E_IO if heartwheel_new failed with it;
 * HEARTWHEEL_E_PANIC if the library failed in an earlier call.
 *
 * Text is UTF-8. A string without a length ends with a NUL; if a length is given, a NUL is a
 * character like any other.
 *
 * fork: descriptors are closed on exec. A child that does not exec must not use the handle, not
 * even to free it.
 */
#ifndef HEARTWHEEL_H
#define HEARTWHEEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; heartwheel_version() has that of the library. */
#define HEARTWHEEL_VERSION "0.1.0"

/* A server. */
typedef struct heartwheel heartwheel;

/* A peer: one connection, for good. 0 is never a peer, and ids are not reused. An id whose
 * connection has ended, or that is of another server, gives HEARTWHEEL_E_GONE. */
typedef uint64_t heartwheel_peer;

/* What functions return. */
enum {
    /* It is done. */
    HEARTWHEEL_OK = 0,
    /* heartwheel_next_event: nothing is left. heartwheel_turn: the drain is over. */
    HEARTWHEEL_DONE = 1,
    /* An argument, or the handle, cannot be used. */
    HEARTWHEEL_E_ARGUMENT = -1,
    /* The system refused. */
    HEARTWHEEL_E_IO = -2,
    /* The peer is gone, or closing. */
    HEARTWHEEL_E_GONE = -3,
    /* A limit is reached: of waiting bytes, topics, subscriptions, routes or memory. */
    HEARTWHEEL_E_FULL = -4,
    /* The configuration cannot be used. */
    HEARTWHEEL_E_CONFIG = -5,
    /* The library failed by a fault of its own. The server's sockets are closed. The handle can
     * be used with heartwheel_last_error and heartwheel_free. */
    HEARTWHEEL_E_PANIC = -6
};

/* What an event tells. For each peer OPENED comes first, then any of the others, then CLOSED. */
enum {
    /* A connection is open. data: the path of its request, without the query. */
    HEARTWHEEL_OPENED = 1,
    /* A message came. data: the text, which is UTF-8. */
    HEARTWHEEL_TEXT = 2,
    /* A message came. data: the bytes. */
    HEARTWHEEL_BINARY = 3,
    /* The connection ended, nothing follows. data: the reason in a word ("peer", "heartbeat",
     * "write_stall", ...: src/guide/operating.md has them all). close_code: that of RFC 6455, 7.4;
     * 1005 if the peer named none, 1006 if there was no close frame. */
    HEARTWHEEL_CLOSED = 4,
    /* Two pings in a row went unanswered: the peer may be gone. Told once until it is heard again. */
    HEARTWHEEL_SUSPECT = 5,
    /* All that waited for the peer is with the kernel. Comes, among others, after each
     * HEARTWHEEL_E_FULL of heartwheel_send_text and _binary. */
    HEARTWHEEL_DRAINED = 6
};

/* An event. Set struct_size to sizeof(heartwheel_event) before the first call; it stays. A later
 * version may add members at the end: a library writes the members that it knows, and takes any
 * struct that has room for them. */
typedef struct heartwheel_event {
    size_t struct_size;
    uint32_t kind;
    uint16_t close_code;
    uint16_t reserved;
    heartwheel_peer peer;
    /* Never NULL, not ended by a NUL. Valid until the next heartwheel_next_event, heartwheel_turn
     * or heartwheel_free of this server. */
    const uint8_t *data;
    size_t len;
} heartwheel_event;

/* How much a log line matters; the `log` key of the configuration says how much is written. */
enum {
    HEARTWHEEL_LOG_ERROR = 1,
    HEARTWHEEL_LOG_WARN = 2,
    HEARTWHEEL_LOG_INFO = 3,
    HEARTWHEEL_LOG_DEBUG = 4,
    HEARTWHEEL_LOG_TRACE = 5
};

/*
 * Makes a server and puts its handle into *out.
 *
 * toml_or_null: the configuration as TOML, with the keys and defaults of
 * src/guide/configuration.md; NULL for the defaults. Three keys differ for a host: no address is
 * listened on unless `listen` is set or heartwheel_listen is called; `workers` must be 0 and
 * `admin_listen` off, as they are by default. limits.connections is fitted to the process's
 * descriptor limit less 32. A library that was built without the feature `toml`, to be small, reads
 * plain TOML only: one `key = value` on a line, strings in double quotes without escapes.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_CONFIG for a bad key, value or text, or a contradiction;
 * HEARTWHEEL_E_IO if an address cannot be bound or a descriptor cannot be had;
 * HEARTWHEEL_E_ARGUMENT if out is NULL, or the text is not UTF-8. After a failure *out is NULL, or
 * a handle that only answers heartwheel_last_error. Pass it to heartwheel_free in both cases.
 *
 * Any thread. A name in `listen` is looked up here, and the call waits for it.
 */
int heartwheel_new(const char *toml_or_null, heartwheel **out);

/*
 * Listens on one more address: "host:port", "[v6]:port", "*:port" (IPv4 and IPv6) or "unix:/path".
 * Port 0 takes a free one.
 *
 * Returns the port taken, 0 for unix:; HEARTWHEEL_E_ARGUMENT if it is no address; HEARTWHEEL_E_IO
 * if it cannot be bound (in use, no permission). Peers are served from the next turn on. Any time;
 * a host name is looked up here, and the call waits for it.
 */
int heartwheel_listen(heartwheel *, const char *address);

/*
 * Serves WebSocket connections on a path, such as "/echo"; you pull their events. A path that ends
 * in "{topic}" takes one more segment, whatever it is. Requests for other paths are answered 404,
 * requests for this path that are no WebSocket 426.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if no request could ever match the path: it must
 * begin with '/', and have no braces elsewhere, no '*', '?', '#', no space and no control
 * character; HEARTWHEEL_E_FULL beyond 4,096 routes. Any time.
 */
int heartwheel_route_websocket(heartwheel *, const char *path);

/*
 * Returns the one descriptor to watch for reading (POLLIN), by poll, epoll or a loop library. It
 * becomes readable for new bytes, new connections, room to write if something waits, and
 * heartwheel_wake; and for nothing else. It does not tell deadlines: see
 * heartwheel_next_timeout_ms. It stays the same for the life of the server. Do not read it, do not
 * close it. Watch it level-triggered; with EPOLLET go on turning until the timeout is not 0.
 *
 * Returns the descriptor, or an error.
 */
int heartwheel_fd(const heartwheel *);

/*
 * Returns how many milliseconds you may wait until the next heartwheel_turn, rounded up: what
 * poll(2) takes. 0: work is left, call heartwheel_turn now. -1: nothing is due. Never more than
 * INT_MAX; below -1 it is an error. Events that wait to be pulled do not count as work of a turn:
 * if you stop before HEARTWHEEL_DONE, come back by yourself.
 *
 * Any other call may change the value: ask just before you wait. An early turn is harmless, a late
 * one delays deadlines.
 */
int64_t heartwheel_next_timeout_ms(const heartwheel *);

/*
 * Does a turn: accepts, reads, acts on deadlines, writes. Never blocks. Its work is bounded by
 * turn.events (events of the poller, and peers written to) and turn.bytes; if work is left, the
 * next timeout is 0. A host with short timers of its own lowers these keys.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_DONE once a drain is over, from then on; HEARTWHEEL_E_IO if the
 * kernel's poller fails: nothing can be served then.
 */
int heartwheel_turn(heartwheel *);

/*
 * Pulls the next event into *out, whose struct_size you have set. After each turn pull until
 * HEARTWHEEL_DONE, or fewer events: the others wait, and their connections are not read beyond
 * their inbox. Events of one peer come in order. While a peer's outbox is full, its messages wait.
 *
 * Returns HEARTWHEEL_OK, *out is an event; HEARTWHEEL_DONE, *out is untouched;
 * HEARTWHEEL_E_ARGUMENT if out is NULL or its struct_size too small (or never set).
 */
int heartwheel_next_event(heartwheel *, heartwheel_event *out);

/*
 * Sends a message: text, which must be UTF-8, or bytes. The library copies them. data may be NULL
 * if len is 0; len is at most 2^31 - 1. An empty outbox takes one message of any size, and an
 * answer to the event pulled last is always taken if it has no more bytes than that event.
 *
 * Returns HEARTWHEEL_OK: the message is queued, and leaves in the next turn; HEARTWHEEL_E_GONE;
 * HEARTWHEEL_E_FULL: it is not taken (more than limits.outbox_bytes would wait, or there is no
 * memory), the connection lives, HEARTWHEEL_DRAINED tells when to try again; HEARTWHEEL_E_ARGUMENT.
 */
int heartwheel_send_text(heartwheel *, heartwheel_peer, const char *text, size_t len);
int heartwheel_send_binary(heartwheel *, heartwheel_peer, const void *data, size_t len);

/*
 * Publishes to a topic: 1 to 128 characters of A-Z a-z 0-9 . _ - :. Each subscriber gets the event
 * as one message. It is encoded once and shared by all; if a peer's outbox is full, overflow.policy
 * decides. text, data and len are as for heartwheel_send_text.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_FULL if limits.topics exist, or if more is published than
 * turns have delivered: call heartwheel_turn first; HEARTWHEEL_E_ARGUMENT for a bad name of a
 * topic, or one of the server's own ($stats).
 */
int heartwheel_publish_text(heartwheel *, const char *topic, const char *text, size_t len);
int heartwheel_publish_binary(heartwheel *, const char *topic, const void *data, size_t len);

/*
 * Begins or ends a peer's subscription to a topic, from now on. To subscribe twice is to subscribe
 * once; to unsubscribe without a subscription is harmless.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_GONE; HEARTWHEEL_E_FULL beyond limits.topics or
 * limits.subscriptions; HEARTWHEEL_E_ARGUMENT for a bad name of a topic.
 */
int heartwheel_subscribe(heartwheel *, heartwheel_peer, const char *topic);
int heartwheel_unsubscribe(heartwheel *, heartwheel_peer, const char *topic);

/*
 * Closes a connection, behind the messages sent to it before. None of its messages comes after
 * this; HEARTWHEEL_CLOSED comes when the peer has answered or its time is over.
 *
 * code: 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455, 7.4).
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_GONE, also if it is closing; HEARTWHEEL_E_ARGUMENT for any
 * other code.
 */
int heartwheel_close(heartwheel *, heartwheel_peer, uint16_t code);

/*
 * Begins to end: listeners are closed at once, every connection is closed in turn (1001,
 * "retry=MS"), and those left after deadlines.drain are dropped. Go on turning and pulling as
 * before, until heartwheel_turn returns HEARTWHEEL_DONE. To drain twice is to drain once.
 */
int heartwheel_drain(heartwheel *);

/*
 * Makes the descriptor readable until the next turn, so that a waiting loop goes round: for other
 * threads, and for signal handlers. Async-signal-safe: one write to a descriptor of its own, no
 * lock, no allocation. Several wakes before a turn count as one.
 *
 * The only function that a thread may call while another is inside the server; but not while or
 * after heartwheel_free runs.
 */
int heartwheel_wake(const heartwheel *);

/*
 * Makes the server use a clock of yours, for tests: a day of deadlines passes in milliseconds. The
 * first call, before the first heartwheel_turn, stops the server's clock at a moment that you call
 * ms; each further call moves it on to ms (milliseconds; an earlier moment changes nothing).
 *
 * heartwheel_next_timeout_ms then tells how far to move it for the next deadline. However far it
 * was moved, a turn goes to the next deadline and no further, and the timeout is 0 until the server
 * has caught up: so each deadline acts in its own tick, and a peer can answer in between.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if the first call comes after a turn.
 */
int heartwheel_set_clock(heartwheel *, uint64_t ms);

/*
 * Sends log lines to a callback; NULL, as at the beginning, for nowhere. The whole process has one:
 * it gets the lines of all servers. Each server writes what its own `log` key allows (default:
 * info), from the thread that is inside it. So if several threads turn servers, they may call it at
 * the same time. A line is text without the end of line, valid during the call.
 *
 * The callback must return (no longjmp, no exception). It may use other servers, but not the one
 * that writes the line: such a call is refused. When this function returns, the callback before is
 * not called any more. The callback gets user as it is. Any thread; ignored inside the callback.
 *
 * In a Rust program with a logger of its own that links this library, that logger gets the lines.
 */
void heartwheel_set_log(void (*callback)(void *user, int level, const char *line), void *user);

/*
 * Returns a sentence for the last call that failed with this handle, "" if none did; never NULL.
 * Valid until the next call with the same handle. For NULL it says that this is not a handle.
 */
const char *heartwheel_last_error(const heartwheel *);

/* Returns what a code means, in a few words that live for ever. Any thread. */
const char *heartwheel_error_string(int code);

/* Returns the version of the library, "0.1.0". Any thread. */
const char *heartwheel_version(void);

/*
 * Ends a server: resets connections that are still open, closes listeners, frees memory. NULL is
 * allowed. Never blocks. To tell the peers of the end, call heartwheel_drain first.
 *
 * Using a handle after this is undefined, as after free(3); the library notices it only sometimes.
 * Ignored from inside the log callback of a call that uses the handle.
 */
void heartwheel_free(heartwheel *);

#ifdef __cplusplus
}
#endif

#endif
