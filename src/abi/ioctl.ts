import type { Fields, Struct } from './layout.ts';

/** ioctl request numbers as asm-generic/ioctl.h composes them (x86-64, arm64): number, type, size, direction. */
const NRSHIFT = 0;
const TYPESHIFT = 8;
const SIZESHIFT = 16;
const DIRSHIFT = 30;
const IOC_WRITE = 1;
const IOC_READ = 2;

function ioc(direction: number, type: number, nr: number, sizeBytes: number): number {
  return ((direction << DIRSHIFT) | (type << TYPESHIFT) | (nr << NRSHIFT) | (sizeBytes << SIZESHIFT)) >>> 0;
}

type Sized = number | Struct<Fields>;
const sizeOf = (argument: Sized) => (typeof argument === 'number' ? argument : argument.sizeof);

export const _IO = (type: number, nr: number) => ioc(0, type, nr, 0);
/** The user writes, the kernel reads. The argument is a struct or its size in bytes. */
export const _IOW = (type: number, nr: number, argument: Sized) => ioc(IOC_WRITE, type, nr, sizeOf(argument));
export const _IOR = (type: number, nr: number, argument: Sized) => ioc(IOC_READ, type, nr, sizeOf(argument));
export const _IOWR = (type: number, nr: number, argument: Sized) =>
  ioc(IOC_READ | IOC_WRITE, type, nr, sizeOf(argument));
