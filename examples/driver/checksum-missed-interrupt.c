// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The driver with a bug. Its test must find it. */
#define BUG_MISSED_INTERRUPT
#include "checksum.c"
