/*
 * The C side of the vfio-user benchmark: a bare echo server, the fastest thing that can answer a vfio-user client with
 * blocking system calls, and the client that measures every server alike.
 *
 *   vfio-user pin CPU COMMAND...              runs a command on one CPU
 *   vfio-user echo PATH                       answers one client; prints "ready" when it listens
 *   vfio-user client PATH OP BYTES COUNT      OP: read, write, posted; prints rate/s, p50 and p99 in microseconds
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, REGION_READ = 9, REGION_WRITE = 10 };
enum { F_REPLY = 1, F_NO_REPLY = 0x10, F_ERROR = 0x20 };
enum { CONFIG_REGION = 7, PCI_COMMAND = 4 };

struct header { uint16_t id, cmd; uint32_t size, flags, error; };
struct access { uint64_t offset; uint32_t region, count; };
struct message { struct header header; struct access access; uint8_t data[1 << 16]; };

static void die(const char *what) { perror(what); exit(1); }

static int unix_socket(const char *path, struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    snprintf(address->sun_path, sizeof address->sun_path, "%s", path);
    return fd;
}

static void send_all(int fd, const void *bytes, size_t length) {
    for (size_t at = 0; at < length; ) {
        ssize_t sent = send(fd, (const char *)bytes + at, length - at, MSG_NOSIGNAL);
        if (sent < 0) die("send");
        at += sent;
    }
}

static void receive_all(int fd, void *bytes, size_t length) {
    for (size_t at = 0; at < length; ) {
        ssize_t got = recv(fd, (char *)bytes + at, length - at, 0);
        if (got <= 0) die("recv");
        at += got;
    }
}

static const char capabilities[] = "{\"capabilities\":{\"max_msg_fds\":8}}";

/* Answers one message in place; returns the bytes of the reply. */
static size_t answer(struct message *request, struct message *reply) {
    reply->header = request->header;
    reply->header.flags = F_REPLY;
    reply->header.size = 32;
    reply->access = request->access;
    if (request->header.cmd == VERSION) {
        memset(&reply->access, 0, 4);
        memcpy((char *)&reply->access + 4, capabilities, sizeof capabilities);
        reply->header.size = 16 + 4 + sizeof capabilities;
    } else if (request->header.cmd == REGION_READ) reply->header.size += request->access.count;
    return reply->header.size;
}

static int echo(const char *path) {
    struct sockaddr_un address;
    int listener = unix_socket(path, &address);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0) die(path);
    puts("ready");
    fflush(stdout);
    int fd = accept(listener, NULL, NULL);
    static char buffer[1 << 17];
    static struct message reply;
    size_t filled = 0;
    for (;;) {
        ssize_t got = recv(fd, buffer + filled, sizeof buffer - filled, 0);
        if (got <= 0) return 0;
        filled += got;
        size_t at = 0;
        while (filled - at >= sizeof(struct header)) {
            struct message *request = (struct message *)(buffer + at);
            if (filled - at < request->header.size) break;
            at += request->header.size;
            if ((request->header.flags & F_NO_REPLY) == 0) send_all(fd, &reply, answer(request, &reply));
        }
        memmove(buffer, buffer + at, filled - at);
        filled -= at;
    }
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint16_t next_id;

static void request(int fd, int cmd, uint32_t flags, struct access access, const void *data, size_t length) {
    static struct message message;
    message.header = (struct header){ ++next_id, cmd, 32 + length, flags, 0 };
    message.access = access;
    if (length > 0) memcpy(message.data, data, length);
    send_all(fd, &message, 32 + length);
}

static void reply(int fd, size_t expected) {
    static struct message message;
    receive_all(fd, &message, sizeof message.header);
    receive_all(fd, &message.access, message.header.size - sizeof message.header);
    if ((message.header.flags & F_ERROR) != 0 || message.header.id != next_id || message.header.size != expected) {
        fprintf(stderr, "reply %u of %u bytes, error %u\n", message.header.id, message.header.size, message.header.error);
        exit(1);
    }
}

static int connect_and_agree(const char *path) {
    struct sockaddr_un address;
    int fd = unix_socket(path, &address);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die(path);
    char version[16 + 4 + sizeof capabilities] = { 0 };
    *(struct header *)version = (struct header){ 0, VERSION, sizeof version, 0, 0 };
    memcpy(version + 20, capabilities, sizeof capabilities);
    send_all(fd, version, sizeof version);
    struct header header;
    char payload[4096];
    receive_all(fd, &header, sizeof header);
    receive_all(fd, payload, header.size - sizeof header);
    if ((header.flags & F_ERROR) != 0) { fprintf(stderr, "VERSION: errno %u\n", header.error); exit(1); }
    uint16_t command = 6; /* memory and bus master */
    request(fd, REGION_WRITE, 0, (struct access){ PCI_COMMAND, CONFIG_REGION, 2 }, &command, 2);
    reply(fd, 32);
    return fd;
}

enum { WINDOW = 32 };

static void once(int fd, const char *op, size_t bytes, const void *data) {
    struct access access = { 0, 0, bytes };
    if (strcmp(op, "read") == 0) {
        request(fd, REGION_READ, 0, access, NULL, 0);
        reply(fd, 32 + bytes);
    } else if (strcmp(op, "write") == 0) {
        request(fd, REGION_WRITE, 0, access, data, bytes);
        reply(fd, 32);
    } else {
        /* A window of posted writes, then a read whose reply says that they are done. */
        for (int i = 0; i < WINDOW; i++) request(fd, REGION_WRITE, F_NO_REPLY, access, data, bytes);
        request(fd, REGION_READ, 0, (struct access){ 0, 0, 4 }, NULL, 0);
        reply(fd, 36);
    }
}

static int client(const char *path, const char *op, size_t bytes, size_t count) {
    int fd = connect_and_agree(path);
    static char data[1 << 16];
    size_t per_call = strcmp(op, "posted") == 0 ? WINDOW : 1;
    size_t calls = count / per_call;
    uint64_t *times = calloc(calls, sizeof *times);
    for (size_t i = 0; i < calls / 4; i++) once(fd, op, bytes, data);
    uint64_t started = now_ns(), before = started;
    for (size_t i = 0; i < calls; i++) {
        once(fd, op, bytes, data);
        uint64_t now = now_ns();
        times[i] = now - before;
        before = now;
    }
    double seconds = (before - started) / 1e9;
    qsort(times, calls, sizeof *times, by_value);
    double unit = 1e3 * per_call;
    printf("%.1f %.3f %.3f\n", calls * per_call / seconds, times[calls / 2] / unit, times[calls * 99 / 100] / unit);
    return 0;
}

static int pin(int cpu, char **command) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0) die("sched_setaffinity");
    execvp(command[0], command);
    die(command[0]);
    return 1;
}

int main(int argc, char **argv) {
    if (argc >= 4 && strcmp(argv[1], "pin") == 0) return pin(atoi(argv[2]), argv + 3);
    if (argc == 3 && strcmp(argv[1], "echo") == 0) return echo(argv[2]);
    if (argc == 6 && strcmp(argv[1], "client") == 0) return client(argv[2], argv[3], atol(argv[4]), atol(argv[5]));
    fprintf(stderr, "usage: see the top of vfio-user.c\n");
    return 2;
}
