import { bytes, s32, struct, u16, u32, u64 } from './layout.ts';

/** sys/socket.h, sys/un.h on 64-bit Linux. */
export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_SEQPACKET = 5;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_TYPE = 3;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_PEERCRED = 17;
export const SO_RCVTIMEO = 20;
export const SO_SNDTIMEO = 21;
export const SO_DOMAIN = 39;
export const SO_PEEK_OFF = 42;
export const SCM_RIGHTS = 1;
export const SHUT_RD = 0;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;

export const MSG_PEEK = 0x02;
export const MSG_CTRUNC = 0x08;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_WAITALL = 0x100;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;

/** The most descriptors in one SCM_RIGHTS message (net/scm.h); more give EINVAL. */
export const SCM_MAX_FD = 253;

/** The path with its zero takes at most 108 bytes; a longer one cannot be bound. */
export const SUN_PATH_MAX = 108;
export const sockaddr_un = struct('sockaddr_un', 110, { sun_family: u16(0), sun_path: bytes(2, SUN_PATH_MAX) });
export const iovec = struct('iovec', 16, { iov_base: u64(0), iov_len: u64(8) });
export const msghdr = struct('msghdr', 56, {
  msg_name: u64(0),
  msg_namelen: u32(8),
  pad1: u32(12),
  msg_iov: u64(16),
  msg_iovlen: u64(24),
  msg_control: u64(32),
  msg_controllen: u64(40),
  msg_flags: s32(48),
  pad2: u32(52),
});
/** Data follows at CMSG_LEN(0) = 16; the next header at the next multiple of 8. */
export const cmsghdr = struct('cmsghdr', 16, { cmsg_len: u64(0), cmsg_level: s32(8), cmsg_type: s32(12) });
export const ucred = struct('ucred', 12, { pid: s32(0), uid: u32(4), gid: u32(8) });

/** Bytes of one control message with `dataBytes` of payload, without and with its tail padding. */
export const CMSG_LEN = (dataBytes: number) => cmsghdr.sizeof + dataBytes;
export const CMSG_SPACE = (dataBytes: number) => cmsghdr.sizeof + ((dataBytes + 7) & ~7);
