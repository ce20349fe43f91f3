// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Linked into the kernel's vfio selftests: which IOMMU mode is their default, from the environment. A kernel without
 * iommufd has only the modes of containers.
 */
#include <stdlib.h>

extern const char *default_iommu_mode;

static void __attribute__((constructor)) choose_mode(void)
{
	const char *mode = getenv("BARTER_IOMMU_MODE");

	if (mode)
		default_iommu_mode = mode;
}
