/*
 * A client that never rests and may be killed at any moment: it maps and unmaps memory, sets eventfds on interrupts,
 * exports buffers and keeps some, reads and writes. `churn PATH` prints a line when it is connected, and ends when the
 * server does. `churn PATH KILLS SEED` starts one after the other and kills each within 12 ms, until KILLS of them were
 * alive when killed.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int fd;

static void send_message(uint16_t command, const void *payload, uint32_t length, int descriptor) {
    char bytes[256] = { 0 };
    uint32_t size = 16 + length;
    memcpy(bytes + 2, &command, 2);
    memcpy(bytes + 4, &size, 4);
    memcpy(bytes + 16, payload, length);
    struct iovec iov = { bytes, size };
    char control[CMSG_SPACE(sizeof(int))] = { 0 };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (descriptor >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_len = CMSG_LEN(sizeof(int));
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0) exit(0);
}

/* Receives one reply, and its descriptor or -1. */
static int reply(void) {
    char bytes[8192], control[CMSG_SPACE(sizeof(int))];
    uint32_t size = 16, filled = 0;
    int descriptor = -1;
    while (filled < size) {
        struct iovec iov = { bytes + filled, size - filled };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        ssize_t got = recvmsg(fd, &message, 0);
        if (got <= 0) exit(0);
        filled += got;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header != NULL) memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
        if (filled >= 16) memcpy(&size, bytes + 4, 4);
    }
    return descriptor;
}

static int churn(const char *path, int announce) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return 1;
    send_message(1, "\0\0\0\0{}", 7, -1);
    reply();
    if (announce) {
        puts("connected");
        fflush(stdout);
    }
    int memory = memfd_create("test", MFD_ALLOW_SEALING), event = eventfd(0, 0);
    if (ftruncate(memory, 1 << 20) < 0) return 1;
    for (uint64_t i = 0;; i++) {
        uint64_t iova = (i % 64) << 20;
        struct { uint32_t argsz, flags; uint64_t offset, addr, size; } map = { 32, 3, 0, iova, 1 << 20 };
        send_message(2, &map, sizeof map, i % 3 == 0 ? -1 : memory);
        struct { uint32_t argsz, flags, index, start, count; } irqs = { 20, 0x24, 2, 0, 1 };
        send_message(8, &irqs, sizeof irqs, event);
        struct { uint32_t argsz, flags, region, open, unused, ranges; uint64_t offset, length; } export =
            { 40, 11 | 1 << 16, 0, 02000002, 0, 1, 0, 4096 };
        send_message(16, &export, sizeof export, -1);
        struct { uint64_t offset; uint32_t region, count; } read = { 0, 7, 64 };
        send_message(9, &read, sizeof read, -1);
        struct { uint32_t argsz, flags; uint64_t addr, size; } unmap = { 24, 0, iova ^ (5 << 20), 1 << 20 };
        send_message(3, &unmap, sizeof unmap, -1);
        for (int n = 0; n < 5; n++) {
            int lent = reply();
            if (lent >= 0 && i % 4 != 0) close(lent);
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 2) return churn(argv[1], 1);
    if (argc != 4) return 2;
    unsigned seed = atoi(argv[3]);
    for (int killed = 0; killed < atoi(argv[2]);) {
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) _exit(churn(argv[1], 0));
        usleep(rand_r(&seed) % 12000);
        int status;
        kill(child, SIGKILL);
        if (waitpid(child, &status, 0) != child) return 1;
        /* The server may not have noticed the previous client's end yet, and then refuses this one. */
        killed += WIFSIGNALED(status);
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0) return 1;
    }
    return 0;
}
