/*
 * An eventfd that is full and blocking whenever somebody may write to it: toggle FD clears O_NONBLOCK, fills the
 * counter up, and takes it out again after a moment, until its stdin ends.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int fd = atoi(argv[1]);
    struct pollfd parent = { .fd = 0, .events = POLLIN };
    for (unsigned round = 0; round % 256 != 0 || poll(&parent, 1, 0) == 0; round++) {
        uint64_t count, most = 0xfffffffffffffffe;
        fcntl(fd, F_SETFL, O_NONBLOCK);
        if (read(fd, &count, sizeof count) < 0) count = 0;
        if (write(fd, &most, sizeof most) < 0) continue;
        fcntl(fd, F_SETFL, 0);
        for (int i = 0; i < 20; i++) poll(&parent, 1, 0);
    }
    return 0;
}
