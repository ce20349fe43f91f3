// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Linked into the kernel's vfio selftests. BARTER_IOMMU_MODE sets their default IOMMU mode, since a kernel without
 * iommufd has only the modes of containers. BARTER_SLOWNESS multiplies the time that a test may take: the harness waits
 * for each test by poll(2), with a limit that suits real hardware.
 */
#include <poll.h>
#include <stdlib.h>

extern const char *default_iommu_mode;
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);

static int slowness = 1;

static void __attribute__((constructor)) read_environment(void)
{
	const char *mode = getenv("BARTER_IOMMU_MODE");
	const char *factor = getenv("BARTER_SLOWNESS");

	if (mode)
		default_iommu_mode = mode;
	if (factor)
		slowness = atoi(factor);
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	return __real_poll(fds, count, timeout > 0 ? timeout * slowness : timeout);
}
