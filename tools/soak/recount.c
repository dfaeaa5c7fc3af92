/* SPDX-License-Identifier: Apache-2.0 */
#include "recount.h"

#include <string.h>

/* For the doubles of a bucket: a millionth of a unit. */
#define ROUNDING 1e-6

int limit_changes(limit_history *history, uint64_t before, uint64_t after, uint64_t limit)
{
    size_t len = history->len;
    if (len > 0 && history->steps[len - 1].limit == limit) {
        return 0;
    }
    if (len == LIMIT_STEPS) {
        len--;
        memmove(history->steps, history->steps + 1, len * sizeof history->steps[0]);
    }
    /* A higher one may be in force at once, a lower one not before the call is over. */
    history->steps[len].at = len > 0 && limit < history->steps[len - 1].limit ? after : before;
    history->steps[len].limit = limit;
    history->len = len + 1;
    return 1;
}

uint64_t limit_at_most(const limit_history *history, uint64_t from, uint64_t until)
{
    uint64_t most = 0;
    size_t i = history->len;
    while (i-- > 0) {
        if (history->steps[i].at <= until && history->steps[i].limit > most) {
            most = history->steps[i].limit;
        }
        if (history->steps[i].at < from) {
            break;
        }
    }
    return most;
}

static int in_order(const event *a, const event *b)
{
    return a->time != b->time ? a->time < b->time : a->began <= b->began;
}

/* By merging; qsort would allocate, and be seen in the memory that the soak measures. */
void events_sort(event *events, event *spare, size_t len)
{
    size_t width, left, i;
    for (width = 1; width < len; width *= 2) {
        for (left = 0; left < len; left += 2 * width) {
            size_t middle = left + width < len ? left + width : len;
            size_t right = left + 2 * width < len ? left + 2 * width : len;
            size_t a = left, b = middle;
            for (i = left; i < right; i++) {
                spare[i] = a < middle && (b == right || in_order(&events[a], &events[b])) ? events[a++] : events[b++];
            }
        }
        memcpy(events, spare, len * sizeof *events);
    }
}

static void judge(recount *out, uint64_t at, double units, double limit)
{
    double share = limit > 0 ? units / limit : units > 0 ? 2 : 0;
    out->windows++;
    out->worst = share > out->worst ? share : out->worst;
    if (units > limit + ROUNDING && out->excesses++ == 0) {
        out->at = at;
        out->units = units;
        out->limit = limit;
    }
}

void recount_rolling(const event *events, size_t len, uint64_t window_ns, const limit_history *limits, uint64_t from,
                     uint64_t until, recount *out)
{
    /* What ended by now, less what began before the window: all of it is in the window, but for calls that outlast one. */
    uint64_t ended = 0, began = 0;
    size_t i, first = 0;
    for (i = 0; i < len && events[i].time < until; i++) {
        uint64_t end = events[i].time, start = end >= window_ns ? end - window_ns + 1 : 0;
        ended += events[i].ended;
        for (; events[first].time < start; first++) {
            began += events[first].began;
        }
        if (events[i].ended > 0 && end >= from) {
            judge(out, end, ended > began ? (double)(ended - began) : 0, (double)limit_at_most(limits, start, end));
        }
    }
}

void recount_bucket(const event *events, size_t len, uint64_t window_ns, uint64_t burst, const limit_history *limits,
                    uint64_t from, uint64_t until, bucket_state *state, recount *out)
{
    size_t i;
    for (i = 0; i < len && events[i].time < until; i++) {
        uint64_t time = events[i].time;
        if (time < from) {
            continue;
        }
        state->missing -= (double)limit_at_most(limits, state->time, time) * (double)(time - state->time) / (double)window_ns;
        state->time = time;
        if (events[i].began > 0) {
            /* Full before this call, at the most: then what is under way need not be missing from it. */
            state->missing = state->missing > -state->open ? state->missing : -state->open;
            state->open += events[i].began;
        }
        if (events[i].ended > 0) {
            state->missing += events[i].ended;
            state->open -= events[i].ended;
            judge(out, time, state->missing > 0 ? state->missing : 0, (double)burst);
        }
    }
}

void recount_fixed(const event *events, size_t len, uint64_t window_ns, uint64_t offset_ns, uint64_t blur_ns,
                   const limit_history *limits, uint64_t from, uint64_t until, recount *out)
{
    uint64_t end = (from + offset_ns + window_ns - 1) / window_ns * window_ns - offset_ns;
    for (; end < until; end += window_ns) {
        uint64_t start = end - window_ns, sum_ended = 0, sum_began = 0;
        size_t i;
        if (4 * blur_ns > window_ns) {
            out->unsure++;
            continue;
        }
        for (i = 0; i < len && events[i].time < end - blur_ns; i++) {
            sum_ended += events[i].ended;
            sum_began += events[i].time < start + blur_ns ? events[i].began : 0;
        }
        judge(out, end, sum_ended > sum_began ? (double)(sum_ended - sum_began) : 0,
              (double)limit_at_most(limits, start, end));
    }
}

void recount_slots(const event *events, size_t len, uint64_t longest_ns, const limit_history *limits, uint64_t from,
                   uint64_t until, recount *out)
{
    uint64_t held = 0;
    size_t i;
    for (i = 0; i < len && events[i].time < until; i++) {
        uint64_t time = events[i].time, start = time >= longest_ns ? time - longest_ns : 0;
        held += events[i].began;
        held -= events[i].ended;
        if (events[i].began > 0 && time >= from) {
            judge(out, time, (double)held, (double)limit_at_most(limits, start, time));
        }
    }
}
