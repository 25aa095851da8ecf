/*
 * A host in C whose library speaks TLS: `host FOLDER`, the folder of certificates. It echoes at
 * /echo, serves what the program serves, and ends with its standard input.
 */
#include "check.h"

static void refusals(void)
{
    heartwheel *server;
    const char *nowhere = "[tls]\ncertificate = \"/nowhere\"\nkey = \"/nowhere\"\n";
    CHECK_IS(heartwheel_new(nowhere, &server), HEARTWHEEL_E_CONFIG);
    CHECK(strstr(heartwheel_last_error(server), "tls.certificate = /nowhere: ") != NULL);
    heartwheel_free(server);
    CHECK_IS(heartwheel_new(NULL, &server), HEARTWHEEL_OK);
    CHECK(heartwheel_listen(server, "tls:127.0.0.1:0") < 0);
    CHECK(strstr(heartwheel_last_error(server), "tls.certificate") != NULL);
    heartwheel_free(server);
}

int main(int argc, char **argv)
{
    CHECK_IS(argc, 2);
    refusals();
    char toml[2048];
    int len = snprintf(toml, sizeof toml,
                       "[tls]\ncertificate = \"%s/server.crt\"\nkey = \"%s/server.key\"\nclient = \"optional\"\nclient_ca = \"%s/ca.crt\"\n",
                       argv[1], argv[1], argv[1]);
    CHECK(len > 0 && len < (int)sizeof toml);
    heartwheel *server;
    CHECK_IS(heartwheel_new(toml, &server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_websocket(server, "/echo"), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_route_topics(server, "/topics/{topic}"), HEARTWHEEL_OK);
    int port = heartwheel_listen(server, "tls:127.0.0.1:0");
    CHECK(port > 0);
    printf("%d\n", port);
    fflush(stdout);
    for (;;) {
        heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
        while (heartwheel_next_event(server, &event) == HEARTWHEEL_OK) {
            const char *text = (const char *)event.data;
            if (event.kind == HEARTWHEEL_TEXT)
                CHECK_IS(heartwheel_send_text(server, event.peer, text, event.len), HEARTWHEEL_OK);
        }
        struct pollfd watched[] = {{heartwheel_fd(server), POLLIN, 0}, {0, POLLIN, 0}};
        int64_t wait = heartwheel_next_timeout_ms(server);
        CHECK(poll(watched, 2, wait > 1000 ? 1000 : (int)wait) >= 0);
        if (watched[1].revents != 0)
            break;
        CHECK(heartwheel_turn(server) >= 0);
    }
    heartwheel_free(server);
    return 0;
}
