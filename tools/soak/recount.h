/*
 * Recounts from outside what the engine admitted: how many units certainly lay in one window, beside the highest limit that
 * may have been in force in it. The engine's time of a grant is between the two that were read around the call, and the moment
 * of a change of a limit likewise. What is not certain is never counted as an excess, however long a thread was off its core.
 *
 * Events are in the order of `events_sort`. Each function looks at what happens at `from` or later and before `until`; the
 * events before that are there as far back as a window reaches.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SOAK_RECOUNT_H
#define SOAK_RECOUNT_H

#include <stddef.h>
#include <stdint.h>

/* A call begins, or one ends, that charges units. */
typedef struct {
    uint64_t time;
    uint32_t began, ended;
} event;

/* What a limit was at most. */
#define LIMIT_STEPS 256
typedef struct {
    size_t len;
    struct {
        uint64_t at, limit;
    } steps[LIMIT_STEPS];
} limit_history;

typedef struct {
    uint64_t windows;  /* recounted: one ends with each grant, or with the calendar's */
    uint64_t unsure;   /* calendar windows of which too little is certain */
    double worst;      /* the largest share of a limit that was used */
    uint64_t excesses; /* windows that hold too much; the first one: */
    uint64_t at;
    double units, limit;
} recount;

/* A bucket, as little as can be missing from it. Zero is a full one. */
typedef struct {
    double missing, open;
    uint64_t time;
} bucket_state;

/* From a time on the limit is this one: the call that set it was between the two times. Whether it was another before. */
int limit_changes(limit_history *history, uint64_t before, uint64_t after, uint64_t limit);

/* The highest limit that may have been in force between two times, both included. */
uint64_t limit_at_most(const limit_history *history, uint64_t from, uint64_t until);

/* Sorts by time, and what ended before what began. `spare` has room for as many. */
void events_sort(event *events, event *spare, size_t len);

/* No window of `window_ns`, wherever it starts, holds more than the limit. */
void recount_rolling(const event *events, size_t len, uint64_t window_ns, const limit_history *limits, uint64_t from,
                     uint64_t until, recount *out);

/* Between two times no more than a full bucket and its refill. `limits` are units per `window_ns`. */
void recount_bucket(const event *events, size_t len, uint64_t window_ns, uint64_t burst, const limit_history *limits,
                    uint64_t from, uint64_t until, bucket_state *state, recount *out);

/*
 * No calendar window holds more than the limit. Windows end at multiples of `window_ns` less `offset_ns`: the wall clock's
 * lead on the monotonic one. The engine knows the end of a window only as exactly as it can read two clocks one after the
 * other: `blur_ns` is the longest that a call took, and what happened so near to an end is not certain.
 */
void recount_fixed(const event *events, size_t len, uint64_t window_ns, uint64_t offset_ns, uint64_t blur_ns,
                   const limit_history *limits, uint64_t from, uint64_t until, recount *out);

/* No more slots were held at once than the limit was within `longest_ns`. Here `began` is when a slot was surely taken. */
void recount_slots(const event *events, size_t len, uint64_t longest_ns, const limit_history *limits, uint64_t from,
                   uint64_t until, recount *out);

#endif
