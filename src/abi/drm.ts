/** The ioctls of a DRM card that show a buffer on a screen (drm/drm.h, drm/drm_mode.h, drm/drm_fourcc.h). */
import { O_CLOEXEC, O_RDWR } from './fcntl.ts';
import { _IOW, _IOWR } from './ioctl.ts';
import { bytes, s32, struct, u16, u32, u64 } from './layout.ts';

export const DRM_IOCTL_BASE = 0x64; // 'd'
export const DRM_CLOEXEC = O_CLOEXEC;
export const DRM_RDWR = O_RDWR;
/** The bytes blue, green, red and one without meaning. */
export const DRM_FORMAT_XRGB8888 = 0x34325258; // 'XR24'

export const drm_gem_close = struct('drm_gem_close', 8, { handle: u32(0), pad: u32(4) });
export const drm_prime_handle = struct('drm_prime_handle', 12, { handle: u32(0), flags: u32(4), fd: s32(8) });

export const drm_mode_modeinfo = struct('drm_mode_modeinfo', 68, {
  clock: u32(0),
  hdisplay: u16(4),
  hsync_start: u16(6),
  hsync_end: u16(8),
  htotal: u16(10),
  hskew: u16(12),
  vdisplay: u16(14),
  vsync_start: u16(16),
  vsync_end: u16(18),
  vtotal: u16(20),
  vscan: u16(22),
  vrefresh: u32(24),
  flags: u32(28),
  type: u32(32),
  name: bytes(36, 32),
});

/** The kernel fills the arrays if the counts have room for them, and writes the counts in any case. */
export const drm_mode_card_res = struct('drm_mode_card_res', 64, {
  fb_id_ptr: u64(0),
  crtc_id_ptr: u64(8),
  connector_id_ptr: u64(16),
  encoder_id_ptr: u64(24),
  count_fbs: u32(32),
  count_crtcs: u32(36),
  count_connectors: u32(40),
  count_encoders: u32(44),
  min_width: u32(48),
  max_width: u32(52),
  min_height: u32(56),
  max_height: u32(60),
});

export const drm_mode_get_connector = struct('drm_mode_get_connector', 80, {
  encoders_ptr: u64(0),
  modes_ptr: u64(8),
  props_ptr: u64(16),
  prop_values_ptr: u64(24),
  count_modes: u32(32),
  count_props: u32(36),
  count_encoders: u32(40),
  encoder_id: u32(44),
  connector_id: u32(48),
  connector_type: u32(52),
  connector_type_id: u32(56),
  connection: u32(60),
  mm_width: u32(64),
  mm_height: u32(68),
  subpixel: u32(72),
  pad: u32(76),
});

export const drm_mode_crtc = struct('drm_mode_crtc', 104, {
  set_connectors_ptr: u64(0),
  count_connectors: u32(8),
  crtc_id: u32(12),
  fb_id: u32(16),
  x: u32(20),
  y: u32(24),
  gamma_size: u32(28),
  mode_valid: u32(32),
  mode: bytes(36, drm_mode_modeinfo.sizeof),
});

export const drm_mode_fb_cmd2 = struct('drm_mode_fb_cmd2', 104, {
  fb_id: u32(0),
  width: u32(4),
  height: u32(8),
  pixel_format: u32(12),
  flags: u32(16),
  handles: bytes(20, 16),
  pitches: bytes(36, 16),
  offsets: bytes(52, 16),
  pad: u32(68),
  modifier: bytes(72, 32),
});

export const drm_mode_create_dumb = struct('drm_mode_create_dumb', 32, {
  height: u32(0),
  width: u32(4),
  bpp: u32(8),
  flags: u32(12),
  handle: u32(16),
  pitch: u32(20),
  size: u64(24),
});
export const drm_mode_map_dumb = struct('drm_mode_map_dumb', 16, { handle: u32(0), pad: u32(4), offset: u64(8) });

export const DRM_IOCTL_GEM_CLOSE = _IOW(DRM_IOCTL_BASE, 0x09, drm_gem_close);
export const DRM_IOCTL_PRIME_FD_TO_HANDLE = _IOWR(DRM_IOCTL_BASE, 0x2e, drm_prime_handle);
export const DRM_IOCTL_MODE_GETRESOURCES = _IOWR(DRM_IOCTL_BASE, 0xa0, drm_mode_card_res);
export const DRM_IOCTL_MODE_SETCRTC = _IOWR(DRM_IOCTL_BASE, 0xa2, drm_mode_crtc);
export const DRM_IOCTL_MODE_GETCONNECTOR = _IOWR(DRM_IOCTL_BASE, 0xa7, drm_mode_get_connector);
export const DRM_IOCTL_MODE_RMFB = _IOWR(DRM_IOCTL_BASE, 0xaf, 4);
export const DRM_IOCTL_MODE_CREATE_DUMB = _IOWR(DRM_IOCTL_BASE, 0xb2, drm_mode_create_dumb);
export const DRM_IOCTL_MODE_MAP_DUMB = _IOWR(DRM_IOCTL_BASE, 0xb3, drm_mode_map_dumb);
export const DRM_IOCTL_MODE_ADDFB2 = _IOWR(DRM_IOCTL_BASE, 0xb8, drm_mode_fb_cmd2);
