/* libwebsockets on one thread, with its own poll() loop: with libuv's, each message costs more. A
 * message is put together, then sent back as one frame as soon as the socket is writable: one per
 * callback, as the library demands. */
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* How much is read at once, and handed over at once. */
#define READ_BYTES (64 * 1024)

struct message {
    struct message *next;
    enum lws_write_protocol kind;
    size_t length, capacity;
    /* LWS_PRE bytes for the library, then the message. */
    unsigned char bytes[];
};

/* What a connection has: what is still coming, and what waits for its turn to be sent. */
struct session {
    struct message *coming, *first, *last;
};

static int receive(struct lws *socket, struct session *session, const void *in, size_t length)
{
    struct message *message = session->coming;
    size_t needed = (message ? message->length : 0) + length;
    if (!message || needed > message->capacity) {
        size_t capacity = needed + lws_remaining_packet_payload(socket);
        message = realloc(message, sizeof *message + LWS_PRE + capacity);
        if (!message)
            return -1;
        message->capacity = capacity;
        if (!session->coming) {
            message->next = NULL;
            message->length = 0;
            message->kind = lws_frame_is_binary(socket) ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
        }
        session->coming = message;
    }
    if (length)
        memcpy(message->bytes + LWS_PRE + message->length, in, length);
    message->length += length;
    if (!lws_is_final_fragment(socket))
        return 0;
    session->coming = NULL;
    if (session->first)
        session->last->next = message;
    else
        session->first = message;
    session->last = message;
    lws_callback_on_writable(socket);
    return 0;
}

static int send_first(struct lws *socket, struct session *session)
{
    struct message *message = session->first;
    if (!message)
        return 0;
    int sent = lws_write(socket, message->bytes + LWS_PRE, message->length, message->kind);
    session->first = message->next;
    free(message);
    if (session->first)
        lws_callback_on_writable(socket);
    return sent < 0 ? -1 : 0;
}

static void release(struct session *session)
{
    free(session->coming);
    while (session->first) {
        struct message *message = session->first;
        session->first = message->next;
        free(message);
    }
}

static int on_event(struct lws *socket, enum lws_callback_reasons reason, void *session, void *in,
                    size_t length)
{
    switch (reason) {
    case LWS_CALLBACK_RECEIVE:
        return receive(socket, session, in, length);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return send_first(socket, session);
    case LWS_CALLBACK_CLOSED:
        release(session);
        return 0;
    default:
        return lws_callback_http_dummy(socket, reason, session, in, length);
    }
}

int main(int count, char **arguments)
{
    char host[64];
    int port;
    if (count != 3 || strcmp(arguments[1], "--listen") ||
        sscanf(arguments[2], "%63[0-9.]:%d", host, &port) != 2) {
        fprintf(stderr, "usage: %s --listen ADDRESS:PORT\n", arguments[0]);
        return 2;
    }

    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);

    const struct lws_protocols protocols[] = {
        {.name = "echo",
         .callback = on_event,
         .per_session_data_size = sizeof(struct session),
         .rx_buffer_size = READ_BYTES,
         /* Else it would cut a message into writes of rx_buffer_size. */
         .tx_packet_size = 64 << 20},
        {0},
    };
    struct lws_context_creation_info information = {
        .iface = host, .port = port, .protocols = protocols, .pt_serv_buf_size = READ_BYTES};
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context *context = lws_create_context(&information);
    if (!context)
        return 1;
    port = lws_get_vhost_listen_port(lws_get_vhost_by_name(context, "default"));
    printf("listening %s:%d\n", host, port);
    fflush(stdout);
    while (lws_service(context, 0) >= 0)
        ;
    return 1;
}
