/*
 * What the program serves, a host serves with one call each: topics, the hub, event streams, health,
 * answers that are always the same, and the operator on addresses of its own.
 */
#include "check.h"

#define GET(port, path) ask(server, port, "GET " path, "", "")

static void topics_are_served(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    CHECK_ANSWER(GET(host.port, "/topics/a"), "404", "");
    CHECK_IS(heartwheel_route_topics(server, "/topics/{topic}"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_events(server, "/events"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_hub(server, "/ws"), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(host.port, "/topics/a"), "204", "Event-Id");
    CHECK_ANSWER(ask(server, host.port, "POST /topics/a",
                     "Content-Type: text/plain\r\nContent-Length: 3\r\n", "one"),
                 "200", "");
    CHECK_ANSWER(GET(host.port, "/topics/a"), "200", "\r\n\r\none");
    CHECK_IS(heartwheel_publish_text(server, "a", "two", 3), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(host.port, "/topics/a"), "200", "\r\n\r\ntwo");
    CHECK_ANSWER(GET(host.port, "/events"), "400", "name the topics");
    CHECK_ANSWER(GET(host.port, "/ws"), "426", "WebSocket");

    /* An event stream, and a WebSocket of a topic: what the host publishes reaches both. */
    int stream = dial(host.port, 0);
    send_all(stream, "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n", 54);
    int socket = dial(host.port, 0);
    ask_upgrade(socket, "/topics/a");
    read_upgrade(server, socket);
    settle(server);
    CHECK_IS(heartwheel_publish_text(server, "a", "three", 5), HEARTWHEEL_OK);
    expect_frame(server, socket, 1, "three");
    char text[4096] = "";
    size_t len = 0;
    while (strstr(text, "data: three") == NULL) {
        CHECK(len < sizeof text - 1);
        read_turning(server, stream, text + len, 1);
        text[++len] = 0;
    }
    /* What a client publishes here is no event of the host's. */
    send_text(socket, "four");
    expect_frame(server, socket, 1, "four");
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    CHECK_IS(heartwheel_next_event(server, &event), HEARTWHEEL_DONE);
    close(stream);
    close(socket);

    int hub = dial(host.port, 0);
    ask_upgrade(hub, "/ws");
    read_upgrade(server, hub);
    uint8_t *hello;
    CHECK_IS(read_frame(server, hub, &hello, &len), 1);
    CHECK(strstr((char *)hello, "\"hello\"") != NULL);
    free(hello);
    close(hub);
    heartwheel_free(server);
}

static void health_is_served(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    CHECK_ANSWER(GET(host.port, "/healthz"), "404", "");
    CHECK_IS(heartwheel_route_health(server), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(host.port, "/healthz"), "200", "ok");
    CHECK_ANSWER(GET(host.port, "/readyz"), "200", "ready");
    heartwheel_free(server);
}

static void a_page_is_served(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    char page[] = "<p>hello", type[] = "text/html; charset=utf-8", path[] = "/";
    CHECK_IS(heartwheel_route_get(server, path, type, page, 8), HEARTWHEEL_OK);
    /* All of it was copied. */
    memset(page, 'x', sizeof page);
    memset(type, 'x', sizeof type);
    memset(path, 'x', sizeof path);
    CHECK_ANSWER(GET(host.port, "/"), "200", "Content-Type: text/html; charset=utf-8\r\n");
    CHECK_ANSWER(GET(host.port, "/"), "200", "Cache-Control: no-cache\r\n");
    CHECK_ANSWER(GET(host.port, "/"), "200", "\r\n\r\n<p>hello");
    char *head = ask(server, host.port, "HEAD /", "", "");
    CHECK(strstr(head, "Content-Length: 8\r\n") != NULL && strstr(head, "<p>") == NULL);
    free(head);
    CHECK_ANSWER(ask(server, host.port, "POST /", "Content-Length: 0\r\n", ""), "405", "Allow");
    /* The next call wins; an answer may be empty. */
    CHECK_IS(heartwheel_route_get(server, "/", "text/plain", "second", 6), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(host.port, "/"), "200", "\r\n\r\nsecond");
    CHECK_IS(heartwheel_route_get(server, "/empty", "text/plain", NULL, 0), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(host.port, "/empty"), "200", "Content-Length: 0\r\n");
    /* Beside it the host's own route goes on. */
    int fd = open_peer(server, host.port, "/echo", NULL);
    close(fd);
    /* None of it waits for the host to pull, and a drain ends. */
    CHECK_IS(heartwheel_drain(server), HEARTWHEEL_OK);
    heartwheel_free(server);
}

static void write_file(const char *folder, const char *name, const char *text, size_t count)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    for (size_t i = 0; i < count; i++)
        CHECK_IS(fputs(text, file) >= 0, 1);
    CHECK_IS(fclose(file), 0);
}

static void a_folder_is_served(void)
{
    char folder[] = "/tmp/heartwheel-folder-XXXXXX", command[64];
    CHECK(mkdtemp(folder) != NULL);
    write_file(folder, "index.html", "<p>index", 1);
    write_file(folder, "big.txt", "0123456789", 30000);
    write_file(folder, ".hidden", "no", 1);
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    CHECK_IS(heartwheel_route_files(NULL, "/", folder), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_files(server, NULL, folder), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_files(server, "/", NULL), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_files(server, "/\xff", folder), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_files(server, "/a{b/", folder), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_files(server, "/", "/no/such/folder"), HEARTWHEEL_E_IO);
    CHECK_ANSWER(GET(host.port, "/"), "404", "");
    CHECK_IS(heartwheel_route_files(server, "/", folder), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(host.port, "/"), "200", "\r\n\r\n<p>index");
    CHECK_ANSWER(GET(host.port, "/.hidden"), "404", "");
    CHECK_ANSWER(GET(host.port, "/../etc/passwd"), "404", "");
    CHECK_ANSWER(ask(server, host.port, "GET /big.txt", "Range: bytes=5-7\r\n", ""), "206",
                 "\r\n\r\n567");
    /* In slices, while other peers are served, and to the last byte. */
    int fd = dial(host.port, 0);
    const char *request = "GET /big.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    send_all(fd, request, strlen(request));
    char some[4096];
    size_t len = 0;
    int64_t began = now_us();
    for (ssize_t got = -1; got != 0; len += got > 0 ? (size_t)got : 0) {
        got = recv(fd, some, sizeof some, MSG_DONTWAIT);
        is_ready(server, heartwheel_next_timeout_ms(server) == 0 ? 0 : 1);
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
        CHECK(now_us() - began < PATIENCE_MS * 1000);
    }
    CHECK(len > 300000 && len < 301000);
    close(fd);
    fd = open_peer(server, host.port, "/echo", NULL);
    close(fd);
    heartwheel_free(server);
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK_IS(system(command), 0);
}

static void a_page_is_for_all_if_the_host_says_so(void)
{
    char file[] = "/tmp/heartwheel-tokens-XXXXXX", toml[128];
    int tokens = mkstemp(file);
    CHECK(tokens >= 0);
    CHECK_IS(write(tokens, "7Jp0uX2vQd publish=* subscribe=*\n", 33), 33);
    close(tokens);
    snprintf(toml, sizeof toml, "[admission]\ntokens = \"%s\"", file);
    host host = host_new(toml, "/echo");
    heartwheel *server = host.server;
    CHECK_IS(heartwheel_route_open(server, "/"), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(server, "/", "text/plain", "page", 4), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(host.port, "/"), "401", "");
    CHECK_IS(heartwheel_route_open(server, "/"), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(host.port, "/"), "200", "page");
    CHECK_ANSWER(GET(host.port, "/echo"), "401", "");
    heartwheel_free(server);
    unlink(file);
}

static void a_path_has_limits_of_its_own(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    const char *key = "limits.message_bytes", *ten = "Content-Length: 10\r\n", *body = "0123456789";
    CHECK_IS(heartwheel_route_topics(server, "/topics/{topic}"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_topics(server, "/others/{topic}"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_set(server, "/none", key, "4"), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_set(server, "/topics/{topic}", key, "0"), HEARTWHEEL_E_CONFIG);
    CHECK(strstr(heartwheel_last_error(server), "limits.message_bytes = 0: must be") != NULL);
    CHECK_IS(heartwheel_route_set(server, "/topics/{topic}", "workers", "1"), HEARTWHEEL_E_CONFIG);
    CHECK_ANSWER(ask(server, host.port, "POST /topics/a", ten, body), "200", "");
    CHECK_IS(heartwheel_route_set(server, "/topics/{topic}", key, "4"), HEARTWHEEL_OK);
    CHECK_ANSWER(ask(server, host.port, "POST /topics/a", ten, body), "413", "");
    CHECK_ANSWER(ask(server, host.port, "POST /others/a", ten, body), "200", "");
    CHECK_IS(heartwheel_reload(server, "[limits]\nmessage_bytes = \"5\""), HEARTWHEEL_OK);
    CHECK_ANSWER(ask(server, host.port, "POST /others/a", ten, body), "413", "");
    CHECK_ANSWER(ask(server, host.port, "POST /topics/a", "Content-Length: 4\r\n", "0123"), "200",
                 "");
    heartwheel_free(server);
}

static void the_operator_has_addresses_of_its_own(void)
{
    heartwheel *server;
    CHECK_IS(heartwheel_new("admin_listen = \"127.0.0.1:0\"", &server), HEARTWHEEL_OK);
    int port = heartwheel_listen(server, "127.0.0.1:0");
    int own = heartwheel_listen_operator(server, "127.0.0.1:0");
    CHECK(port > 0 && own > 0 && port != own);
    CHECK_ANSWER(GET(own, "/metrics"), "404", "");
    CHECK_IS(heartwheel_route_operator(server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_health(server), HEARTWHEEL_OK);
    CHECK_ANSWER(GET(own, "/metrics"), "200", "heartwheel_connections");
    CHECK_ANSWER(GET(own, "/connections"), "200", "\"phase\"");
    CHECK_ANSWER(GET(own, "/readyz"), "200", "ready");
    CHECK_ANSWER(GET(port, "/metrics"), "404", "");
    CHECK_ANSWER(ask(server, own, "POST /drain", "", ""), "202", "");
    int64_t began = now_us();
    while (heartwheel_turn(server) != HEARTWHEEL_DONE)
        CHECK(now_us() - began < PATIENCE_MS * 1000);
    heartwheel_free(server);
}

static void bad_arguments_are_answered(void)
{
    host host = host_new(NULL, "/echo");
    heartwheel *server = host.server;
    int (*const with_path[])(heartwheel *, const char *) = {
        heartwheel_route_topics, heartwheel_route_hub, heartwheel_route_events,
        heartwheel_route_open, heartwheel_listen_operator,
    };
    static const char *const bad[] = {"", "a", "\xff", "/a b", "/{x}y", "/*", "/a?b", "/%zz"};
    for (size_t i = 0; i < sizeof with_path / sizeof *with_path; i++) {
        CHECK_IS(with_path[i](NULL, "/x"), HEARTWHEEL_E_ARGUMENT);
        CHECK_IS(with_path[i](server, NULL), HEARTWHEEL_E_ARGUMENT);
        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++)
            CHECK_IS(with_path[i](server, bad[j]), HEARTWHEEL_E_ARGUMENT);
    }
    CHECK_IS(heartwheel_route_topics(server, "/topics"), HEARTWHEEL_E_ARGUMENT);
    CHECK(strstr(heartwheel_last_error(server), "has {topic}") != NULL);
    CHECK_IS(heartwheel_route_health(NULL), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_operator(NULL), HEARTWHEEL_E_ARGUMENT);
    static const size_t lengths[] = {SIZE_MAX, SIZE_MAX / 2, (size_t)INT32_MAX + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        CHECK_IS(heartwheel_route_get(server, "/", "a/b", "x", lengths[i]), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(NULL, "/", "a/b", "x", 1), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(server, NULL, "a/b", "x", 1), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(server, "/", NULL, "x", 1), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(server, "/", "a/b", NULL, 1), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(server, "/", "", "x", 1), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(server, "/", "a/b\r\nEvil: 1", "x", 1), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(server, "", "a/b", "x", 1), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_route_get(server, "/{a}b", "a/b", "x", 1), HEARTWHEEL_E_ARGUMENT);
    CHECK_ANSWER(GET(host.port, "/"), "404", "");
    /* 4,096 routes, and none of a call that would add one too many. */
    for (int i = 1; i < 4094; i++)
        CHECK_IS(heartwheel_route_hub(server, "/ws"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_topics(server, "/topics/{topic}"), HEARTWHEEL_E_FULL);
    CHECK_ANSWER(GET(host.port, "/topics/a"), "404", "");
    CHECK_IS(heartwheel_route_health(server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_get(server, "/", "a/b", "x", 1), HEARTWHEEL_E_FULL);
    CHECK_IS(heartwheel_route_hub(server, "/ws"), HEARTWHEEL_E_FULL);
    heartwheel_free(server);
}

int main(void)
{
    topics_are_served();
    health_is_served();
    a_page_is_served();
    a_folder_is_served();
    a_page_is_for_all_if_the_host_says_so();
    a_path_has_limits_of_its_own();
    the_operator_has_addresses_of_its_own();
    bad_arguments_are_answered();
    puts("served: ok");
    return 0;
}
