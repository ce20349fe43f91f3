
/*
 * The importer is the kernel's own iommufd. It maps the buffer's file (IOMMU_IOAS_MAP_FILE) into an address space that
 * the device is attached to. The map fails with ENODEV while the buffer is revoked.
 */

static int iommufd = -1;
static uint32_t address_space;

static UNUSED struct result open_device(struct device *device, const char *token)
{
	struct { uint32_t argsz, flags; int32_t iommufd; uint32_t out_devid; } bind = { .argsz = sizeof(bind) };
	struct { uint32_t argsz, flags, pt_id; } attach = { .argsz = sizeof(attach) };
	struct { uint32_t size, flags, out_ioas_id; } alloc = { .size = sizeof(alloc) };
	char path[128], node[64], entry[64];
	unsigned int number;

	(void)token;
	if (iommufd < 0)
		iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (iommufd < 0)
		cannot("/dev/iommu (CONFIG_IOMMUFD)");
	for (number = 0; number < 64; number++) {
		snprintf(entry, sizeof(entry), "vfio%u", number);
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/%s", device->bdf, entry);
		if (!access(path, F_OK))
			break;
	}
	snprintf(node, sizeof(node), "/dev/vfio/devices/vfio%u", number);
	device->fd = open(node, O_RDWR | O_CLOEXEC);
	if (device->fd < 0)
		cannot(node);
	bind.iommufd = iommufd;
	if (ioctl(device->fd, _IO(VFIO_TYPE, IOMMUFD_DEVICE_BIND), &bind))
		cannot("VFIO_DEVICE_BIND_IOMMUFD");
	if (ioctl(iommufd, _IO(VFIO_TYPE, IOMMUFD_ALLOC), &alloc))
		cannot("IOMMU_IOAS_ALLOC");
	address_space = alloc.out_ioas_id;
	attach.pt_id = address_space;
	if (ioctl(device->fd, _IO(VFIO_TYPE, IOMMUFD_DEVICE_ATTACH), &attach))
		cannot("VFIO_DEVICE_ATTACH_IOMMUFD_PT");
	return value("null");
}

static UNUSED int unmap_range(uint64_t iova, uint64_t length)
{
	struct { uint32_t size, ioas_id; uint64_t iova, length; } unmap = {
		.size = sizeof(unmap), .ioas_id = address_space, .iova = iova, .length = length,
	};

	return ioctl(iommufd, _IO(VFIO_TYPE, IOMMUFD_UNMAP), &unmap);
}

/* Every mapping has its own IOVA. */
static UNUSED struct result map_buffer(const char *buffer_name, const char *name)
{
	static uint64_t next_iova = 0x10000000;
	struct thing *buffer = thing(buffer_name), *map = thing(name);
	struct {
		uint32_t size, flags, ioas_id;
		int32_t fd;
		uint64_t start, length, iova;
	} call = {
		.size = sizeof(call), .flags = 1 | 2 | 4, .ioas_id = address_space, .fd = buffer->fd,
		.length = buffer->length, .iova = next_iova,
	};

	next_iova += 0x10000000;
	if (ioctl(iommufd, _IO(VFIO_TYPE, IOMMUFD_MAP_FILE), &call))
		return failure(errno);
	map->iova = call.iova;
	map->length = call.length;
	return value("mapped");
}

/* The buffer of an importer. */
static UNUSED const char *buffer_of(const char *importer)
{
	const char *buffer = thing(importer)->memory;

	return buffer ? buffer : "a buffer that was never attached";
}

/* Tries a mapping: whether an importer could attach now. */
static UNUSED struct result try_map(char *buffer_name, const char *importer)
{
	struct result result = map_buffer(buffer_name, "a trial");

	thing(importer)->memory = buffer_name;
	if (!strcmp(result.text, "mapped"))
		unmap_range(thing("a trial")->iova, thing("a trial")->length);
	return result;
}

static UNUSED struct result unmap_buffer(const char *name)
{
	return nothing(unmap_range(thing(name)->iova, thing(name)->length));
}
