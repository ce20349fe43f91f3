import { check, type Pinned, sys } from './ffi.ts';

/**
 * How an ioctl is made: the descriptor, the request, and the memory of its argument (or null for none, or an integer
 * argument); the result is the kernel's, or the negative errno. A parameter so that tests can be the kernel.
 */
export type IoctlCall = (fd: number, request: number, argument: Pinned | number | null) => number;

export const kernelIoctl: IoctlCall = (fd, request, argument) =>
  sys.ioctl(fd, request, argument === null ? 0 : typeof argument === 'number' ? argument : argument.address);

/** Makes the call and throws what the kernel refuses, as "NAME on WHAT". */
export function ioctl(
  call: IoctlCall,
  fd: number,
  request: number,
  argument: Pinned | number | null,
  describe: () => string,
): number {
  return check(call(fd, request, argument), describe);
}
