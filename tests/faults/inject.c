/* Makes calls of the program fail, when and as a file says that the test writes and this maps.
 *
 * Loaded in front of the C library (LD_PRELOAD). The standard library, mio and socket2 call it by
 * these names; rustix calls the kernel by itself and is not seen here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The file. */
struct plan {
    char call[16];     /* which one fails */
    int countdown;     /* the first that fails is this one, 1 being the next */
    int times;         /* as many in a row */
    int error;         /* with this errno */
    int failed;        /* so many have failed */
    int trickles;      /* sockets give and take one byte at a time, and refuse twice before it */
    int steps_clock;   /* the wall clock stands an hour ahead and an hour back by turns */
};

static struct plan *plan;

__attribute__((constructor)) static void map_plan(void)
{
    const char *path = getenv("INJECT");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        plan = mapped;
}

static int fails(const char *call)
{
    if (!plan || strcmp(plan->call, call) != 0)
        return 0;
    int left = __atomic_sub_fetch(&plan->countdown, 1, __ATOMIC_SEQ_CST);
    if (left > 0 || left <= -plan->times)
        return 0;
    __atomic_add_fetch(&plan->failed, 1, __ATOMIC_SEQ_CST);
    errno = plan->error;
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        *(void **)&real = dlsym(RTLD_NEXT, name)

/* Who watches which socket: an edge that was kept from the program is asked for again. */
enum { SOCKETS = 4096 };
static struct { int epoll; struct epoll_event event; } watches[SOCKETS];

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    REAL(int, "epoll_ctl", int, int, int, struct epoll_event *);
    if (fails("epoll_ctl"))
        return -1;
    if (op == EPOLL_CTL_ADD && fd >= 0 && fd < SOCKETS) {
        watches[fd].epoll = epoll;
        watches[fd].event = *event;
    }
    return real(epoll, op, fd, event);
}

static void raise_edge(int fd)
{
    if (fd >= 0 && fd < SOCKETS && watches[fd].epoll) {
        int error = errno;
        syscall(SYS_epoll_ctl, watches[fd].epoll, EPOLL_CTL_MOD, fd, &watches[fd].event);
        errno = error;
    }
}

/* Gives whether this call of a trickling socket is refused; else it gets one byte. */
static int refuses(int fd)
{
    static unsigned calls;
    switch (__atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST) % 3) {
    case 0:
        errno = EINTR;
        return 1;
    case 1:
        raise_edge(fd);
        errno = EAGAIN;
        return 1;
    default:
        return 0;
    }
}

static int is_trickling(int fd)
{
    return plan && plan->trickles && fd >= 0 && fd < SOCKETS && watches[fd].epoll;
}

ssize_t recv(int fd, void *buffer, size_t len, int flags)
{
    REAL(ssize_t, "recv", int, void *, size_t, int);
    if (fails("recv"))
        return -1;
    if (!is_trickling(fd))
        return real(fd, buffer, len, flags);
    if (refuses(fd))
        return -1;
    ssize_t got = real(fd, buffer, len < 1 ? len : 1, flags);
    raise_edge(fd);
    return got;
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    REAL(ssize_t, "send", int, const void *, size_t, int);
    if (fails("send"))
        return -1;
    if (!is_trickling(fd))
        return real(fd, bytes, len, flags);
    if (refuses(fd))
        return -1;
    ssize_t sent = real(fd, bytes, len < 1 ? len : 1, flags);
    raise_edge(fd);
    return sent;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(ssize_t, "sendmsg", int, const struct msghdr *, int);
    if (fails("sendmsg"))
        return -1;
    if (!is_trickling(fd))
        return real(fd, message, flags);
    if (refuses(fd))
        return -1;
    size_t at = 0;
    while (at < message->msg_iovlen && message->msg_iov[at].iov_len == 0)
        at++;
    if (at == message->msg_iovlen)
        return 0;
    struct iovec byte = { message->msg_iov[at].iov_base, 1 };
    struct msghdr cut = { .msg_iov = &byte, .msg_iovlen = 1 };
    ssize_t sent = real(fd, &cut, flags);
    raise_edge(fd);
    return sent;
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    REAL(int, "accept4", int, struct sockaddr *, socklen_t *, int);
    return fails("accept4") ? -1 : real(fd, address, len, flags);
}

int epoll_wait(int epoll, struct epoll_event *events, int len, int timeout)
{
    REAL(int, "epoll_wait", int, struct epoll_event *, int, int);
    return fails("epoll_wait") ? -1 : real(epoll, events, len, timeout);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    REAL(int, "setsockopt", int, int, int, const void *, socklen_t);
    return fails("setsockopt") ? -1 : real(fd, level, name, value, len);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    REAL(int, "getsockopt", int, int, int, void *, socklen_t *);
    return fails("getsockopt") ? -1 : real(fd, level, name, value, len);
}

int getpeername(int fd, struct sockaddr *address, socklen_t *len)
{
    REAL(int, "getpeername", int, struct sockaddr *, socklen_t *);
    return fails("getpeername") ? -1 : real(fd, address, len);
}

int shutdown(int fd, int how)
{
    REAL(int, "shutdown", int, int);
    return fails("shutdown") ? -1 : real(fd, how);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return fails("write") ? -1 : real(fd, bytes, len);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int error = syscall(SYS_clock_gettime, clock, time);
    if (error == 0 && clock == CLOCK_REALTIME && plan && plan->steps_clock) {
        static unsigned reads;
        time->tv_sec += __atomic_fetch_add(&reads, 1, __ATOMIC_SEQ_CST) % 2 ? 3600 : -3600;
    }
    return error;
}

/* dlsym may ask for memory itself: what the C library calls these is used instead. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t size)
{
    return fails("memory") ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails("memory") ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails("memory") ? NULL : __libc_realloc(old, size);
}

int posix_memalign(void **place, size_t align, size_t size)
{
    if (fails("memory"))
        return ENOMEM;
    *place = __libc_memalign(align, size);
    return *place ? 0 : ENOMEM;
}
