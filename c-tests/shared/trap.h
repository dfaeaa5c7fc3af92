/*
 * Ends a process at one point of its work, without a debugger: behind its n-th store to a mapped file, or behind its n-th
 * instruction. What it writes to the file is write-protected, so that each store is a fault; it is let through by a single
 * step, behind which the process counts, and protects again.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SHARED_TRAP_H
#define SHARED_TRAP_H

#include <stdint.h>

typedef enum { AT_STORES, AT_INSTRUCTIONS } trap_kind;

/* Why there are no traps here; NULL if there are. */
const char *trap_missing(void);

/* From here on the process counts, and kills itself when it has counted so far. */
void trap_begin(trap_kind kind, uint64_t kill_at);

/* It goes on untouched; how far it has counted. */
uint64_t trap_end(void);

#endif
