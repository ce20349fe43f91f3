import { arch } from 'node:process';
import { packedStruct, s32, s64, struct, u16, u32, u64 } from './layout.ts';

/** poll.h, sys/epoll.h, sys/eventfd.h, sys/timerfd.h. */
export const POLLIN = 0x001;
export const POLLPRI = 0x002;
export const POLLOUT = 0x004;
export const POLLERR = 0x008;
export const POLLHUP = 0x010;
export const POLLNVAL = 0x020;
export const POLLRDHUP = 0x2000;
export const pollfd = struct('pollfd', 8, { fd: s32(0), events: u16(4), revents: u16(6) });

export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x8000_0000;
/** Packed to 12 bytes on x86-64 only (EPOLL_PACKED in linux/eventpoll.h). */
export const epoll_event =
  arch === 'x64'
    ? packedStruct('epoll_event', 12, { events: u32(0), data: u64(4) })
    : struct('epoll_event', 16, { events: u32(0), pad: u32(4), data: u64(8) });

export const EFD_SEMAPHORE = 1;
export const EFD_NONBLOCK = 0o4000;
export const EFD_CLOEXEC = 0o2000000;

export const CLOCK_MONOTONIC = 1;
export const TFD_NONBLOCK = 0o4000;
export const TFD_CLOEXEC = 0o2000000;
export const timespec = struct('timespec', 16, { tv_sec: s64(0), tv_nsec: s64(8) });
