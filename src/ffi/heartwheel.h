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
 * you back only with log lines, and to freeze and thaw sessions if you have it do so. All reading, writing and accepting happens in heartwheel_turn. What
 * the other functions queue (messages, closes, events of topics) leaves in the next turn:
 * heartwheel_next_timeout_ms is 0 until then, so a loop as above sends it at once.
 *
 * Threads. One thread at a time may use a handle; which one may change. If a second thread, or the
 * log callback, calls a function with a handle in use, the call returns HEARTWHEEL_E_ARGUMENT and
 * changes nothing. Only heartwheel_wake may be called by any thread, and by signal handlers, at any
 * time between heartwheel_new and heartwheel_free. The library installs no signal handler, touches
 * no signal mask, raises no SIGPIPE and never ends the process. It starts no thread but for names
 * that heartwheel_connect looks up, and two for each route of sessions in SQLite or Redis; none of
 * them calls you. Servers are independent; only the log callback belongs to the process.
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
    /* heartwheel_next_event, _connections: nothing is left. heartwheel_turn: the drain is over. */
    HEARTWHEEL_DONE = 1,
    /* heartwheel_subscribe_after: it is done, but events after the position are missing. */
    HEARTWHEEL_GAP = 2,
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
    HEARTWHEEL_E_PANIC = -6,
    /* There is none of what was asked for. */
    HEARTWHEEL_E_NONE = -7
};

/* What an event tells. For each WebSocket OPENED comes first, then any of those up to DRAINED, then
 * CLOSED. Of a request there is one event, and ABANDONED if you do not answer it in time. A later
 * version may add kinds: pass over those that you do not know. */
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
    HEARTWHEEL_DRAINED = 6,
    /* A request waits for your answer: heartwheel_respond or _refuse. data: its path, without the
     * query. Only for heartwheel_route_request. */
    HEARTWHEEL_REQUEST = 7,
    /* A request waits to be let in: heartwheel_accept or _refuse. data: its path, without the
     * query. Only for heartwheel_route_ask. */
    HEARTWHEEL_UPGRADE = 8,
    /* A HEARTWHEEL_REQUEST or _UPGRADE that you have not answered has ended: nobody waits for the
     * answer any more, because the connection is gone or deadlines.handshake has passed. Nothing
     * follows of it. */
    HEARTWHEEL_ABANDONED = 9,
    /* A timer of the peer is due: see heartwheel_after. token: its number. */
    HEARTWHEEL_TIMER = 10,
    /* These are of clients alone: see heartwheel_connect. The client is in another state. data: the
     * state in a word: "waiting", "resolving", "connecting", "securing", "upgrading", "open",
     * "closing", "broken", "stopped". close_code: why the connection before has ended, in waiting,
     * broken and stopped: 1006 where there was no close frame. token: the milliseconds until the
     * next try, in waiting and broken. Nothing follows "stopped". */
    HEARTWHEEL_STATE = 11,
    /* An event of a topic has come. data: text or JSON; bytes. heartwheel_event_topic and _id have
     * the rest. */
    HEARTWHEEL_TOPIC_TEXT = 12,
    HEARTWHEEL_TOPIC_BINARY = 13,
    /* Events of a topic are missing here. */
    HEARTWHEEL_TOPIC_GAP = 14,
    /* What was published has its id, or none if the server's application has taken it over. token:
     * the reference of heartwheel_publish_to. */
    HEARTWHEEL_PUBLISHED = 15,
    /* It was refused. data: "bad_request", "forbidden", "limit", "unavailable"; "unknown" if its fate
     * is not known: the connection broke and came back too late to ask, or the client was stopped;
     * "closed" if the client was stopped before it was sent. token: as above. */
    HEARTWHEEL_NOT_PUBLISHED = 16,
    /* A subscription was refused. data: as above. */
    HEARTWHEEL_NOT_SUBSCRIBED = 17,
    /* 40% of the tries of the last client.window have failed on the server's side. */
    HEARTWHEEL_DEGRADED = 18,
    /* Five tries in a row have failed. Told once, until a connection has held. */
    HEARTWHEEL_ALARM = 19,
    /* The answer to heartwheel_presence: who is on a topic. heartwheel_event_member and _count read
     * it. token: the reference of the question. */
    HEARTWHEEL_PRESENCE = 20,
    /* That is not told. data: "bad_request" where the server's topics.presence does not name the
     * topic, "forbidden", "unknown_op" by a server without the feature `presence`; "closed" if the
     * client was stopped before the answer. token: as above. */
    HEARTWHEEL_NO_PRESENCE = 21,
    /* Of heartwheel_route_sessions alone: the session of this peer could not be saved. data: "store"
     * if the store has failed, the log says how; "too_big" if it is longer than sessions.bytes. Told
     * once, until it can. It is tried again as long as the peer is open, and for sessions.ttl
     * afterwards. */
    HEARTWHEEL_UNSAVED = 22
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
    /* Of HEARTWHEEL_TIMER; 0 otherwise. The first headers did not have it: a struct that ends here
     * is taken as well. */
    uint64_t token;
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
 * listened on unless `listen` or `admin_listen` is set, or heartwheel_listen or
 * heartwheel_listen_operator is called; `workers` must be 0, as it is by default.
 * limits.connections is fitted to the process's
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
 * Port 0 takes a free one. In a library that was built with the feature `tls`, "tls:" before any of
 * these has TLS be spoken there; the keys tls.certificate and tls.key must be set
 * (src/guide/tls.md). "proxy:" before any of these takes connections from trusted proxies alone,
 * which say in a PROXY header whom they connect for; the key proxy.trusted must be set
 * (src/guide/proxies.md). "proxy+tls:" takes that header and then TLS.
 *
 * Returns the port taken, 0 for a Unix socket; HEARTWHEEL_E_ARGUMENT if it is no address; HEARTWHEEL_E_IO
 * if it cannot be bound (in use, no permission). Peers are served from the next turn on. Any time;
 * a host name is looked up here, and the call waits for it.
 */
int heartwheel_listen(heartwheel *, const char *address);

/*
 * Serves WebSocket connections on a path, such as "/echo"; you pull their events. "{name}" stands
 * for the rest of a segment, whatever it is, and "{name...}" as the last segment for the rest of
 * the path. Requests for other paths are answered 404, requests for this path that are no WebSocket
 * 426.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if no request could ever match the path: it must
 * begin with '/', and have no other braces, no '*', '?', '#', no space and no control
 * character; HEARTWHEEL_E_FULL beyond 4,096 routes. Any time.
 */
int heartwheel_route_websocket(heartwheel *, const char *path);

/*
 * Serve what the server answers by itself, within heartwheel_turn: no event comes of it. What
 * clients send and get is in src/guide/protocol.md.
 *
 * _topics: topics on a path that has "{topic}", such as "/topics/{topic}". Each has a
 * WebSocket, an event stream, a GET of its newest event or of those after a position, and a POST to
 * publish.
 * _hub: WebSockets with many topics each and JSON messages; their path is mostly "/ws".
 * _events: event streams of the topics that the query names, mostly on "/events".
 * _health: GET /healthz, which is 200 as long as the server turns, and GET /readyz, which is 503
 * while it drains; on every listener, and without a token.
 * _operator: GET /metrics, /connections and /config, DELETE /connections/{id}, POST /drain and
 * /shed, only on addresses of the operator: the key admin_listen, and heartwheel_listen_operator.
 *
 * A later route for the same path and method wins. Return as heartwheel_route_websocket. If one of
 * the routes of a call would be too many, none is added. Any time.
 */
int heartwheel_route_topics(heartwheel *, const char *path);
int heartwheel_route_hub(heartwheel *, const char *path);
int heartwheel_route_events(heartwheel *, const char *path);
int heartwheel_route_health(heartwheel *);
int heartwheel_route_operator(heartwheel *);

/*
 * Serves an answer that is always the same: a page, a script. GET and HEAD of the path are answered
 * 200 with these bytes and this content type, such as "text/html; charset=utf-8", and with
 * "Cache-Control: no-cache": a browser asks each time. The library copies data once; all clients
 * share the copy. data may be NULL if len is 0; len is at most 2^31 - 1. A second call for the same
 * path replaces the answer; the memory of the first stays until heartwheel_free.
 *
 * Returns as heartwheel_route_websocket, and HEARTWHEEL_E_FULL without memory for the copy,
 * HEARTWHEEL_E_ARGUMENT if the content type is empty or has a control character. Any time.
 */
int heartwheel_route_get(heartwheel *, const char *path, const char *content_type,
                         const void *data, size_t len);

/*
 * Serves the files of a folder behind a path, "/" or "/static/": GET and HEAD, with conditional
 * requests, single ranges, NAME.br and NAME.gz for NAME, and index.html for a folder. Names that
 * begin with a dot are not served, nor is what leads out of the folder, through links neither. A
 * route for the very path wins.
 *
 * Files are read within heartwheel_turn: up to 128 KiB at once, larger ones in slices of 64 KiB as
 * their client takes them. So a turn waits for the disk: serve what is in memory, or on flash.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_IO if there is no such folder now; HEARTWHEEL_E_FULL beyond
 * 4,096 routes; HEARTWHEEL_E_ARGUMENT if the path cannot be served, or if the library was built
 * without the feature `streams`. Any time.
 */
int heartwheel_route_files(heartwheel *, const char *path, const char *folder);

/*
 * Answers requests for a path without a token although the configuration asks for tokens
 * (admission.tokens): for pages that then ask with one. It holds for the routes that this path has
 * now, and is written as it was for them ("/topics/{topic}" opens all topics, also to publish).
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if the path has no route. Any time.
 */
int heartwheel_route_open(heartwheel *, const char *path);

/*
 * Gives a key of the configuration a value for a path alone: its connections are bound more
 * strictly, or less, than the others. key: such as "limits.message_bytes" or
 * "heartbeat.interval"; src/guide/configuration.md marks those that a route may have. value: as
 * TOML would have it in quotes, such as "4k" or "5m". It holds for the routes that this path has
 * now, and for open connections as after a reload of this key. A reload changes only what was
 * not set so.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if the path has no route; HEARTWHEEL_E_CONFIG if it
 * is no key of a route, if the value is not within the key's bounds, or if it contradicts another
 * key: nothing has changed then. Any time.
 */
int heartwheel_route_set(heartwheel *, const char *path, const char *key, const char *value);

/* Sessions that outlast connections: see heartwheel_route_sessions. */
typedef struct heartwheel_sessions {
    /* Set it to sizeof(heartwheel_sessions). */
    size_t struct_size;
    /* What names the session of a request: "identity" (what heartwheel_identity returns),
     * "cookie:NAME", or "query:NAME" for a value of the query. The name is 1 to 256 bytes of text
     * without control characters, or the request is refused with 400. A cookie or a query value is a
     * secret: anyone who has it has the session. */
    const char *key;
    /* Where sessions are: "memory" (of this route, 10,000 sessions and 16 MiB; those that nobody
     * holds make room), "sqlite:PATH" in a library with the feature `sqlite`, or in one with the
     * feature `cluster` a URL of Redis as the key cluster.redis has it, under the name of the key
     * cluster.name. Servers and routes may share SQLite and Redis; a session is that of its path. */
    const char *store;
    /* Not 0: requests without a name are refused with 400. 0: nothing is kept for them. */
    int is_required;
    /* 0. */
    int reserved;
    /* Given to each function as it is. */
    void *context;
    /*
     * Freezes a session: writes what user, which is heartwheel_user of the peer, stands for into out,
     * which has room for size bytes, sessions.bytes of them, all 0. Returns how many it has written,
     * or would have: if they are more than size it is not saved, and HEARTWHEEL_UNSAVED says so. A
     * negative number: it is not saved now. What was saved before stays in both cases. The library
     * copies the bytes before it goes on; out is not valid afterwards. user may be NULL.
     *
     * Called within heartwheel_next_event, when all events of the peer before were pulled: at most
     * once in sessions.save, if an event of the peer was pulled since or its pointer set; when a
     * newer connection wants the session; and before HEARTWHEEL_CLOSED is given to you.
     */
    int64_t (*freeze)(void *context, void *user, void *out, size_t size);
    /*
     * Thaws a session: makes what data stands for, len bytes that are valid during the call, aligned
     * to nothing, and puts a pointer to it into *user, which is NULL before. Returns HEARTWHEEL_OK;
     * with any other number the upgrade is refused with 500, the bytes stay in the store, and *user
     * is not looked at. Bytes of an older version of the program may still be there.
     *
     * Called within heartwheel_turn, before the upgrade is answered. The pointer is heartwheel_user of
     * the peer from its HEARTWHEEL_OPENED on, and yours: free it at its HEARTWHEEL_CLOSED.
     */
    int (*thaw)(void *context, const void *data, size_t len, void **user);
    /*
     * Frees what was thawed for a peer of which you are told nothing: its client has gone meanwhile,
     * or you have freed the server. Called within heartwheel_turn or heartwheel_free; never with NULL.
     * May be NULL if there is nothing to free.
     */
    void (*discard)(void *context, void *user);
} heartwheel_sessions;

/*
 * Serves WebSocket connections as heartwheel_route_websocket does, whose sessions outlast them: a
 * client that comes back, here or to another server with the same store, goes on with its session.
 * What you keep with the peer (heartwheel_set_user) is frozen to bytes and thawed for its next
 * connection; if its pointer is NULL at HEARTWHEEL_OPENED, there was no session. The struct, its
 * texts and what they say are copied; the functions and context are used until heartwheel_free.
 *
 * A session is of one connection at a time. A newer one with the same name ends the older, 4409
 * "replaced", and has all that the older had when its events were pulled; pull them, or the newer
 * waits for up to a second and then has what was saved last. A session that is open is saved every
 * sessions.save (10s) if it may have changed: to have it taken for changed though no event of the
 * peer has come, set its pointer again. It is gone when it was not saved for sessions.ttl (30m). A
 * store that fails, or does not answer within deadlines.handshake, makes the upgrade end with 503.
 * src/guide/sessions.md says what is lost when, and what is counted.
 *
 * The functions must return (no longjmp, no exception), and not block: within them every call with
 * this handle is refused with HEARTWHEEL_E_ARGUMENT. The thread that is inside the handle calls
 * them, and no other.
 *
 * SQLite and Redis have two threads for each such route, one that asks and one that hears what other
 * servers want; neither a turn nor a call waits for them, and heartwheel_fd becomes readable for what
 * they bring. heartwheel_free waits for them, for two seconds at most, to save what was let go of before; what peers have that are still open is not saved then:
 * drain first, and pull each HEARTWHEEL_CLOSED.
 *
 * Returns as heartwheel_route_websocket, and HEARTWHEEL_E_ARGUMENT if sessions, one of its texts,
 * freeze or thaw is NULL, if struct_size, key or store is none of the above, or if the library was
 * built without the feature `sessions` or that of the store; HEARTWHEEL_E_IO if the file is none of
 * SQLite or cannot be written, or there is no thread. Redis is connected to when it is needed. Any
 * time; waits for the disk with SQLite.
 */
int heartwheel_route_sessions(heartwheel *, const char *path, const heartwheel_sessions *sessions);

/*
 * Serves requests that you answer: each is a HEARTWHEEL_REQUEST event. method: "GET", which takes
 * HEAD, too, "POST", "PUT", "PATCH", "DELETE", "OPTIONS" or "TRACE". A body is complete when you
 * are told of the request; limits.message_bytes bounds it. The path is as for
 * heartwheel_route_websocket; both may be served on the same one.
 *
 * The peer of the event stands for the request: it is a connection as any other for _address and
 * _kick, and takes no messages. You have until deadlines.handshake to answer, from the request's
 * first byte on, and may handle other events meanwhile. Then the client gets 503, and you get
 * HEARTWHEEL_ABANDONED. If you pull no events, requests wait and end in the same way.
 *
 * Returns as heartwheel_route_websocket, and HEARTWHEEL_E_ARGUMENT for any other method. Any time.
 */
int heartwheel_route_request(heartwheel *, const char *method, const char *path);

/*
 * Asks you about each request for a path before it is served, whatever is served there: an upgrade
 * to a WebSocket, an event stream, a topic, a request of your own. Each is a HEARTWHEEL_UPGRADE
 * event; heartwheel_accept lets it in, heartwheel_refuse does not. heartwheel_method tells what it
 * is: an upgrade is a "GET" with the header "Upgrade". You have as long as for a
 * HEARTWHEEL_REQUEST, and its peer stands for the request in the same way. Where the configuration
 * asks for tokens, the token was checked before. A request of your own comes as HEARTWHEEL_REQUEST
 * after you let it in.
 *
 * It holds for the routes that this path has now, written as it was for them ("/topics/{topic}").
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if the path has no route, or one of
 * heartwheel_route_get alone. Any time.
 */
int heartwheel_route_ask(heartwheel *, const char *path);

/*
 * As heartwheel_listen, for the operator: such an address serves heartwheel_route_operator and
 * heartwheel_route_health and nothing else, asks for no token, and listens until the end of a
 * drain. Who reaches it can end every connection: keep it local, "127.0.0.1:9090" or a unix:
 * socket.
 */
int heartwheel_listen_operator(heartwheel *, const char *address);

/*
 * Makes a client: a connection that is made on the loop of this handle, and made again after each
 * end, until heartwheel_close stops it. url: "ws://HOST[:PORT][/PATH]", or "wss:" in a library with
 * the feature `tls`; without a path it means "/ws". token_or_null is sent as a bearer token. The
 * keys client.*, heartbeat.* and deadlines.* hold for it; src/guide/client.md has what happens when.
 * The certificate of a wss: server is judged by the PEM file that SSL_CERT_FILE names, else by the
 * system's bundle.
 *
 * *out names the client, as a peer: heartwheel_send_text and _binary send to its server,
 * HEARTWHEEL_E_GONE without an open connection; heartwheel_close stops it, in good order. With
 * HEARTWHEEL_CONNECT_TOPICS it speaks the messages of /ws with a heartwheel server:
 * heartwheel_subscribe, _subscribe_after and _unsubscribe are for topics of that server, and are
 * resumed after a break. Its events are HEARTWHEEL_STATE, TEXT, BINARY, and the others of clients.
 * If you pull none, no more is read once 1,024 wait, or 1 MiB; of states the newest then stands for
 * those before it.
 *
 * A handle that listens nowhere may have clients as well. A host name is looked up on a thread that
 * ends a minute after the last name; an address needs none.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT if the url, the token or the flags cannot be used, or
 * if the library was built without the feature `client`; HEARTWHEEL_E_CONFIG if there is no file of
 * certificates. Any time.
 */
enum { HEARTWHEEL_CONNECT_TOPICS = 1 };
int heartwheel_connect(heartwheel *, const char *url, const char *token_or_null, unsigned flags,
                       heartwheel_peer *out);

/*
 * Publishes text, which must be UTF-8, to a topic of the server of a client with
 * HEARTWHEEL_CONNECT_TOPICS: now, or when there is a connection. It is kept until the server answers,
 * and sent again after a break, which the server publishes once. HEARTWHEEL_PUBLISHED or
 * _NOT_PUBLISHED bear the reference that is put into *reference_or_null.
 *
 * heartwheel_publish_binary_to publishes bytes. They travel in CBOR alone: the library and the
 * server must have been built with the feature `cbor`. If the server turns out to have no CBOR, bytes
 * that waited for the connection end with HEARTWHEEL_NOT_PUBLISHED, "bad_request".
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_FULL if more than client.pending_bytes, or 64 publications,
 * wait for an answer; HEARTWHEEL_E_ARGUMENT if no topic can have this name, or the client has no
 * topics, or the connection bears no bytes, or no message as long; HEARTWHEEL_E_GONE. Any time.
 */
int heartwheel_publish_to(heartwheel *, heartwheel_peer client, const char *topic, const char *text,
                          size_t len, uint64_t *reference_or_null);
int heartwheel_publish_binary_to(heartwheel *, heartwheel_peer client, const char *topic,
                                 const void *data, size_t len, uint64_t *reference_or_null);

/*
 * Asks who is on a topic of the server of a client with HEARTWHEEL_CONNECT_TOPICS: now, or when
 * there is a connection, and again if that breaks before the answer. HEARTWHEEL_PRESENCE or
 * _NO_PRESENCE bear the reference that is put into *reference_or_null. The server tells it of the
 * topics that its key topics.presence names, to those who may subscribe to them.
 *
 * A server's own peers are members of what heartwheel_subscribe has subscribed them to, and hear of
 * others as messages of "$presence.TOPIC", in JSON; a host that wants to know it of its own server
 * connects a client to it.
 *
 * Who joins and leaves comes as events of the topic "$presence.TOPIC", which is subscribed to as any
 * other: a HEARTWHEEL_TOPIC_TEXT for all who did so in the same quarter of a second, at least 1 s
 * after it happened; a person who is back by then has not left. To know at any time who is there,
 * subscribe to it first, and ask then; ask again after its HEARTWHEEL_TOPIC_GAP.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_FULL while 64 questions wait for an answer;
 * HEARTWHEEL_E_ARGUMENT if no topic can have this name, or the client has no topics, or if the
 * library was built without the features `client` and `presence`; HEARTWHEEL_E_GONE, also for a peer
 * that is no client. Any time.
 */
int heartwheel_presence(heartwheel *, heartwheel_peer client, const char *topic,
                        uint64_t *reference_or_null);

/*
 * As heartwheel_subscribe_after for a client, or, if position_or_null is NULL, as
 * heartwheel_subscribe; and has the client say something of itself to those who ask who is there:
 * UTF-8, at most 256 bytes without control characters. It is said again after each break.
 *
 * Returns as these, and HEARTWHEEL_E_ARGUMENT for any other info, for a peer that is no client, or
 * as heartwheel_presence.
 */
int heartwheel_subscribe_as(heartwheel *, heartwheel_peer client, const char *topic,
                            const char *position_or_null, const char *info);

/* What has become of a member. */
enum {
    /* It is there: of HEARTWHEEL_PRESENCE. */
    HEARTWHEEL_IS_THERE = 0,
    /* A person has joined, with this connection; has left, of which this was the last connection:
     * of events of "$presence.TOPIC". */
    HEARTWHEEL_HAS_JOINED = 1,
    HEARTWHEEL_HAS_LEFT = 2
};

/* A member of a topic: a connection. Connections of one identity are one person. Set struct_size to
 * sizeof(heartwheel_member) before the first call; it stays. */
typedef struct heartwheel_member {
    size_t struct_size;
    uint32_t change;
    uint32_t reserved;
    /* Who it is, and what it has said of itself: at most 256 bytes each, or NULL. The id of the
     * connection at its server, as text: what the server's log and table of connections call it;
     * never NULL. All end with a NUL, and are valid as long as the data of the event. */
    const char *identity;
    const char *info;
    const char *connection;
} heartwheel_member;

/*
 * Read the members in the client's event that was pulled last: a HEARTWHEEL_PRESENCE, or an event of
 * "$presence.TOPIC". _member puts one into *out, index counts from 0: first those who have joined,
 * then those who have left. _count returns how many members the topic has in all.
 *
 * _member returns HEARTWHEEL_OK; HEARTWHEEL_DONE behind the last, *out is untouched;
 * HEARTWHEEL_E_NONE if the event is of another kind, or the topic has more members than the server
 * names (its key topics.presence_members, 1000); HEARTWHEEL_E_ARGUMENT if out is NULL, its
 * struct_size too small, or as heartwheel_presence. _count returns HEARTWHEEL_E_NONE for an event of
 * another kind. Until the next event or turn.
 */
int heartwheel_event_member(heartwheel *, size_t index, heartwheel_member *out);
int64_t heartwheel_event_count(heartwheel *);

/*
 * Write the topic, and the id, of the client's event that was pulled last, cut to size, with a NUL
 * behind it: of HEARTWHEEL_TOPIC_TEXT, _BINARY, _GAP, _NOT_SUBSCRIBED, _PRESENCE and _NO_PRESENCE
 * the topic, of HEARTWHEEL_TOPIC_TEXT, _BINARY and _PUBLISHED the id. From an id heartwheel_subscribe_after goes on
 * after a restart. A topic has at most 128 bytes, an id 41, without the NUL.
 *
 * Return the length, without the NUL; HEARTWHEEL_E_NONE if the event has none;
 * HEARTWHEEL_E_ARGUMENT if text is NULL and size not 0. Until the next event or turn.
 */
int heartwheel_event_topic(heartwheel *, char *text, size_t size);
int heartwheel_event_id(heartwheel *, char *text, size_t size);

/*
 * Returns the one descriptor to watch for reading (POLLIN), by poll, epoll or a loop library. It
 * becomes readable for new bytes, new connections, room to write if something waits, answers of a
 * store of sessions, and heartwheel_wake; and for nothing else. It does not tell deadlines: see
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
 * Read the request of a peer: from HEARTWHEEL_REQUEST or _UPGRADE until you answer it; during
 * HEARTWHEEL_OPENED until the next event or turn is asked for; and, after heartwheel_keep_request
 * during that event, until the peer's HEARTWHEEL_CLOSED is left behind. Nothing is kept of it
 * unless you ask: what is kept are the bytes of its head and some 200 more.
 *
 * Each writes text to a place of yours, cut to its size and ended by a NUL if size is not 0; text
 * may be NULL if size is 0. The text is as sent, and not decoded, but _query_value and _parameter
 * are.
 *
 * _path: without the query. _query: what follows the '?'. _query_value: the first value of this
 * name in the query, decoded; bytes that are not UTF-8 become U+FFFD. _parameter: what the path has
 * for a {name} of its route, decoded; it may have a '/' then, and may be "..". _header: the first
 * line of this name, in any case. _trace: the trace context that the client gave by a valid
 * traceparent (W3C Trace Context), 55 bytes.
 *
 * Return the length of the whole text; HEARTWHEEL_E_NONE if the request has no such part, or if the
 * peer is open and its request was not kept; HEARTWHEEL_E_GONE; HEARTWHEEL_E_ARGUMENT.
 */
int heartwheel_method(heartwheel *, heartwheel_peer, char *text, size_t size);
int heartwheel_path(heartwheel *, heartwheel_peer, char *text, size_t size);
int heartwheel_query(heartwheel *, heartwheel_peer, char *text, size_t size);
int heartwheel_query_value(heartwheel *, heartwheel_peer, const char *name, char *text,
                           size_t size);
int heartwheel_header(heartwheel *, heartwheel_peer, const char *name, char *text, size_t size);
int heartwheel_trace(heartwheel *, heartwheel_peer, char *text, size_t size);
int heartwheel_parameter(heartwheel *, heartwheel_peer, const char *name, char *text,
                         size_t size);
int heartwheel_keep_request(heartwheel *, heartwheel_peer);

/*
 * Shows the body of a request. *data is never NULL, not ended by a NUL, and valid until you answer
 * the request, pull its HEARTWHEEL_ABANDONED, or free the server.
 *
 * Returns HEARTWHEEL_OK, also for an empty body; the failures are as of heartwheel_path.
 */
int heartwheel_body(heartwheel *, heartwheel_peer, const uint8_t **data, size_t *len);

/*
 * Answers a HEARTWHEEL_REQUEST, once. status: 200 to 599. content_type: NULL for an answer without
 * a body; data and len are as for heartwheel_send_binary, and copied. An answer of 204, 205 or 304
 * has none. To HEAD the same is answered without its body. The answer leaves in the next turn.
 *
 * heartwheel_respond_header adds a line to the answer that follows, also to that of _accept and
 * _refuse: a cookie, a location. Lines for one name may be several. All have 4,096 bytes at most.
 * The server's own are refused: Content-Length, Content-Type, Date and those of the connection.
 *
 * Return HEARTWHEEL_OK; HEARTWHEEL_E_GONE if nobody waits for an answer of this peer (any more);
 * HEARTWHEEL_E_FULL without memory for the copy, or beyond 4,096 bytes of lines;
 * HEARTWHEEL_E_ARGUMENT for anything that could not be sent, and nothing has changed.
 */
int heartwheel_respond(heartwheel *, heartwheel_peer, int status, const char *content_type,
                       const void *data, size_t len);
int heartwheel_respond_header(heartwheel *, heartwheel_peer, const char *name, const char *value);

/*
 * Lets a HEARTWHEEL_UPGRADE in, once. All texts may be NULL.
 *
 * identity: who is at the other end, 1 to 256 bytes. heartwheel_identity returns it, and the log
 * and the operator's table show it.
 * publish, subscribe: patterns of topics with blanks between them, "devices.7.* alarms", at most 64
 * in all; '*' stands for one character or more. If both are NULL, no right is taken away. If one is
 * given, even if it is empty, what neither names is not allowed; what the request itself asks for
 * is refused with 403 then. They bind what the client does, not heartwheel_subscribe.
 * protocol: the subprotocol of a WebSocket, one of those that the client has offered.
 *
 * Returns as heartwheel_respond; HEARTWHEEL_E_ARGUMENT, and it still waits, for what cannot be
 * taken.
 */
int heartwheel_accept(heartwheel *, heartwheel_peer, const char *identity, const char *publish,
                      const char *subscribe, const char *protocol);

/*
 * Writes who is at the other end of a connection: what heartwheel_accept said, else what the file
 * of tokens or a client's certificate says. While it lives, as heartwheel_address.
 *
 * Returns the length of the whole text, at most 256; HEARTWHEEL_E_NONE if that is not known;
 * HEARTWHEEL_E_GONE; HEARTWHEEL_E_ARGUMENT.
 */
int heartwheel_identity(heartwheel *, heartwheel_peer, char *text, size_t size);

/*
 * Answers a HEARTWHEEL_REQUEST or _UPGRADE with a refusal: a status of 300 to 599, and a sentence
 * as plain text. 401, 429 and 503 get the header that they need, unless you have added it. Returns
 * as heartwheel_respond.
 */
int heartwheel_refuse(heartwheel *, heartwheel_peer, int status, const char *sentence);

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
 * As heartwheel_subscribe, but first come the retained events after a position, which the client
 * gave: the id of the last event that it has ("0-0": all that is retained).
 *
 * Returns as heartwheel_subscribe, and HEARTWHEEL_GAP if some of the events after the position are
 * not retained any more, or if it is not a position of this server: then all that is retained
 * comes, and the application tells its client that some are missing.
 */
int heartwheel_subscribe_after(heartwheel *, heartwheel_peer, const char *topic,
                               const char *position);

/*
 * Reads the newest event of a topic into *out, whose struct_size you have set: kind is
 * HEARTWHEEL_TEXT (text or JSON) or HEARTWHEEL_BINARY, peer is 0, and data is valid until the next
 * heartwheel_turn, _latest, _metrics, _connections or _free. position gets the event's id, as text
 * of fewer than 48 bytes with its NUL, cut to size; position may be NULL if size is 0.
 *
 * Returns the length of the id; HEARTWHEEL_E_NONE if the topic has no event (any more);
 * HEARTWHEEL_E_ARGUMENT for a bad name of a topic, or as heartwheel_next_event.
 */
int heartwheel_latest(heartwheel *, const char *topic, heartwheel_event *out, char *position,
                      size_t size);

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
 * As heartwheel_close, with a reason for the client: UTF-8, at most 123 bytes (RFC 6455, 5.5).
 * Returns as heartwheel_close; HEARTWHEEL_E_ARGUMENT if the text is longer, or not UTF-8.
 */
int heartwheel_close_text(heartwheel *, heartwheel_peer, uint16_t code, const char *text,
                          size_t len);

/*
 * Ends a connection of any kind, as the operator does: a WebSocket by 1008 "kicked" and an event
 * stream by its end, behind what is queued; a request without an answer. What the peer has sent and
 * you have not pulled still comes, then HEARTWHEEL_CLOSED with "kicked".
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_GONE if there is no such connection.
 */
int heartwheel_kick(heartwheel *, heartwheel_peer);

/*
 * Keep a pointer with a peer, from its HEARTWHEEL_OPENED on, or with a request that you have not
 * answered. heartwheel_user returns it until you answer the request, or until the HEARTWHEEL_CLOSED
 * or _ABANDONED of the peer was pulled and the next event or turn asked for: the place to free what
 * it points to is that event. A WebSocket does not get the pointer of its HEARTWHEEL_UPGRADE; an
 * identity goes along. The library only keeps the pointer: it costs an allocation of three
 * words, and nothing for a peer without one.
 *
 * heartwheel_set_user returns HEARTWHEEL_OK; HEARTWHEEL_E_GONE if you were not told of the peer, or
 * it has ended and its HEARTWHEEL_CLOSED waits to be pulled. heartwheel_user returns NULL then, or
 * if none was set.
 */
int heartwheel_set_user(heartwheel *, heartwheel_peer, void *user);
void *heartwheel_user(heartwheel *, heartwheel_peer);

/*
 * Set a timer of a peer: after ms milliseconds, and at most one tick and the turn in progress
 * later, its HEARTWHEEL_TIMER comes with this token, in the order of its other events. To set a
 * timer with the token of one that is pending, or that is due and was not pulled, is to move it. A
 * timer is of the peer: it ends with it. It follows heartwheel_set_clock, and costs 16 bytes while
 * it pends and no wake-up of its own. heartwheel_cancel takes one back, also one that is due and
 * was not pulled.
 *
 * heartwheel_after returns HEARTWHEEL_OK; HEARTWHEEL_E_GONE if the peer is gone, closing, or stands
 * for a request; HEARTWHEEL_E_FULL beyond limits.timers of this peer. heartwheel_cancel returns
 * HEARTWHEEL_OK; HEARTWHEEL_E_NONE if there is no such timer.
 */
int heartwheel_after(heartwheel *, heartwheel_peer, uint64_t ms, uint64_t token);
int heartwheel_cancel(heartwheel *, heartwheel_peer, uint64_t token);

/*
 * Writes the address of a connection's peer to text, as "192.0.2.1:4711", "[2001:db8::1]:4711" or
 * "unix": fewer than 64 bytes with the NUL, cut to size. text may be NULL if size is 0.
 *
 * Returns the length of the whole address; HEARTWHEEL_E_GONE if the connection has ended.
 */
int heartwheel_address(heartwheel *, heartwheel_peer, char *text, size_t size);

/*
 * Lists peers that are open: those whose HEARTWHEEL_OPENED you have pulled and that are neither
 * gone nor closing. after: 0 to begin, then the last peer that you were given; the order is of
 * places, not of time. peers: room for count of them, at most 2^24. A peer that opens meanwhile may
 * be left out; none is listed twice unless it ends and its place is taken anew.
 *
 * Returns how many were written: 0 at the end. Takes some nanoseconds for each place of
 * limits.connections that it passes.
 */
int heartwheel_peers(heartwheel *, heartwheel_peer after, heartwheel_peer *peers, size_t count);

/*
 * Begins to end: listeners are closed at once, every connection is closed in turn (1001,
 * "retry=MS"), and those left after deadlines.drain are dropped. Go on turning and pulling as
 * before, until heartwheel_turn returns HEARTWHEEL_DONE. To drain twice is to drain once.
 */
int heartwheel_drain(heartwheel *);

/*
 * Tells a part of the clients of WebSockets and event streams, chosen at random, to come back
 * later: 1012 "retry=MS", spread over the smaller of half of deadlines.drain and two milliseconds
 * for each of them. fraction: 0 to 1. A server that drains ignores it.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_ARGUMENT for any other number.
 */
int heartwheel_shed(heartwheel *, double fraction);

/*
 * Puts another configuration in force from the next turn on: the whole of it, read as by
 * heartwheel_new. No connection is ended by the change. Limits hold for what comes, deadlines count
 * from where they began, the file of tokens is read again. Keys that take a restart keep their
 * values, `listen` among them, and the log names them.
 *
 * Returns HEARTWHEEL_OK; HEARTWHEEL_E_CONFIG with the faults as the sentence, and
 * HEARTWHEEL_E_ARGUMENT if the text is not UTF-8: nothing has changed then. Reads files, and so may
 * block for as long as they do.
 */
int heartwheel_reload(heartwheel *, const char *toml_or_null);

/* What heartwheel_adopt_fd is told: 0, the first of these alone, or any of the others. */
enum {
    /* It is an address of the operator: see heartwheel_listen_operator. */
    HEARTWHEEL_ADOPT_OPERATOR = 1,
    /* TLS is spoken there; tls.certificate and tls.key are set, and the library has TLS. */
    HEARTWHEEL_ADOPT_TLS = 2,
    /* Each connection begins with a PROXY header, also before TLS; proxy.trusted is set. */
    HEARTWHEEL_ADOPT_PROXY = 4
};

/*
 * Serves on a listening stream socket that was bound elsewhere: by a service manager (LISTEN_FDS),
 * a parent process, an exec of this program before. TCP or Unix. After success it belongs to the
 * library, under another number; after a failure it is yours as it was.
 *
 * Returns the port, 0 for a Unix socket; HEARTWHEEL_E_ARGUMENT if it is no such socket, or for
 * other flags; HEARTWHEEL_E_IO if the system refuses, or what the flags need is not there. Any time.
 */
int heartwheel_adopt_fd(heartwheel *, int fd, unsigned flags);

/*
 * Show all figures in the Prometheus text format, as GET /metrics does, and the table of
 * connections, an array of JSON objects, as GET /connections does: for a host that serves or logs
 * them itself. *text is ended by a NUL, which *len does not count, and valid until the next
 * heartwheel_turn, _latest, _metrics, _connections or _free.
 *
 * The table comes in slices of about 16 KB: put 0 into *place, and call until HEARTWHEEL_DONE,
 * which leaves *text and *len as they are. The text of all slices together is the array. Turns may
 * go on in between; *place is a number to be given back as it is.
 *
 * Return HEARTWHEEL_OK, HEARTWHEEL_DONE, or HEARTWHEEL_E_ARGUMENT if a pointer is NULL. The figures
 * take some nanoseconds for each connection, and a few system calls.
 */
int heartwheel_metrics(heartwheel *, const char **text, size_t *len);
int heartwheel_connections(heartwheel *, uint64_t *place, const char **text, size_t *len);

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
 * allowed. Blocks only for sessions in SQLite or Redis that are still to be saved, for up to two
 * seconds. To tell the peers of the end, call heartwheel_drain first.
 *
 * Using a handle after this is undefined, as after free(3); the library notices it only sometimes.
 * Ignored from inside the log callback of a call that uses the handle.
 */
void heartwheel_free(heartwheel *);

#ifdef __cplusplus
}
#endif

#endif
