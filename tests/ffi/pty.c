/* A serial line without a wire: tells the name of its device, then what is written to the device
 * comes out of stdout, and what comes in from stdin is sent by the device. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
    int line = posix_openpt(O_RDWR | O_NOCTTY);
    if (line < 0 || grantpt(line) < 0 || unlockpt(line) < 0) {
        perror("pty");
        return 1;
    }
    printf("%s\n", ptsname(line));
    fflush(stdout);
    /* Held open, so that the line is there before and after its user. */
    int other_end = open(ptsname(line), O_RDWR | O_NOCTTY);
    struct pollfd watched[2] = {{line, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    while (other_end >= 0 && poll(watched, 2, -1) > 0) {
        char bytes[4096];
        for (int i = 0; i < 2; i++) {
            if (!watched[i].revents)
                continue;
            ssize_t len = read(watched[i].fd, bytes, sizeof bytes);
            if (len <= 0)
                return 0;
            if (write(i == 0 ? STDOUT_FILENO : line, bytes, (size_t)len) != len)
                return 1;
        }
    }
    return 0;
}
