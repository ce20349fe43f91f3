
/*
 * The importer is the kernel's virtio_gpu. It attaches to a buffer and maps it when the buffer is imported by PRIME. A
 * change of memory runs in a child, since it may never return.
 */

#include <dirent.h>

/* Of drm/drm.h, which not every system has. */
struct prime_handle {
	uint32_t handle;
	uint32_t flags;
	int32_t fd;
};
#define DRM_IOCTL_PRIME_FD_TO_HANDLE _IOWR('d', 0x2e, struct prime_handle)

/* Finds the entry of a folder that starts with a prefix. */
static UNUSED void find_entry(const char *folder, const char *prefix, char *name, size_t size)
{
	DIR *entries = opendir(folder);
	struct dirent *entry;

	while (entries && (entry = readdir(entries)))
		if (!strncmp(entry->d_name, prefix, strlen(prefix))) {
			snprintf(name, size, "%s", entry->d_name);
			closedir(entries);
			return;
		}
	if (entries)
		errno = ENOENT;
	cannot(folder);
}

static UNUSED struct result prime_import(struct device *gpu, const char *buffer)
{
	struct prime_handle prime = { .fd = thing(buffer)->fd };
	char folder[64], card[64], node[96];

	snprintf(folder, sizeof(folder), "/sys/bus/pci/devices/%s/drm", gpu->bdf);
	find_entry(folder, "card", card, sizeof(card));
	snprintf(node, sizeof(node), "/dev/dri/%s", card);
	gpu->fd = open(node, O_RDWR | O_CLOEXEC);
	if (gpu->fd < 0)
		cannot(node);
	return nothing(ioctl(gpu->fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime));
}

static UNUSED struct result unbind_driver(struct device *gpu)
{
	int file = open("/sys/bus/virtio/drivers/virtio_gpu/unbind", O_WRONLY | O_CLOEXEC);
	char pci[64], virtio[64];

	snprintf(pci, sizeof(pci), "/sys/bus/pci/devices/%s", gpu->bdf);
	find_entry(pci, "virtio", virtio, sizeof(virtio));
	if (file < 0)
		cannot("/sys/bus/virtio/drivers/virtio_gpu/unbind");
	return nothing(write(file, virtio, strlen(virtio)));
}

/* The result of a change of memory, or "never returns". A child that never returns ignores SIGKILL, too. */
static UNUSED struct result memory_in_time(struct device *device, int on, int seconds)
{
	struct pollfd answer = { .events = POLLIN };
	struct result result = value("the child ended");
	int ends[2];
	pid_t child;

	if (pipe(ends))
		cannot("pipe");
	fflush(stdout);
	child = fork();
	if (child < 0)
		cannot("fork");
	if (!child) {
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		result = memory(device, on);
		_exit(write(ends[1], &result, sizeof(result)) < 0);
	}
	close(ends[1]);
	answer.fd = ends[0];
	if (poll(&answer, 1, seconds * 1000) == 0)
		return value("never returns");
	if (read(ends[0], &result, sizeof(result)) < 0)
		cannot("read");
	return result;
}
