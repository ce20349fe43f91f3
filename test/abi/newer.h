/* What Linux 6.2 to 7.3 added to linux/vfio.h and linux/iommufd.h, for hosts whose headers are older. */
#include <linux/types.h>
#include <linux/ioctl.h>
#define T ';'
#define B 100
#define VFIO_DEVICE_FLAGS_CDX (1 << 8)
#define VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP 5
struct vfio_device_info { __u32 argsz, flags, num_regions, num_irqs, cap_offset, pad; };
struct vfio_iommu_type1_info { __u32 argsz, flags; __aligned_u64 iova_pgsizes; __u32 cap_offset, pad; };
#define VFIO_PCI_DEVID_OWNED 0
#define VFIO_PCI_DEVID_NOT_OWNED -1
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID (1 << 0)
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED (1 << 1)
struct vfio_device_bind_iommufd { __u32 argsz, flags; __s32 iommufd; __u32 out_devid; __aligned_u64 token_uuid_ptr; };
struct vfio_device_attach_iommufd_pt { __u32 argsz, flags, pt_id, pasid; };
struct vfio_device_detach_iommufd_pt { __u32 argsz, flags, pasid; };
#define VFIO_DEVICE_BIND_IOMMUFD _IO(T, B + 18)
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(T, B + 19)
#define VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(T, B + 20)
#define VFIO_MIG_GET_PRECOPY_INFO _IO(T, B + 21)
#define VFIO_DEVICE_BIND_FLAG_TOKEN (1 << 0)
#define VFIO_DEVICE_ATTACH_PASID (1 << 0)
#define VFIO_DEVICE_DETACH_PASID (1 << 0)
#define VFIO_MIGRATION_PRE_COPY (1 << 2)
enum { VFIO_DEVICE_STATE_PRE_COPY = 6, VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_NR };
struct vfio_precopy_info { __u32 argsz, flags; __aligned_u64 initial_bytes, dirty_bytes; };
#define VFIO_PRECOPY_INFO_REINIT (1 << 0)
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9
#define VFIO_DEVICE_FEATURE_BUS_MASTER 10
#define VFIO_DEVICE_FEATURE_DMA_BUF 11
#define VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 12
enum { VFIO_DEVICE_FEATURE_CLEAR_MASTER, VFIO_DEVICE_FEATURE_SET_MASTER };
struct vfio_device_feature_mig_data_size { __aligned_u64 stop_copy_length; };
struct vfio_device_feature_bus_master { __u32 op; };
struct vfio_region_dma_range { __u64 offset, length; };
struct vfio_device_feature_dma_buf { __u32 region_index, open_flags, flags, nr_ranges; struct vfio_region_dma_range r[]; };
#define PCI_HEADER_TYPE_MFD 0x80
#define PCI_CAP_EXP_ENDPOINT_SIZEOF_V2 0x34
#define PCI_EXT_CAP_ID_VF_REBAR 0x24
#define PCI_EXT_CAP_ID_NPEM 0x29
#define PCI_EXT_CAP_ID_PL_32GT 0x2A
#define PCI_EXT_CAP_ID_DEV3 0x2F
#define PCI_EXT_CAP_ID_IDE 0x30
#define PCI_EXT_CAP_ID_PL_64GT 0x31
#define PCI_REBAR_CAP_SIZES 0xfffffff0
#define MFD_NOEXEC_SEAL 8

enum { IOMMUFD_CMD_BASE = 0x80, IOMMUFD_CMD_DESTROY = 0x80, IOMMUFD_CMD_IOAS_ALLOC, IOMMUFD_CMD_IOAS_ALLOW_IOVAS,
  IOMMUFD_CMD_IOAS_COPY, IOMMUFD_CMD_IOAS_IOVA_RANGES, IOMMUFD_CMD_IOAS_MAP, IOMMUFD_CMD_IOAS_UNMAP, IOMMUFD_CMD_OPTION,
  IOMMUFD_CMD_VFIO_IOAS, IOMMUFD_CMD_HWPT_ALLOC, IOMMUFD_CMD_GET_HW_INFO, IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING,
  IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP, IOMMUFD_CMD_HWPT_INVALIDATE, IOMMUFD_CMD_FAULT_QUEUE_ALLOC,
  IOMMUFD_CMD_IOAS_MAP_FILE };
#define IOMMUFD_TYPE ';'
#define IOMMU_DESTROY _IO(T, 0x80)
#define IOMMU_IOAS_ALLOC _IO(T, 0x81)
#define IOMMU_IOAS_COPY _IO(T, 0x83)
#define IOMMU_IOAS_IOVA_RANGES _IO(T, 0x84)
#define IOMMU_IOAS_MAP _IO(T, 0x85)
#define IOMMU_IOAS_UNMAP _IO(T, 0x86)
#define IOMMU_HWPT_ALLOC _IO(T, 0x89)
#define IOMMU_IOAS_MAP_FILE _IO(T, 0x8f)
enum { IOMMU_IOAS_MAP_FIXED_IOVA = 1, IOMMU_IOAS_MAP_WRITEABLE = 2, IOMMU_IOAS_MAP_READABLE = 4 };
struct iommu_destroy { __u32 size, id; };
struct iommu_ioas_alloc { __u32 size, flags, out_ioas_id; };
struct iommu_iova_range { __aligned_u64 start, last; };
struct iommu_ioas_iova_ranges { __u32 size, ioas_id, num_iovas, __reserved; __aligned_u64 allowed_iovas, out_iova_alignment; };
struct iommu_ioas_map { __u32 size, flags, ioas_id, __reserved; __aligned_u64 user_va, length, iova; };
struct iommu_ioas_map_file { __u32 size, flags, ioas_id; __s32 fd; __aligned_u64 start, length, iova; };
struct iommu_ioas_copy { __u32 size, flags, dst_ioas_id, src_ioas_id; __aligned_u64 length, dst_iova, src_iova; };
struct iommu_ioas_unmap { __u32 size, ioas_id; __aligned_u64 iova, length; };
struct iommu_hwpt_alloc { __u32 size, flags, dev_id, pt_id, out_hwpt_id, __reserved, data_type, data_len;
  __aligned_u64 data_uptr; __u32 fault_id, __reserved2; };
struct vfio_device_ioeventfd { __u32 argsz, flags; __u64 offset, data; __s32 fd; __u32 reserved; };
/* drm/drm.h, drm/drm_mode.h and drm/drm_fourcc.h, for hosts without them. */
#define DRM_IOCTL_BASE 'd'
#define DRM_CLOEXEC 02000000
#define DRM_RDWR 2
#define DRM_FORMAT_XRGB8888 ((__u32)'X' | (__u32)'R' << 8 | (__u32)'2' << 16 | (__u32)'4' << 24)
struct drm_gem_close { __u32 handle, pad; };
struct drm_prime_handle { __u32 handle, flags; __s32 fd; };
struct drm_mode_modeinfo {
	__u32 clock;
	__u16 hdisplay, hsync_start, hsync_end, htotal, hskew, vdisplay, vsync_start, vsync_end, vtotal, vscan;
	__u32 vrefresh, flags, type;
	char name[32];
};
struct drm_mode_card_res {
	__u64 fb_id_ptr, crtc_id_ptr, connector_id_ptr, encoder_id_ptr;
	__u32 count_fbs, count_crtcs, count_connectors, count_encoders, min_width, max_width, min_height, max_height;
};
struct drm_mode_get_connector {
	__u64 encoders_ptr, modes_ptr, props_ptr, prop_values_ptr;
	__u32 count_modes, count_props, count_encoders, encoder_id, connector_id, connector_type, connector_type_id;
	__u32 connection, mm_width, mm_height, subpixel, pad;
};
struct drm_mode_crtc {
	__u64 set_connectors_ptr;
	__u32 count_connectors, crtc_id, fb_id, x, y, gamma_size, mode_valid;
	struct drm_mode_modeinfo mode;
};
struct drm_mode_fb_cmd2 {
	__u32 fb_id, width, height, pixel_format, flags, handles[4], pitches[4], offsets[4];
	__u64 modifier[4];
};
struct drm_mode_create_dumb { __u32 height, width, bpp, flags, handle, pitch; __u64 size; };
struct drm_mode_map_dumb { __u32 handle, pad; __u64 offset; };
#define DRM_IOWR(nr, type) _IOWR(DRM_IOCTL_BASE, nr, type)
#define DRM_IOCTL_GEM_CLOSE _IOW(DRM_IOCTL_BASE, 0x09, struct drm_gem_close)
#define DRM_IOCTL_PRIME_FD_TO_HANDLE DRM_IOWR(0x2e, struct drm_prime_handle)
#define DRM_IOCTL_MODE_GETRESOURCES DRM_IOWR(0xA0, struct drm_mode_card_res)
#define DRM_IOCTL_MODE_SETCRTC DRM_IOWR(0xA2, struct drm_mode_crtc)
#define DRM_IOCTL_MODE_GETCONNECTOR DRM_IOWR(0xA7, struct drm_mode_get_connector)
#define DRM_IOCTL_MODE_RMFB DRM_IOWR(0xAF, unsigned int)
#define DRM_IOCTL_MODE_CREATE_DUMB DRM_IOWR(0xB2, struct drm_mode_create_dumb)
#define DRM_IOCTL_MODE_MAP_DUMB DRM_IOWR(0xB3, struct drm_mode_map_dumb)
#define DRM_IOCTL_MODE_ADDFB2 DRM_IOWR(0xB8, struct drm_mode_fb_cmd2)
#define PCI_EXP_DEVCAP2_TPH_COMP_MASK 0x00003000
#define PCI_EXP_DEVCAP2_TPH_COMP_NONE 0
#define PCI_EXP_DEVCAP2_TPH_COMP_TPH_ONLY 1
#define PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH 3
