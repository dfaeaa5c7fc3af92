/*
 * How long calls take, also without the time in which the thread was ready and had no core, which is not the library's.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SHARED_STOPWATCH_H
#define SHARED_STOPWATCH_H

#include <stdint.h>

/* The longest of many calls, with and without waiting for a core, and the longest such wait. */
typedef struct {
    uint64_t all, running, waiting;
} durations;

void durations_join(durations *longest, const durations *others);
void durations_tell(const durations *longest);
/* Whether no call was longer than that. Who holds a lock may be without a core for as long as others were. */
int durations_within(const durations *longest, uint64_t limit);

typedef struct {
    durations *longest;
    uint64_t read_at, delay;
} stopwatch;

/* On the thread that is watched; its longest calls are noted in `longest`, if they are longer than what is there. */
void stopwatch_start(stopwatch *watch, durations *longest);
void stopwatch_note(stopwatch *watch, uint64_t before, uint64_t after);

#endif
