
static UNUSED struct result sysfs_access(struct device *device, const char *file, int flags, void *bytes, int size,
					 unsigned int offset)
{
	char path[128];
	int fd, done, error;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", device->bdf, file);
	fd = open(path, flags);
	if (fd < 0)
		return failure(errno);
	done = flags == O_RDONLY ? pread(fd, bytes, size, offset) : pwrite(fd, bytes, size, offset);
	error = errno;
	close(fd);
	return done == size ? value("null") : failure(done < 0 ? error : EIO);
}

static UNUSED struct result sysfs_reset(struct device *device)
{
	return sysfs_access(device, "reset", O_WRONLY, "1", 1, 0);
}

/* The folder above the device's is that of its port. */
static UNUSED struct result sysfs_reset_subordinate(struct device *device)
{
	return sysfs_access(device, "../reset_subordinate", O_WRONLY, "1", 1, 0);
}

static UNUSED struct result sysfs_config_read(struct device *device, unsigned int offset, int size)
{
	uint32_t got = 0;
	struct result result = sysfs_access(device, "config", O_RDONLY, &got, size, offset);

	return strcmp(result.text, "null") ? result : value("%" PRIu32, got);
}

static UNUSED struct result sysfs_config_write(struct device *device, unsigned int offset, int size, uint32_t set)
{
	return sysfs_access(device, "config", O_WRONLY, &set, size, offset);
}

static UNUSED struct result sysfs_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), done, error;

	if (fd < 0)
		return failure(errno);
	done = write(fd, text, strlen(text));
	error = errno;
	close(fd);
	errno = error;
	return done < 0 ? failure(error) : value("null");
}

static UNUSED struct result sysfs_unbind(struct device *device)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", device->bdf);
	return sysfs_put(path, device->bdf);
}

static UNUSED struct result sysfs_remove(struct device *device)
{
	return sysfs_access(device, "remove", O_WRONLY, "1", 1, 0);
}

static UNUSED struct result sysfs_rescan(void)
{
	return sysfs_put("/sys/bus/pci/rescan", "1");
}

static UNUSED struct result sysfs_bind(struct device *device)
{
	char path[128];
	struct result result;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", device->bdf);
	result = sysfs_put(path, "vfio-pci");
	return strcmp(result.text, "null") ? result : sysfs_put("/sys/bus/pci/drivers_probe", device->bdf);
}

/* struct aer_error_inj of drivers/pci/pcie/aer_inject.c, which no header has. */
struct aer_error_inj {
	uint8_t bus, dev, fn;
	uint32_t uncor_status, cor_status, header_log[4], domain;
};

/* Returns when the kernel's log says that it has recovered. Needs the module aer_inject. */
static UNUSED struct result inject_error(struct device *device, int fatal)
{
	struct aer_error_inj error = { .uncor_status = fatal ? PCI_ERR_UNC_DLP : PCI_ERR_UNC_COMP_ABORT };
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), fd = open("/dev/aer_inject", O_WRONLY), tries, done;
	unsigned int domain, bus, slot, fn;
	char line[8192];
	ssize_t length;

	if (fd < 0 || log < 0)
		cannot("/dev/aer_inject (CONFIG_PCIEAER_INJECT)");
	lseek(log, 0, SEEK_END);
	if (sscanf(device->bdf, "%x:%x:%x.%x", &domain, &bus, &slot, &fn) != 4)
		return value("EINVAL");
	error.bus = bus;
	error.dev = slot;
	error.fn = fn;
	error.domain = domain;
	if (write(fd, &error, sizeof(error)) < 0)
		return failure(errno);
	close(fd);
	for (tries = 0, done = 0; tries < 1000 && !done; tries++, usleep(10000))
		while ((length = read(log, line, sizeof(line) - 1)) > 0) {
			line[length] = 0;
			done |= strstr(line, "device recovery") != NULL;
		}
	close(log);
	return value(done ? "null" : "ETIMEDOUT");
}
