/*
 * An importer of Barter's dma-bufs in C, written from docs/dma-buf-socket.md alone. It opens a session through
 * descriptor 3, in which its parent passes the buffer, maps it, and counts up its first 32-bit word. It unmaps and maps
 * again as the exporter asks.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OPEN = 1, QUERY = 2, ATTACH = 4, MAP = 6, INVALIDATE = 8, RESTORE = 9 };
enum { REPLY = 1, NO_REPLY = 0x10, ERROR = 0x20 };
enum { BUFFER_FD = 3, MAX_RANGES = 2048, MAX_FDS = 8 };

struct header {
	uint16_t id, command;
	uint32_t size, flags, error;
};
struct open_request {
	uint16_t major, minor;
	uint32_t flags;
};
struct info {
	uint64_t size;
	uint32_t flags, reserved;
	char exp_name[32], name[32];
};
struct words {
	uint32_t first, second;
};
struct range {
	uint64_t fd_offset, length;
	uint32_t fd_index, reserved;
};
struct mapped {
	uint32_t mapping, nr_ranges;
	struct range ranges[MAX_RANGES];
};
_Static_assert(sizeof(struct header) == 16, "header");
_Static_assert(sizeof(struct info) == 80 && offsetof(struct info, name) == 48, "info");
_Static_assert(sizeof(struct range) == 24 && offsetof(struct mapped, ranges) == 8, "ranges");

struct packet {
	struct header header;
	union {
		struct open_request open;
		struct info info;
		struct words words;
		struct mapped mapped;
	};
};

static struct packet in;
static int fds[MAX_FDS], fd_count;
static struct {
	void *address;
	size_t length;
} maps[MAX_RANGES];
static uint32_t map_count;
/* Whether the buffer can be mapped, as far as the importer knows. */
static int may_map = 1;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* Sends one packet, with the descriptor `fd` if it is not negative. */
static void send_packet(int socket, struct packet *packet, size_t payload, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { packet, sizeof(packet->header) + payload };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	packet->header.size = iov.iov_len;
	if (fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_len = CMSG_LEN(sizeof(int));
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(rights), &fd, sizeof(int));
	}
	if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
		fail("sendmsg");
}

/* Receives the next packet into `in` and its descriptors into `fds`. Exits at the end of the session. */
static void receive(int socket)
{
	char control[CMSG_SPACE(MAX_FDS * sizeof(int))];
	struct iovec iov = { &in, sizeof(in) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);

	if (length < 0)
		fail("recvmsg");
	if (length == 0)
		exit(0);
	fd_count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		fd_count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), fd_count * sizeof(int));
	}
}

/* Handles the exporter's message that it revokes or restores the buffer. */
static void told(int socket);

/* Sends a request and waits for its reply. Meanwhile it answers the exporter's requests. Returns the errno, or 0. */
static uint32_t request(int socket, uint16_t command, struct packet *packet, size_t payload)
{
	static uint16_t next_id = 1;
	uint16_t id = ++next_id;

	packet->header = (struct header){ .id = id, .command = command };
	send_packet(socket, packet, payload, -1);
	for (;;) {
		receive(socket);
		if ((in.header.flags & 0xf) == REPLY && in.header.id == id)
			return in.header.error;
		told(socket);
	}
}

static uint32_t attachment;

static void map_buffer(int socket)
{
	struct packet packet = { .words = { attachment, 3 } };

	may_map = 0;
	if (request(socket, MAP, &packet, sizeof(packet.words)) != 0)
		return; /* revoked again: RESTORE will come, or has come meanwhile */
	if (in.mapped.nr_ranges > MAX_RANGES)
		exit(1);
	map_count = in.mapped.nr_ranges;
	for (uint32_t i = 0; i < map_count; i++) {
		struct range *range = &in.mapped.ranges[i];
		if (range->fd_index >= (uint32_t)fd_count)
			exit(1);
		void *address = mmap(NULL, range->length, PROT_READ | PROT_WRITE, MAP_SHARED, fds[range->fd_index],
				     range->fd_offset);
		if (address == MAP_FAILED)
			fail("mmap");
		maps[i].address = address;
		maps[i].length = range->length;
	}
	for (int i = 0; i < fd_count; i++)
		close(fds[i]);
	uint32_t *word = maps[0].address;
	printf("mapped %u ranges, word %u\n", map_count, ++*word);
}

static void told(int socket)
{
	if (in.header.command == RESTORE)
		may_map = 1;
	struct packet packet = { .header = { .id = in.header.id, .command = in.header.command, .flags = REPLY } };
	if (in.header.command != INVALIDATE)
		return;
	for (uint32_t i = 0; i < map_count; i++)
		munmap(maps[i].address, maps[i].length);
	map_count = 0;
	send_packet(socket, &packet, 0, -1);
	puts("revoked");
}

int main(void)
{
	int pair[2];
	struct packet packet = { .header = { .id = 1, .command = OPEN }, .open = { .major = 1 } };

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		fail("socketpair");
	send_packet(BUFFER_FD, &packet, sizeof(packet.open), pair[1]);
	close(pair[1]);
	close(BUFFER_FD);
	receive(pair[0]);
	if (in.header.error != 0)
		return 1;
	if (request(pair[0], QUERY, &packet, 0) != 0)
		return 1;
	printf("%llu bytes of %s\n", (unsigned long long)in.info.size, in.info.exp_name);
	packet.words = (struct words){ 0, 0 };
	if (request(pair[0], ATTACH, &packet, sizeof(packet.words)) != 0)
		return 1;
	attachment = in.words.first;
	for (;;) {
		if (may_map && map_count == 0) {
			map_buffer(pair[0]);
			continue;
		}
		receive(pair[0]);
		told(pair[0]);
	}
}
