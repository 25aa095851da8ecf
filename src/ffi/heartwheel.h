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
 * The model. One descriptor, the next timeout, a bounded turn; events are pulled, and nothing calls
 * you back but log lines. All reading, writing and accepting happens in heartwheel_turn. What the
 * other functions queue (messages, closes, events of topics) leaves in the next turn:
 * heartwheel_next_timeout_ms is 0 until then, so a loop as above sends it at once.
 *
 * Threads. A handle is for one thread at a time; which one may change. Functions that work on one
 * handle at once, from two threads or from inside the log callback, are turned away with
 * HEARTWHEEL_E_ARGUMENT and change nothing. heartwheel_wake alone may be called by any thread, and
 * by signal handlers, at any time between heartwheel_new and heartwheel_free. The library starts no
 * thread, installs no signal handler, touches no signal mask, raises no SIGPIPE and never ends the
 * process. Servers do not know of each other; only the log callback is the process's.
 *
 * Memory. Everything is bounded by the configuration. An event that you do not pull waits in the
 * inbox of its connection; beyond limits.inbox_messages or limits.inbox_bytes that connection is
 * not read any more, and TCP pushes its peer back. A message that you send waits in the outbox of
 * its peer; beyond limits.outbox_bytes it is not taken, and HEARTWHEEL_E_FULL says so.
 *
 * Answers. HEARTWHEEL_OK or another number that is not negative where it went well; else one of the
 * HEARTWHEEL_E_ codes, and heartwheel_last_error has a sentence for it. What failed has changed
 * nothing. Each function that takes a handle gives HEARTWHEEL_E_ARGUMENT for NULL and for what is
 * not a handle, as far as that shows; HEARTWHEEL_E_CONFIG or HEARTWHEEL_E_IO if heartwheel_new had
 * failed with it; HEARTWHEEL_E_PANIC if the library failed in an earlier call.
 *
 * Text is UTF-8. Strings without a length end with a NUL; where a length is given, a NUL is a
 * character as any other.
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

/* A peer: one connection, for good. 0 is never a peer, ids are not reused, and one of another
 * server is nobody here: to use an id whose connection has ended gives HEARTWHEEL_E_GONE. */
typedef uint64_t heartwheel_peer;

/* What functions answer. */
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
    /* As much waits as may wait; or as many topics, subscriptions or routes exist as may exist. */
    HEARTWHEEL_E_FULL = -4,
    /* The configuration cannot be used. */
    HEARTWHEEL_E_CONFIG = -5,
    /* The library failed by a fault of its own. The server's sockets are closed; the handle answers
     * heartwheel_last_error, and can be freed. */
    HEARTWHEEL_E_PANIC = -6
};

/* What an event tells. Of one peer first comes OPENED, then any of the others, then CLOSED. */
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
 * version may add members at the end: a library writes those it knows, and takes any struct that
 * has room for them. */
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
 * toml_or_null: the configuration as TOML, with the keys and defaults of src/guide/configuration.md;
 * NULL for the defaults. Of these, three are a host's own: nothing is listened on unless `listen` is set here or
 * heartwheel_listen is called; `workers` is 0 and `admin_listen` is off, and nothing else may be
 * set. limits.connections is fitted to the process's descriptor limit less 32. A library that was
 * built without the feature `toml`, to be small, reads plain TOML only: one `key = value` on a
 * line, strings in double quotes without escapes.
 *
 * Answers HEARTWHEEL_OK; HEARTWHEEL_E_CONFIG for a key, a value, a contradiction or text that
 * cannot be; HEARTWHEEL_E_IO if an address or a descriptor cannot be had; HEARTWHEEL_E_ARGUMENT if
 * out is NULL, or the text not UTF-8. After a failure *out is a handle that only answers
 * heartwheel_last_error and wants heartwheel_free, or NULL, which both take.
 *
 * Any thread. A name in `listen` is looked up here, and this waits for it.
 */
int heartwheel_new(const char *toml_or_null, heartwheel **out);

/*
 * Listens on one more address: "host:port", "[v6]:port", "*:port" (IPv4 and IPv6) or "unix:/path". Port 0 takes a free one.
 *
 * Answers the port taken, 0 for unix:; HEARTWHEEL_E_ARGUMENT if it is no address; HEARTWHEEL_E_IO
 * if it cannot be had (in use, no permission). Peers are served from the next turn on. At any time;
 * a host name is looked up here, and this waits for it.
 */
int heartwheel_listen(heartwheel *, const char *address);

/*
 * Serves WebSocket connections on a path, "/echo"; their events are yours to pull. A path that ends
 * in "{topic}" takes one more segment, whatever it is. Other paths are answered 404, other requests
 * 426.
 *
 * Answers HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if no request could ever match the path: it begins
 * with '/', and bears no braces elsewhere, no '*', '?', '#', no space and no control character;
 * HEARTWHEEL_E_FULL beyond 4,096 routes. At any time.
 */
int heartwheel_route_websocket(heartwheel *, const char *path);

/*
 * Gives the one descriptor to watch for reading (POLLIN), by poll, epoll or a loop library. It
 * becomes readable for new bytes, new connections, room to write where something waits,
 * and heartwheel_wake; and for nothing else. Deadlines are not its business: see
 * heartwheel_next_timeout_ms. It stays the same for the life of the server. Do not read it, do not
 * close it. Watch it level-triggered; with EPOLLET go on turning until the timeout is not 0.
 *
 * Answers the descriptor, or an error.
 */
int heartwheel_fd(const heartwheel *);

/*
 * Gives how many milliseconds you may wait until the next heartwheel_turn, rounded up: what poll(2)
 * takes. 0: work is left, call heartwheel_turn now. -1: nothing is due. Never more than INT_MAX.
 * Events that wait to be pulled are not a turn's work and do not count: if you stop before
 * HEARTWHEEL_DONE, come back by yourself.
 *
 * Right after each call, and of no use after any other: ask just before you wait. A turn that comes
 * early is harmless, one that comes late delays deadlines. Below -1 it is an error.
 */
int64_t heartwheel_next_timeout_ms(const heartwheel *);

/*
 * Does a turn: accepts, reads, acts on deadlines, writes. Never blocks. Its work is bounded by
 * turn.events (events of the poller, and peers written to) and turn.bytes; what is left over makes
 * the next timeout 0. A host with close timers of its own lowers them.
 *
 * Answers HEARTWHEEL_OK; HEARTWHEEL_DONE once a drain is over, from then on; HEARTWHEEL_E_IO if the
 * kernel's poller fails: nothing can be served then.
 */
int heartwheel_turn(heartwheel *);

/*
 * Pulls the next event into *out, whose struct_size you have set. Pull until HEARTWHEEL_DONE after
 * each turn, or fewer: what is left waits, and its connections are not read beyond their inbox.
 * Events of one peer come in order. While the outbox of a peer is full, its messages wait too.
 *
 * Answers HEARTWHEEL_OK, *out is an event; HEARTWHEEL_DONE, *out is untouched;
 * HEARTWHEEL_E_ARGUMENT if out is NULL or its struct_size too small (or never set).
 */
int heartwheel_next_event(heartwheel *, heartwheel_event *out);

/*
 * Sends a message: text, which must be UTF-8, or bytes. They are copied. data may be NULL if len is
 * 0; len is at most 2^31 - 1. An empty outbox takes one message whatever its size, and the event
 * pulled last can always be answered in as many bytes as it bore.
 *
 * Answers HEARTWHEEL_OK: it is queued, and leaves in the next turn; HEARTWHEEL_E_GONE;
 * HEARTWHEEL_E_FULL: it is not taken (more than limits.outbox_bytes would wait, or there is no
 * memory), the connection lives, HEARTWHEEL_DRAINED tells when to try again; HEARTWHEEL_E_ARGUMENT.
 */
int heartwheel_send_text(heartwheel *, heartwheel_peer, const char *text, size_t len);
int heartwheel_send_binary(heartwheel *, heartwheel_peer, const void *data, size_t len);

/*
 * Publishes to a topic: 1 to 128 characters of A-Z a-z 0-9 . _ - :. Whoever subscribes gets it, as
 * one message. It is encoded once and shared, however many they are; where a peer's outbox is full,
 * overflow.policy decides. Bytes as for heartwheel_send_text.
 *
 * Answers HEARTWHEEL_OK; HEARTWHEEL_E_FULL if limits.topics exist, or if more is published than the
 * turns have delivered: call heartwheel_turn first; HEARTWHEEL_E_ARGUMENT for what is no topic's
 * name, or one of the server's own ($stats).
 */
int heartwheel_publish_text(heartwheel *, const char *topic, const char *text, size_t len);
int heartwheel_publish_binary(heartwheel *, const char *topic, const void *data, size_t len);

/*
 * Sends a peer the events of a topic from now on, or no more of them. To subscribe twice is to
 * subscribe once; to unsubscribe from what one does not get is harmless.
 *
 * Answers HEARTWHEEL_OK; HEARTWHEEL_E_GONE; HEARTWHEEL_E_FULL beyond limits.topics or
 * limits.subscriptions; HEARTWHEEL_E_ARGUMENT for what is no topic's name.
 */
int heartwheel_subscribe(heartwheel *, heartwheel_peer, const char *topic);
int heartwheel_unsubscribe(heartwheel *, heartwheel_peer, const char *topic);

/*
 * Closes a connection, behind what was sent to it before. None of its messages comes after this;
 * HEARTWHEEL_CLOSED does, when the peer has answered or its time is over.
 *
 * code: 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455, 7.4).
 *
 * Answers HEARTWHEEL_OK; HEARTWHEEL_E_GONE, also if it is closing; HEARTWHEEL_E_ARGUMENT for any
 * other code.
 */
int heartwheel_close(heartwheel *, heartwheel_peer, uint16_t code);

/*
 * Begins to end: listeners are closed at once, every connection is closed in turn (1001,
 * "retry=MS"), what is left after deadlines.drain is dropped. Go on turning and pulling as before,
 * until heartwheel_turn answers HEARTWHEEL_DONE. To drain twice is to drain once.
 */
int heartwheel_drain(heartwheel *);

/*
 * Makes the descriptor readable until the next turn, so that a waiting loop goes round: for other
 * threads, and for signal handlers. Async-signal-safe: one write to a descriptor of its own, no
 * lock, no allocation. Wakes add up to one.
 *
 * The only function that any thread may call while another is inside the server; but not while or
 * after heartwheel_free runs.
 */
int heartwheel_wake(const heartwheel *);

/*
 * Lets the server go by a clock of yours, for tests: a day of deadlines passes in milliseconds. The
 * first call, before the first heartwheel_turn, stops the server's clock at a moment that you call
 * ms; each further one moves it on to ms (milliseconds; what lies behind changes nothing).
 *
 * heartwheel_next_timeout_ms then tells by how much to move it for what is due next. However far it
 * was moved, a turn goes to the next deadline and no further, and the timeout is 0 until it has
 * caught up: so each deadline acts in its own tick, and a peer can answer in between.
 *
 * Answers HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if the first call comes after a turn.
 */
int heartwheel_set_clock(heartwheel *, uint64_t ms);

/*
 * Sends log lines to a callback; NULL for nowhere, which is the beginning. There is one for the
 * whole process: it gets the lines of all servers, each line from the thread that is inside that
 * server, and each server writes what its own `log` key allows (default: info). So it may be called
 * by several threads at a time if servers are turned by several. Lines are one line of text without
 * the end of line, valid during the call.
 *
 * The callback must return (no longjmp, no exception), and may use other servers, but not the one
 * that writes the line: that is turned away. When this returns, the callback before is not called
 * any more; user is handed to the callback as it is. Any thread; ignored from inside the callback.
 *
 * In a Rust program that links this library and has a logger of its own, that one gets the lines.
 */
void heartwheel_set_log(void (*callback)(void *user, int level, const char *line), void *user);

/*
 * Gives a sentence for the last call that failed with this handle, "" if none did; never NULL.
 * Valid until the next call with the same handle. For NULL it says that this is not a handle.
 */
const char *heartwheel_last_error(const heartwheel *);

/* Says what an answer means, in a few words that live for ever. Any thread. */
const char *heartwheel_error_string(int code);

/* Gives the version of the library, "0.1.0". Any thread. */
const char *heartwheel_version(void);

/*
 * Ends a server: connections that are still open are reset, listeners closed, memory given back.
 * NULL is fine. Never blocks. For an end that peers are told of, heartwheel_drain first.
 *
 * Using a handle after this is undefined, as free(3) is; it is noticed sometimes, and only then.
 * Ignored from inside the log callback of a call that uses the handle.
 */
void heartwheel_free(heartwheel *);

#ifdef __cplusplus
}
#endif

#endif
