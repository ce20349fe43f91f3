// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The driver with a bug that its test must find. */
#define BUG_MISSED_INTERRUPT
#include "checksum.c"
