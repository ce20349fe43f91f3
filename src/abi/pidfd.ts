/** asm-generic/unistd.h: system calls with the same number on all machines. */
export const __NR_pidfd_open = 434;
