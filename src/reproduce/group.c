
static UNUSED struct result open_device(struct device *device, const char *token)
{
	static int container = -1;
	char group_name[64], path[128], name[128];
	int group;

	read_link_base(device->bdf, "iommu_group", group_name, sizeof(group_name));
	snprintf(path, sizeof(path), "/dev/vfio/%s", group_name);
	group = open(path, O_RDWR | O_CLOEXEC);
	if (group < 0)
		cannot(path);
	if (container < 0)
		container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container < 0)
		cannot("/dev/vfio/vfio");
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		cannot("VFIO_GROUP_SET_CONTAINER");
	ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
	snprintf(name, sizeof(name), "%s%s%s", device->bdf, token ? " vf_token=" : "", token ? token : "");
	device->fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
	if (device->fd < 0)
		return failure(errno);
	/* The open device keeps its group. */
	close(group);
	return value("null");
}
