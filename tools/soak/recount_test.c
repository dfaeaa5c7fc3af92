/*
 * The recount that the soak relies on: it notices one unit too many in every kind of window, and never cries over what a
 * thread that lost its core may explain.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"
#include "recount.h"

#define ALWAYS 0, 1000000
#define WINDOW 100

static event events[1000], spare[1000];
static size_t len;
static limit_history limits;

static void start(uint64_t limit)
{
    len = 0;
    memset(&limits, 0, sizeof limits);
    limit_changes(&limits, 0, 0, limit);
}

/* A call that charged so many units between two times. */
static void call(uint64_t before, uint64_t after, uint32_t units)
{
    event began = {before, units, 0}, ended = {after, 0, units};
    events[len++] = began;
    events[len++] = ended;
}

static recount rolling(void)
{
    recount out = {0};
    events_sort(events, spare, len);
    recount_rolling(events, len, WINDOW, &limits, ALWAYS, &out);
    return out;
}

static recount bucket(uint64_t burst)
{
    recount out = {0};
    bucket_state state = {0};
    events_sort(events, spare, len);
    recount_bucket(events, len, WINDOW, burst, &limits, 0, 500, &state, &out);
    recount_bucket(events, len, WINDOW, burst, &limits, 500, 1000000, &state, &out);
    return out;
}

static recount fixed(uint64_t offset, uint64_t blur)
{
    recount out = {0};
    events_sort(events, spare, len);
    recount_fixed(events, len, WINDOW, offset, blur, &limits, 1000, 2000, &out);
    return out;
}

static recount slots(void)
{
    recount out = {0};
    events_sort(events, spare, len);
    recount_slots(events, len, 1000, &limits, ALWAYS, &out);
    return out;
}

TEST(a_rolling_window_may_be_full)
{
    int i;
    start(10);
    for (i = 0; i < 100; i++) {
        call(1000 + 10 * (uint64_t)i, 1002 + 10 * (uint64_t)i, 1);
    }
    CHECK_EQ_U64(rolling().excesses, 0);
    CHECK_EQ_U64(rolling().windows, 100);
    CHECK_NEAR(rolling().worst, 1.0, 1e-9);
}

TEST(one_unit_too_many_in_a_rolling_window)
{
    int i;
    start(10);
    for (i = 0; i < 100; i++) {
        call(1000 + 10 * (uint64_t)i, 1002 + 10 * (uint64_t)i, 1);
    }
    call(1500, 1501, 1);
    CHECK(rolling().excesses > 0);
    CHECK_NEAR(rolling().units, 11, 0);
}

TEST(what_may_lie_outside_of_a_window_is_no_excess)
{
    start(2);
    call(1000, 1001, 2);
    /* The second may have been granted a whole window after the first, or not. */
    call(1050, 1101, 2);
    CHECK_EQ_U64(rolling().excesses, 0);
    /* This one was not. */
    call(1050, 1099, 1);
    CHECK(rolling().excesses > 0);
}

TEST(a_limit_is_raised_at_once_and_lowered_late)
{
    start(4);
    call(1000, 1001, 4);
    limit_changes(&limits, 1010, 1020, 2);
    CHECK_EQ_U64(rolling().excesses, 0);
    call(1115, 1116, 3);
    /* Between the two times it may still have been 4. */
    CHECK_EQ_U64(rolling().excesses, 0);
    call(1200, 1201, 3);
    CHECK_EQ_U64(rolling().excesses, 1);
    limit_changes(&limits, 1300, 1400, 5);
    call(1302, 1303, 5);
    CHECK_EQ_U64(rolling().excesses, 1);
    call(1304, 1305, 1);
    CHECK_EQ_U64(rolling().excesses, 2);
}

TEST(old_steps_of_a_limit_are_forgotten)
{
    uint64_t i;
    start(7);
    for (i = 1; i <= 3 * LIMIT_STEPS; i++) {
        limit_changes(&limits, 10 * i, 10 * i + 1, 100 + i % 2);
    }
    CHECK_EQ_U64(limit_at_most(&limits, 10 * i - 10, 10 * i), 101);
    CHECK_EQ_U64(limit_at_most(&limits, 10 * i, 10 * i + 9), 100);
}

TEST(a_bucket_gives_its_burst_and_its_refill)
{
    int i;
    /* 10 per 100 and a burst of 5. */
    start(10);
    call(400, 400, 5);
    for (i = 1; i < 50; i++) {
        call(400 + 10 * (uint64_t)i, 400 + 10 * (uint64_t)i, 1);
    }
    CHECK_EQ_U64(bucket(5).excesses, 0);
    CHECK_NEAR(bucket(5).worst, 1.0, 1e-9);
    call(605, 606, 1);
    CHECK(bucket(5).excesses > 0);
}

TEST(a_rate_that_is_a_little_too_high_overdraws_a_bucket_in_the_end)
{
    int i;
    start(10);
    for (i = 0; i < 400; i++) {
        call(400 + 10 * (uint64_t)i - (uint64_t)i / 4, 400 + 10 * (uint64_t)i - (uint64_t)i / 4, 1);
    }
    CHECK(bucket(5).excesses > 0);
}

TEST(a_slow_call_does_not_overdraw_a_bucket)
{
    start(10);
    call(400, 500, 5);
    call(490, 500, 5);
    CHECK_EQ_U64(bucket(5).excesses, 0);
    call(491, 500, 5);
    CHECK(bucket(5).excesses > 0);
}

TEST(a_calendar_window_starts_anew)
{
    start(10);
    call(1160, 1161, 10);
    call(1170, 1171, 10);
    /* Windows end at 1165, 1265, ... */
    CHECK_EQ_U64(fixed(35, 2).excesses, 0);
    CHECK(fixed(35, 2).windows >= 9);
    CHECK_EQ_U64(fixed(0, 2).excesses, 1);
    call(1180, 1181, 1);
    CHECK_EQ_U64(fixed(35, 2).excesses, 1);
    CHECK_EQ_U64(fixed(35, 2).at, 1265);
    /* Too near to the end to be certain of, when calls take longer. */
    CHECK_EQ_U64(fixed(35, 8).excesses, 0);
    CHECK_EQ_U64(fixed(35, 8).unsure, 0);
    CHECK(fixed(35, 30).unsure > 0);
}

TEST(slots_return)
{
    start(2);
    call(1000, 1010, 1);
    call(1000, 1020, 1);
    call(1010, 1030, 1);
    CHECK_EQ_U64(slots().excesses, 0);
    CHECK_NEAR(slots().worst, 1.0, 1e-9);
    call(1015, 1016, 1);
    CHECK_EQ_U64(slots().excesses, 1);
}

int main(void)
{
    RUN(a_rolling_window_may_be_full);
    RUN(one_unit_too_many_in_a_rolling_window);
    RUN(what_may_lie_outside_of_a_window_is_no_excess);
    RUN(a_limit_is_raised_at_once_and_lowered_late);
    RUN(old_steps_of_a_limit_are_forgotten);
    RUN(a_bucket_gives_its_burst_and_its_refill);
    RUN(a_rate_that_is_a_little_too_high_overdraws_a_bucket_in_the_end);
    RUN(a_slow_call_does_not_overdraw_a_bucket);
    RUN(a_calendar_window_starts_anew);
    RUN(slots_return);
    return check_report("recount");
}
