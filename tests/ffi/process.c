/*
 * What the library leaves alone, and who may call: no signal handler, no thread, no SIGPIPE, no
 * descriptor for a child, one thread at a time, a wake from anywhere, one log callback. FAULTS 150,
 * 152, 156, 157.
 */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/wait.h>

static int count_entries(const char *folder)
{
    int count = 0;
    DIR *entries = opendir(folder);
    CHECK(entries != NULL);
    while (readdir(entries) != NULL)
        count++;
    closedir(entries);
    return count - 2;
}

static struct sigaction dispositions[65];

static void look_at_signals(struct sigaction *found)
{
    memset(found, 0, 65 * sizeof *found);
    for (int signal = 1; signal <= 64; signal++)
        sigaction(signal, NULL, &found[signal]);
}

static void no_thread_and_no_signal_is_touched(heartwheel *server)
{
    struct sigaction now[65];
    sigset_t mask;
    look_at_signals(now);
    for (int signal = 1; signal <= 64; signal++) {
        CHECK(now[signal].sa_handler == dispositions[signal].sa_handler);
        CHECK_IS(now[signal].sa_flags, dispositions[signal].sa_flags);
    }
    CHECK(now[SIGPIPE].sa_handler == SIG_DFL);
    CHECK_IS(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    for (int signal = 1; signal <= 64; signal++)
        CHECK(sigismember(&mask, signal) != 1);
    CHECK_IS(count_entries("/proc/self/task"), 1);
    CHECK(heartwheel_fd(server) > 2);
}

static void a_reset_raises_no_sigpipe(host host)
{
    static char much[100000];
    for (int round = 0; round < 20; round++) {
        heartwheel_peer peer;
        int fd = open_peer(host.server, host.port, "/echo", &peer), code = 0;
        for (int i = 0; i < 3; i++)
            code = heartwheel_send_binary(host.server, peer, much, sizeof much);
        CHECK(code == HEARTWHEEL_OK || code == HEARTWHEEL_E_FULL);
        if (round % 2 == 0)
            CHECK_IS(heartwheel_turn(host.server), HEARTWHEEL_OK);
        reset(fd);
        heartwheel_event event;
        do
            event = next_event(host.server);
        while (event.kind == HEARTWHEEL_DRAINED);
        CHECK_IS(event.kind, HEARTWHEEL_CLOSED);
        CHECK(event.peer == peer && bears(event, "reset"));
    }
}

static heartwheel *woken;

static void wake_by_signal(int signal)
{
    (void)signal;
    errno = EBADMSG;
    if (heartwheel_wake(woken) != HEARTWHEEL_OK || errno != EBADMSG)
        abort();
}

static void *wake_by_thread(void *server)
{
    usleep(50000);
    CHECK_IS(heartwheel_wake(server), HEARTWHEEL_OK);
    return NULL;
}

static void *wake_often(void *server)
{
    for (int i = 0; i < 10000; i++)
        CHECK_IS(heartwheel_wake(server), HEARTWHEEL_OK);
    return NULL;
}

static void anybody_wakes(heartwheel *server)
{
    settle(server);
    pthread_t thread;
    CHECK_IS(pthread_create(&thread, NULL, wake_by_thread, server), 0);
    CHECK(is_ready(server, 5000));
    CHECK_IS(pthread_join(thread, NULL), 0);
    settle(server);
    CHECK(!is_ready(server, 30));

    /* A wake while the loop turns is for the next turn: not one is lost. */
    CHECK_IS(pthread_create(&thread, NULL, wake_often, server), 0);
    for (int i = 0; i < 1000; i++)
        CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    CHECK_IS(pthread_join(thread, NULL), 0);
    CHECK_IS(heartwheel_turn(server), HEARTWHEEL_OK);
    CHECK_IS(heartwheel_wake(server), HEARTWHEEL_OK);
    CHECK(is_ready(server, 0));
    settle(server);
    CHECK(!is_ready(server, 30));

    struct sigaction action = {0}, before;
    action.sa_handler = wake_by_signal;
    CHECK_IS(sigaction(SIGUSR1, &action, &before), 0);
    woken = server;
    raise(SIGUSR1);
    CHECK(is_ready(server, 1000));
    settle(server);
    CHECK(!is_ready(server, 30));
    CHECK_IS(sigaction(SIGUSR1, &before, NULL), 0);
}

static void *turn_once(void *server)
{
    static int code;
    code = heartwheel_turn(server);
    return &code;
}

struct journal {
    heartwheel *server;
    int lines, worst, answers_checked;
    char last[512];
};

/* From inside a call nothing is taken: not from this thread, and not from another. */
static void note_line(void *user, int level, const char *line)
{
    struct journal *journal = user;
    journal->lines++;
    journal->worst = journal->worst == 0 || level < journal->worst ? level : journal->worst;
    CHECK(strchr(line, '\n') == NULL);
    snprintf(journal->last, sizeof journal->last, "%s", line);
    if (journal->server == NULL)
        return;
    heartwheel_event event = {sizeof event, 0, 0, 0, 0, NULL, 0, 0};
    CHECK_IS(heartwheel_turn(journal->server), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_next_event(journal->server, &event), HEARTWHEEL_E_ARGUMENT);
    CHECK_IS(heartwheel_drain(journal->server), HEARTWHEEL_E_ARGUMENT);
    CHECK(strstr(heartwheel_last_error(journal->server), "in use") != NULL);
    CHECK_IS(heartwheel_wake(journal->server), HEARTWHEEL_OK);
    heartwheel_free(journal->server);
    heartwheel_set_log(NULL, NULL);
    pthread_t thread;
    void *code;
    CHECK_IS(pthread_create(&thread, NULL, turn_once, journal->server), 0);
    CHECK_IS(pthread_join(thread, &code), 0);
    CHECK_IS(*(int *)code, HEARTWHEEL_E_ARGUMENT);
    journal->answers_checked++;
}

static void end_badly(host host)
{
    int fd = open_peer(host.server, host.port, "/echo", NULL);
    /* An unmasked frame: 1002, and a warning. */
    send_all(fd, "\x81\x01x", 3);
    settle(host.server);
    CHECK_IS(shutdown(fd, SHUT_WR), 0);
    CHECK(bears(expect(host.server, HEARTWHEEL_CLOSED), "protocol"));
    close(fd);
}

static void log_lines_are_told(void)
{
    struct journal journal = {0};
    heartwheel_set_log(note_line, &journal);
    host loud = host_new("log = \"debug\"", "/echo");
    CHECK(journal.lines > 0 && journal.worst == HEARTWHEEL_LOG_INFO);
    CHECK(strstr(journal.last, "listening address=127.0.0.1:") != NULL);
    host quiet = host_new("log = \"off\"", "/echo");
    int before = journal.lines;
    end_badly(quiet);
    CHECK_IS(journal.lines, before);
    journal.server = loud.server;
    end_badly(loud);
    journal.server = NULL;
    CHECK(journal.answers_checked > 0);
    CHECK_IS(journal.worst, HEARTWHEEL_LOG_WARN);
    CHECK(strstr(journal.last, "reason=protocol") != NULL);
    heartwheel_set_log(NULL, NULL);
    before = journal.lines;
    end_badly(loud);
    CHECK_IS(journal.lines, before);
    heartwheel_free(loud.server);
    heartwheel_free(quiet.server);
}

/* One thread after the other may use a server. */
static void *serve_one(void *argument)
{
    host *host = argument;
    int fd = open_peer(host->server, host->port, "/echo", NULL);
    send_text(fd, "from elsewhere");
    CHECK(bears(expect(host->server, HEARTWHEEL_TEXT), "from elsewhere"));
    close(fd);
    expect(host->server, HEARTWHEEL_CLOSED);
    return NULL;
}

static void a_child_inherits_no_descriptor(char *self, int before)
{
    char expected[16];
    snprintf(expected, sizeof expected, "%d", before);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl(self, self, "descriptors", expected, (char *)NULL);
        _exit(9);
    }
    int status;
    CHECK_IS(waitpid(child, &status, 0), child);
    CHECK_IS(status, 0);
}

int main(int argc, char **argv)
{
    int before = count_entries("/proc/self/fd");
    if (argc == 3 && strcmp(argv[1], "descriptors") == 0)
        return before == atoi(argv[2]) ? 0 : 1;
    look_at_signals(dispositions);
    host host = host_new(NULL, "/echo");
    no_thread_and_no_signal_is_touched(host.server);
    a_reset_raises_no_sigpipe(host);
    no_thread_and_no_signal_is_touched(host.server);
    a_child_inherits_no_descriptor("/proc/self/exe", before);
    anybody_wakes(host.server);
    log_lines_are_told();
    pthread_t thread;
    CHECK_IS(pthread_create(&thread, NULL, serve_one, &host), 0);
    CHECK_IS(pthread_join(thread, NULL), 0);
    heartwheel_free(host.server);
    CHECK_IS(count_entries("/proc/self/fd"), before);
    puts("process: ok");
    return 0;
}
