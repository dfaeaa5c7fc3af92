/*
 * What the tests of engines that share a state file have in common.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SHARED_COMMON_H
#define SHARED_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "grate.h"

/* Where a state file may lie: in memory, if the system has files there. Each name is removed at the start and in the end. */
const char *state_path(const char *name);

/* An engine on a state file; what fails ends the process. `json` may be NULL. */
grate_engine *open_state(const char *path, const grate_engine_config *config, const char *json);

/* Ends the process with a message unless a call succeeded. */
void must(grate_status status, const char *what);

/* Zeroed memory that children share. */
void *shared_memory(size_t size);

/* Numbers that look random, the same for the same seed. */
uint64_t next_random(uint64_t *seed);

uint64_t now_ns(void);
void sleep_ns(uint64_t ns);

/* How a child ended: its exit status, or minus the signal. */
int ended(pid_t child);

#endif
