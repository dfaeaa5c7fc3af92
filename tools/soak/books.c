/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "books.h"

#include <string.h>
#include <time.h>

#define HISTORY (1u << 17)
/* The longest window, and what a lease may last. */
#define KEEP_NS (1000 * MS + SKEW_NS + LEASE_TTL_NS)
/* Calendar windows are judged by the longest call of so many rounds. */
#define ROUNDS 4
/* A wall clock that is set is noticed; below this, it is the time between two looks. */
#define WALL_NS MS

static grant history[HISTORY];
static size_t history_len;
static event events[2 * HISTORY], spare[2 * HISTORY];
static uint64_t recounted, longest[ROUNDS], offset, planted;

void books_open(books *b, uint64_t now, const plan_state *state, int plant)
{
    /* Touched now: memory that grows later is not the soak's own. */
    memset(history, 1, sizeof history);
    memset(events, 1, sizeof events);
    memset(spare, 1, sizeof spare);
    memset(b, 0, sizeof *b);
    books_limits(b, 0, 0, state);
    b->changes = 0;
    recounted = now;
    planted = plant ? 64 : 0;
}

void books_limits(books *b, uint64_t before, uint64_t after, const plan_state *state)
{
    size_t i;
    for (i = 0; i < QUOTAS; i++) {
        b->changes += limit_changes(&b->limits[i], before, after, plan_limit(state, i));
    }
}

/* What the wall clock is ahead of the monotonic one. */
static uint64_t wall_offset(void)
{
    uint64_t before, after, wall;
    struct timespec t;
    do {
        before = mono_ns();
        clock_gettime(CLOCK_REALTIME, &t);
        after = mono_ns();
        wall = (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
    } while (after - before > WALL_NS / 10);
    return wall - before;
}

/* How near to the end of a calendar window nothing is certain; more than a window after the wall clock was set. */
static uint64_t blur(uint64_t newest)
{
    uint64_t most = newest, now = wall_offset(), step = now > offset ? now - offset : offset - now;
    size_t i;
    if (offset != 0 && step > WALL_NS) {
        most = UINT64_MAX / 8;
    }
    offset = now;
    memmove(longest + 1, longest, (ROUNDS - 1) * sizeof *longest);
    longest[0] = most;
    for (i = 1; i < ROUNDS; i++) {
        most = longest[i] > most ? longest[i] : most;
    }
    return most + WALL_NS;
}

static int take(books *b, worker *w)
{
    uint64_t written = __atomic_load_n(&w->written, __ATOMIC_ACQUIRE), i;
    for (i = w->read; i < written; i++) {
        const grant *g = &w->ring[i % RING];
        unsigned copies = planted > 0 && i % planted == 0 ? 2 : 1;
        for (; copies > 0; copies--) {
            if (history_len == HISTORY) {
                return 0;
            }
            history[history_len++] = *g;
        }
        b->grants++;
    }
    __atomic_store_n(&w->read, written, __ATOMIC_RELEASE);
    return 1;
}

static size_t put(size_t len, uint64_t time, uint32_t began, uint32_t ended)
{
    events[len].time = time;
    events[len].began = began;
    events[len].ended = ended;
    return len + 1;
}

/* The events of a quota, in order; of slots, when they were surely taken and given back. */
static size_t events_of(const quota_plan *plan)
{
    size_t len = 0, i;
    for (i = 0; i < history_len; i++) {
        const grant *g = &history[i];
        uint32_t units = plan_units(plan->dimension, g->tokens);
        if ((plan->members >> g->provider & 1) == 0) {
            continue;
        }
        if (plan->strategy != GRATE_STRATEGY_CONCURRENCY) {
            len = put(put(len, g->before, units, 0), g->after, 0, units);
        } else if (g->after < g->end) {
            len = put(put(len, g->after, 1, 0), g->end, 0, 1);
        }
    }
    events_sort(events, spare, len);
    return len;
}

static void recount_quota(books *b, size_t quota, uint64_t until, uint64_t blur_ns)
{
    const quota_plan *plan = &QUOTA_PLAN[quota];
    const limit_history *limits = &b->limits[quota];
    recount *out = &b->results[quota];
    size_t len = events_of(plan);
    switch (plan->strategy) {
    case GRATE_STRATEGY_ROLLING:
        /* Units of a lease leave late by the skew: no longer window holds more either. */
        recount_rolling(events, len, plan->window_ns + SKEW_NS, limits, recounted, until, out);
        break;
    case GRATE_STRATEGY_TOKEN_BUCKET:
        recount_bucket(events, len, plan->window_ns, plan->burst, limits, recounted, until, &b->bucket, out);
        break;
    case GRATE_STRATEGY_FIXED_WINDOW:
        recount_fixed(events, len, plan->window_ns, offset, blur_ns, limits, recounted, until, out);
        break;
    default:
        recount_slots(events, len, LEASE_TTL_NS, limits, recounted, until, out);
    }
}

int books_recount(books *b, worker *workers, size_t n, uint64_t own_longest)
{
    uint64_t until = UINT64_MAX, slowest = own_longest, blur_ns;
    size_t i, kept = 0;
    for (i = 0; i < n; i++) {
        uint64_t settled = __atomic_load_n(&workers[i].settled, __ATOMIC_ACQUIRE);
        uint64_t took = __atomic_exchange_n(&workers[i].longest, 0, __ATOMIC_RELAXED);
        until = settled < until ? settled : until;
        slowest = took > slowest ? took : slowest;
    }
    for (i = 0; i < n; i++) {
        if (!take(b, &workers[i])) {
            return 0;
        }
    }
    blur_ns = blur(slowest);
    if (until <= recounted) {
        return 1;
    }
    for (i = 0; i < QUOTAS; i++) {
        recount_quota(b, i, until, blur_ns);
    }
    recounted = until;
    for (i = 0; i < history_len; i++) {
        if (history[i].after + KEEP_NS >= recounted) {
            history[kept++] = history[i];
        }
    }
    history_len = kept;
    return 1;
}
