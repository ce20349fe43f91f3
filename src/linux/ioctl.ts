import { check, type Pinned, sys } from './ffi.ts';

/**
 * How an ioctl is made: the descriptor, the request, and its argument: memory, an integer, or null for none. The result
 * is the kernel's, or the negative errno. It is a parameter so that tests can play the kernel.
 */
export type IoctlCall = (fd: number, request: number, argument: Pinned | number | null) => number;

export const kernelIoctl: IoctlCall = (fd, request, argument) =>
  sys.ioctl(fd, request, argument === null ? 0 : typeof argument === 'number' ? argument : argument.address);

/** Makes the call. Throws the kernel's errno as "NAME on WHAT". */
export function ioctl(
  call: IoctlCall,
  fd: number,
  request: number,
  argument: Pinned | number | null,
  describe: () => string,
): number {
  return check(call(fd, request, argument), describe);
}
