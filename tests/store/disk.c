/* A disk that is slow, or fails while a file is there. Loaded in front of the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *call)
{
    const char *path = getenv("DISK_FAILS"), *error = getenv(call);
    if (!path || !error || access(path, F_OK) != 0)
        return 0;
    errno = atoi(error);
    return 1;
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    const char *ms = getenv("DISK_SYNC_MS"), *path = getenv("DISK_SLOW");
    if (ms && path && access(path, F_OK) == 0)
        usleep(1000 * (useconds_t)atoi(ms));
    return fails("DISK_SYNC_ERRNO") ? -1 : real(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pwrite64");
    return fails("DISK_WRITE_ERRNO") ? -1 : real(fd, bytes, len, at);
}
