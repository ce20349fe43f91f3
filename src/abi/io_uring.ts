/** linux/io_uring.h, and asm/unistd.h: what a ring needs that only registers files. */
export const __NR_io_uring_setup = 425;
export const __NR_io_uring_register = 427;
/** sizeof(struct io_uring_params). */
export const IO_URING_PARAMS_SIZE = 120;
export const IORING_REGISTER_FILES = 2;
export const IORING_UNREGISTER_FILES = 3;
