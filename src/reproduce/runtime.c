#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Older headers lack the names of some features that the steps use. */
#ifndef VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY 3
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP 4
#define VFIO_DEVICE_FEATURE_LOW_POWER_EXIT 5
#endif
#define FEATURE_DMA_BUF 11
#define IOMMUFD_DEVICE_BIND 118
#define IOMMUFD_DEVICE_ATTACH 119
#define IOMMUFD_ALLOC 0x81
#define IOMMUFD_UNMAP 0x86
#define IOMMUFD_MAP_FILE 0x8f

#define UNUSED __attribute__((unused))
#define MAX_NAMES 64
#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX

/* The result of a step: a value in JSON, or the name of an errno. */
struct result {
	char text[512];
};

struct device {
	const char *name, *bdf;
	int fd;
};

/* An object that a step has made: a descriptor, mapping or importer. */
struct thing {
	const char *name;
	int fd, id;
	char *memory;
	uint64_t iova, length;
};

static struct thing things[MAX_NAMES];
static int shown_step, failed_step;
static char shown_what[1024];
static sigjmp_buf on_sigbus;

static UNUSED struct thing *thing(const char *name)
{
	struct thing *at = things;

	while (at->name && strcmp(at->name, name))
		at++;
	at->name = name;
	return at;
}

static UNUSED struct result value(const char *format, ...)
{
	struct result result;
	va_list args;

	va_start(args, format);
	vsnprintf(result.text, sizeof(result.text), format, args);
	va_end(args);
	return result;
}

/* glibc's name of an errno; strerrorname_np is newer than many systems. */
static UNUSED struct result failure(int error)
{
	static const struct {
		int error;
		const char *name;
	} names[] = {
		{ EPERM, "EPERM" },	      { ENOENT, "ENOENT" },	    { EIO, "EIO" },
		{ ENXIO, "ENXIO" },	      { EBADF, "EBADF" },	    { EAGAIN, "EAGAIN" },
		{ ENOMEM, "ENOMEM" },	      { EACCES, "EACCES" },	    { EFAULT, "EFAULT" },
		{ EBUSY, "EBUSY" },	      { EEXIST, "EEXIST" },	    { ENODEV, "ENODEV" },
		{ EINVAL, "EINVAL" },	      { ENOTTY, "ENOTTY" },	    { ENOSPC, "ENOSPC" },
		{ EOPNOTSUPP, "EOPNOTSUPP" }, { EADDRINUSE, "EADDRINUSE" }, { ETIMEDOUT, "ETIMEDOUT" },
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].error == error)
			return value("%s", names[i].name);
	return value("errno %d", error);
}

static UNUSED struct result nothing(int returned)
{
	return returned < 0 ? failure(errno) : value("null");
}

static UNUSED void cannot(const char *what)
{
	printf("CANNOT TELL: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* Compares a step's result with the right one. The first step with Linux's known wrong result shows the finding. */
static UNUSED void check(int number, const char *step, struct result got, const char *right, const char *known)
{
	printf("  %2d %s: %s\n", number, step, got.text);
	if (!strcmp(got.text, right) || failed_step || shown_step)
		return;
	snprintf(shown_what, sizeof(shown_what), "step %d, %s: %.400s; right is %.300s", number, step, got.text, right);
	if (known && !strcmp(got.text, known))
		shown_step = number;
	else
		failed_step = number;
}

static UNUSED void read_link_base(const char *bdf, const char *what, char *base, size_t size)
{
	char path[256], target[256];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, what);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		cannot(path);
	target[length] = 0;
	snprintf(base, size, "%s", strrchr(target, '/') + 1);
}

/* Config space */

static UNUSED uint64_t region_offset(struct device *device, unsigned int index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, &info))
		cannot("VFIO_DEVICE_GET_REGION_INFO");
	return info.offset;
}

static UNUSED int config_get(struct device *device, unsigned int offset, int size, uint32_t *got)
{
	*got = 0;
	return pread(device->fd, got, size, region_offset(device, CONFIG) + offset) == size ? 0 : -1;
}

static UNUSED int config_set(struct device *device, unsigned int offset, int size, uint32_t set)
{
	return pwrite(device->fd, &set, size, region_offset(device, CONFIG) + offset) == size ? 0 : -1;
}

/* The start of a capability; 0 if the device does not have that id. */
static UNUSED unsigned int capability(struct device *device, unsigned int id)
{
	uint32_t at, header;
	int left = 48;

	if (config_get(device, 0x34, 1, &at))
		return 0;
	while (at && left--) {
		if (config_get(device, at, 4, &header))
			return 0;
		if ((header & 0xff) == id)
			return at;
		at = header >> 8 & 0xfc;
	}
	return 0;
}

static UNUSED struct result config_read(struct device *device, unsigned int offset, int size)
{
	uint32_t got;

	return config_get(device, offset, size, &got) ? failure(errno) : value("%" PRIu32, got);
}

static UNUSED struct result config_write(struct device *device, unsigned int offset, int size, uint32_t set)
{
	return nothing(config_set(device, offset, size, set));
}

static UNUSED struct result cap_read(struct device *device, unsigned int id, unsigned int offset, int size)
{
	unsigned int at = capability(device, id);

	return at ? config_read(device, at + offset, size) : failure(ENOENT);
}

static UNUSED struct result cap_write(struct device *device, unsigned int id, unsigned int offset, int size,
				      uint32_t set)
{
	unsigned int at = capability(device, id);

	return at ? config_write(device, at + offset, size, set) : failure(ENOENT);
}

static UNUSED struct result memory(struct device *device, int on)
{
	uint32_t command;

	if (config_get(device, 4, 2, &command))
		return failure(errno);
	return config_write(device, 4, 2, on ? command | 2 : command & ~2u);
}

static UNUSED struct result power(struct device *device, int state)
{
	return cap_write(device, 1, 4, 2, state);
}

static UNUSED struct result flr(struct device *device)
{
	unsigned int at = capability(device, 0x10);
	uint32_t control;

	if (!at)
		return failure(ENOENT);
	if (config_get(device, at + 8, 2, &control))
		return failure(errno);
	return config_write(device, at + 8, 2, control | 0x8000);
}

static UNUSED struct result reset(struct device *device)
{
	return nothing(ioctl(device->fd, VFIO_DEVICE_RESET));
}

/* Features */

static UNUSED int feature_call(struct device *device, uint32_t flags, uint32_t argsz, const void *payload,
			       size_t length)
{
	union {
		struct vfio_device_feature header;
		char bytes[512];
	} argument;

	memset(&argument, 0, sizeof(argument));
	argument.header.argsz = argsz;
	argument.header.flags = flags;
	memcpy(argument.bytes + sizeof(argument.header), payload, length);
	return ioctl(device->fd, VFIO_DEVICE_FEATURE, &argument);
}

static UNUSED struct result feature(struct device *device, uint32_t flags, uint32_t argsz, const void *payload,
				    size_t length)
{
	int returned = feature_call(device, flags, argsz, payload, length);

	return returned < 0 ? failure(errno) : value("%d", returned);
}

static UNUSED struct result low_power(struct device *device, uint32_t which)
{
	return feature(device, VFIO_DEVICE_FEATURE_SET | which, sizeof(struct vfio_device_feature), "", 0);
}

/* Enters low power, and waits until the kernel has suspended the device. */
static UNUSED struct result low_power_with_wakeup(struct device *device, const char *name)
{
	struct {
		int32_t fd;
		uint32_t reserved;
	} payload = { .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	char path[256], status[32] = "";
	struct result result;
	int tries, fd;

	thing(name)->fd = payload.fd;
	result = feature(device, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
			 sizeof(struct vfio_device_feature) + sizeof(payload), &payload, sizeof(payload));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/power/runtime_status", device->bdf);
	for (tries = 0; tries < 1000 && strncmp(status, "suspended", 9); tries++) {
		fd = open(path, O_RDONLY);
		if (fd < 0 || read(fd, status, sizeof(status)) < 0)
			cannot(path);
		close(fd);
		usleep(2000);
	}
	return result;
}

static UNUSED struct result event_count(const char *name)
{
	uint64_t count = 0;

	if (read(thing(name)->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return failure(errno);
	return value("%" PRIu64, count);
}

struct range {
	uint64_t offset, length;
};

static UNUSED struct result export_buffer(struct device *device, uint32_t region, const struct range *ranges,
					  uint32_t count, const char *name)
{
	struct {
		uint32_t region_index, open_flags, flags, nr_ranges;
		struct range ranges[16];
	} payload = { .region_index = region, .open_flags = O_CLOEXEC | O_RDWR, .nr_ranges = count };
	size_t length = offsetof(__typeof__(payload), ranges) + count * sizeof(*ranges);
	struct thing *buffer = thing(name);

	memcpy(payload.ranges, ranges, count * sizeof(*ranges));
	buffer->length = ranges[0].length;
	buffer->fd = feature_call(device, VFIO_DEVICE_FEATURE_GET | FEATURE_DMA_BUF,
				  sizeof(struct vfio_device_feature) + length, &payload, length);
	return nothing(buffer->fd);
}

/* Memory */

static UNUSED struct result map_region(struct device *device, uint32_t region, uint64_t offset, uint64_t length,
				       const char *name)
{
	struct thing *map = thing(name);

	map->length = length;
	map->memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd,
			   region_offset(device, region) + offset);
	return map->memory == MAP_FAILED ? failure(errno) : value("null");
}

/* At most 255 bytes, so that a result holds them. */
static UNUSED struct result region_read(struct device *device, uint32_t region, uint64_t offset, int length)
{
	struct result result = value("%s", "");
	unsigned char bytes[255];
	int i;

	if (length > (int)sizeof(bytes))
		return failure(E2BIG);
	if (pread(device->fd, bytes, length, region_offset(device, region) + offset) < 0)
		return failure(errno);
	for (i = 0; i < length; i++)
		sprintf(result.text + 2 * i, "%02x", bytes[i]);
	return result;
}

static UNUSED void sigbus(int signal)
{
	(void)signal;
	siglongjmp(on_sigbus, 1);
}

static UNUSED struct result read_map(const char *name, uint64_t offset, int length)
{
	struct sigaction action = { .sa_handler = sigbus };
	struct result result = value("%s", "");
	volatile unsigned char *at = (volatile unsigned char *)thing(name)->memory + offset;
	int i;

	sigaction(SIGBUS, &action, NULL);
	if (sigsetjmp(on_sigbus, 1))
		return value("SIGBUS");
	for (i = 0; i < length; i++)
		sprintf(result.text + 2 * i, "%02x", at[i]);
	return result;
}

static UNUSED struct result close_device(struct device *device)
{
	return nothing(close(device->fd));
}

static UNUSED struct result close_thing(const char *name)
{
	return nothing(close(thing(name)->fd));
}

/* The kernel's complaints meanwhile are in its log. */

static int kernel_log = -1;

static UNUSED void watch_kernel_log(void)
{
	kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (kernel_log >= 0)
		lseek(kernel_log, 0, SEEK_END);
}

static UNUSED const char *kernel_warning(void)
{
	static char record[8192];
	ssize_t length;

	while (kernel_log >= 0 && (length = read(kernel_log, record, sizeof(record) - 1)) > 0) {
		char *text;

		record[length] = 0;
		text = strchr(record, ';');
		if (text && (!strncmp(text, ";WARNING: ", 10) || !strncmp(text, ";BUG: ", 6))) {
			strtok(text, "\n");
			return text + 1;
		}
	}
	return NULL;
}

/* The verdict, in one line. 0: as it should be. 1: the finding is there. 2: this run cannot tell. */
static UNUSED int verdict(void)
{
	const char *warning = kernel_warning();

	if (failed_step) {
		printf("CANNOT TELL: %s\n", shown_what);
		return 2;
	}
	if (shown_step) {
		printf("SHOWN: %s\n", shown_what);
		return 1;
	}
	if (warning) {
		printf("SHOWN: the kernel's log has: %s\n", warning);
		return 1;
	}
	printf("AS IT SHOULD BE: no step differs\n");
	return 0;
}
