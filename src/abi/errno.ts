/**
 * Error numbers of Linux on x86-64 and arm64 (asm-generic/errno-base.h, asm-generic/errno.h), as far as the ABIs that
 * Barter speaks use them.
 */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EPIPE: 32,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ELOOP: 40,
  ENOMSG: 42,
  ENODATA: 61,
  ETIME: 62,
  EPROTO: 71,
  EOVERFLOW: 75,
  EBADFD: 77,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ESHUTDOWN: 108,
  ETOOMANYREFS: 109,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EALREADY: 114,
  EINPROGRESS: 115,
  ECANCELED: 125,
} as const;

/** The name of an error that Linux returns, such as `ENODEV`. */
export type ErrnoName = keyof typeof ERRNO;

const NAMES = new Map<number, ErrnoName>(Object.entries(ERRNO).map(([name, code]) => [code, name as ErrnoName]));

/** The name of an error number, or `errno N` for one that is not in the table. */
export function errnoName(code: number): string {
  return NAMES.get(code) ?? `errno ${code}`;
}

/**
 * A refusal that has an errno in the ABI, with the fields of Node's own system errors. The message says what was
 * refused and why.
 */
export class Errno extends Error {
  /** The name, such as `ENODEV`. */
  readonly code: ErrnoName;
  /** The negative number, such as -19. */
  readonly errno: number;
  /** The system call that failed, if any. */
  declare readonly syscall?: string;

  constructor(code: ErrnoName, message: string, options: ErrorOptions & { syscall?: string } = {}) {
    super(`${code}: ${message}`, options);
    this.name = 'Errno';
    this.code = code;
    this.errno = -ERRNO[code];
    if (options.syscall !== undefined) this.syscall = options.syscall;
  }

  /** The message without the name in front, for another error to quote. */
  get reason(): string {
    return this.message.slice(this.code.length + 2);
  }

  /** The Errno that an error is or, as Node's own system error, stands for; null for any other error. */
  static of(error: unknown): Errno | null {
    if (error instanceof Errno) return error;
    const { errno, syscall, message } = Object(error) as NodeJS.ErrnoException;
    if (typeof errno !== 'number' || typeof syscall !== 'string') return null;
    return Errno.fromCode(-errno, message, syscall);
  }

  /**
   * The error for a number that the outside world returned; an unknown number becomes EIO, with the number in the text.
   */
  static fromCode(code: number, message: string, syscall?: string): Errno {
    const name = NAMES.get(code);
    const options = syscall === undefined ? {} : { syscall };
    return name === undefined
      ? new Errno('EIO', `${message} (errno ${code})`, options)
      : new Errno(name, message, options);
  }
}
