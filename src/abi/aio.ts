/** linux/aio_abi.h, and the numbers of system calls without a function in libc (asm/unistd.h). */
import { arch } from 'node:process';
import { s64, struct, u16, u32, u64 } from './layout.ts';

export const IOCB_CMD_POLL = 5;
export const IOCB_FLAG_RESFD = 1 << 0;
/** The order of its first fields is that of a little-endian machine. */
export const iocb = struct('iocb', 64, {
  aio_data: u64(0),
  aio_key: u32(8),
  aio_rw_flags: u32(12),
  aio_lio_opcode: u16(16),
  aio_reqprio: u16(18),
  aio_fildes: u32(20),
  aio_buf: u64(24),
  aio_nbytes: u64(32),
  aio_offset: s64(40),
  aio_reserved2: u64(48),
  aio_flags: u32(56),
  aio_resfd: u32(60),
});
export const io_event = struct('io_event', 32, { data: u64(0), obj: u64(8), res: s64(16), res2: s64(24) });

/** linux/fs.h: fails with EAGAIN instead of waiting. */
export const RWF_NOWAIT = 0x8;

interface CallNumbers {
  __NR_io_setup: number;
  __NR_io_destroy: number;
  __NR_io_submit: number;
  __NR_io_getevents: number;
  __NR_preadv2: number;
}

const NUMBERS: Record<string, CallNumbers> = {
  x64: { __NR_io_setup: 206, __NR_io_destroy: 207, __NR_io_getevents: 208, __NR_io_submit: 209, __NR_preadv2: 327 },
  arm64: { __NR_io_setup: 0, __NR_io_destroy: 1, __NR_io_submit: 2, __NR_io_getevents: 4, __NR_preadv2: 286 },
};

/** The numbers of this machine. An invalid number makes every call fail with ENOSYS. */
export const { __NR_io_setup, __NR_io_destroy, __NR_io_submit, __NR_io_getevents, __NR_preadv2 } = NUMBERS[arch] ?? {
  __NR_io_setup: 0xffff,
  __NR_io_destroy: 0xffff,
  __NR_io_submit: 0xffff,
  __NR_io_getevents: 0xffff,
  __NR_preadv2: 0xffff,
};
