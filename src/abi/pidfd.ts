/** asm-generic/unistd.h: calls whose numbers are the same everywhere. */
export const __NR_pidfd_open = 434;
