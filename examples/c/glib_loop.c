/*
 * The server inside GLib: a source that tells the main loop its descriptor and its timeout.
 * ws://127.0.0.1:8765/echo, until SIGTERM or SIGINT. GTK and everything else on a GMainContext runs
 * beside it.
 */
#include <glib-unix.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>

#include "heartwheel.h"

struct source {
    GSource base;
    heartwheel *server;
    GMainLoop *loop;
    gpointer ready;
    int code; /* of the last turn */
};

/* How long the loop may wait, or that it need not. */
static gboolean prepare(GSource *base, gint *timeout)
{
    struct source *source = (struct source *)base;
    *timeout = (gint)heartwheel_next_timeout_ms(source->server);
    return *timeout == 0;
}

static gboolean check(GSource *base)
{
    struct source *source = (struct source *)base;
    return g_source_query_unix_fd(base, source->ready) != 0
           || heartwheel_next_timeout_ms(source->server) == 0;
}

/* Its descriptor is readable, or its timeout is over: a turn. */
static gboolean dispatch(GSource *base, GSourceFunc unused, gpointer user)
{
    (void)unused, (void)user;
    struct source *source = (struct source *)base;
    source->code = heartwheel_turn(source->server);
    heartwheel_event event;
    event.struct_size = sizeof event;
    while (heartwheel_next_event(source->server, &event) == HEARTWHEEL_OK)
        if (event.kind == HEARTWHEEL_TEXT)
            heartwheel_send_text(source->server, event.peer, (const char *)event.data, event.len);
        else if (event.kind == HEARTWHEEL_BINARY)
            heartwheel_send_binary(source->server, event.peer, event.data, event.len);
    if (source->code == HEARTWHEEL_OK)
        return G_SOURCE_CONTINUE;
    g_main_loop_quit(source->loop); /* HEARTWHEEL_DONE: drained */
    return G_SOURCE_REMOVE;
}

static gboolean end(gpointer user)
{
    struct source *source = user;
    heartwheel_drain(source->server); /* the loop asks for the timeout anew */
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv)
{
    static GSourceFuncs functions = {prepare, check, dispatch, NULL, NULL, NULL};
    struct source *source = (struct source *)g_source_new(&functions, sizeof *source);
    int port = -1;
    source->code = HEARTWHEEL_OK;
    if (heartwheel_new(NULL, &source->server) != HEARTWHEEL_OK
        || heartwheel_route_websocket(source->server, "/echo") != HEARTWHEEL_OK
        || (port = heartwheel_listen(source->server, argc > 1 ? argv[1] : "127.0.0.1:8765")) < 0) {
        fprintf(stderr, "%s\n", heartwheel_last_error(source->server));
        return 1;
    }

    source->loop = g_main_loop_new(NULL, FALSE);
    source->ready = g_source_add_unix_fd(&source->base, heartwheel_fd(source->server), G_IO_IN);
    g_source_attach(&source->base, NULL);
    guint interrupted = g_unix_signal_add(SIGINT, end, source);
    guint terminated = g_unix_signal_add(SIGTERM, end, source);
    printf("listening on port %d\n", port);
    fflush(stdout);
    g_main_loop_run(source->loop);

    int code = source->code;
    if (code != HEARTWHEEL_DONE)
        fprintf(stderr, "%s\n", heartwheel_last_error(source->server));
    g_source_remove(interrupted);
    g_source_remove(terminated);
    g_source_destroy(&source->base); /* before the server closes the descriptor */
    heartwheel_free(source->server);
    g_main_loop_unref(source->loop);
    g_source_unref(&source->base);
    return code == HEARTWHEEL_DONE ? 0 : 1;
}
