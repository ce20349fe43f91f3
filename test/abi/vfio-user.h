/* The message structs of vfio-user, written from QEMU's docs/interop/vfio-user.rst. */
#include <stdint.h>
#define P __attribute__((packed))
struct vfio_user_header { uint16_t msg_id, cmd; uint32_t msg_size, flags, error_no; } P;
struct vfio_user_version { uint16_t major, minor; } P;
struct vfio_user_dma_map { uint32_t argsz, flags; uint64_t offset, addr, size; } P;
struct vfio_user_dma_unmap { uint32_t argsz, flags; uint64_t addr, size; } P;
struct vfio_user_device_info { uint32_t argsz, flags, num_regions, num_irqs; } P;
struct vfio_user_region_io_fds { uint32_t argsz, flags, index, count; } P;
struct vfio_user_sub_region_ioeventfd { uint64_t offset, size; uint32_t fd_index, type, flags, padding; uint64_t datamatch; } P;
struct vfio_user_region_access { uint64_t offset; uint32_t region, count; } P;
struct vfio_user_dma_region_access { uint64_t addr, count; } P;
struct vfio_user_region_write_multi { uint64_t wr_cnt; } P;
struct vfio_user_write_one { uint64_t offset; uint32_t region, count; uint64_t data; } P;
struct vfio_user_device_feature_dma_logging_control { uint64_t page_size; uint32_t num_ranges, reserved; } P;
struct vfio_user_device_feature_dma_logging_report { uint64_t iova, length, page_size; } P;
struct vfio_user_mig_data { uint32_t argsz, size; } P;
