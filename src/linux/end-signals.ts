/** The signals that ask a process to end: Ctrl-C, kill, and the end of its terminal. */
export const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
