/*
 * The soak: eight threads make all calls for minutes, on the system's clock and through the shared library, while the
 * configuration changes ten times a second. Checked at the end of it: memory stands still, every counter is what the threads
 * counted themselves, no lease is left, and no window of any quota held more than its limit.
 *
 *   soak [--minutes N] [--plant]
 *
 * With --plant an excess is planted, and the soak must fail.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "books.h"

#define THREADS 8
#define SECOND (1000 * MS)
#define STEP_NS (100 * MS)
#define MOST_GROWTH_KIB 1024
#define MOST_WARM_UP (60 * SECOND)

static worker workers[THREADS], self; /* `self` makes the calls of the main thread */
static grant rings[THREADS][RING];
static books ledger;
static plan_state plan;
static unsigned failures;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *format, ...)
{
    va_list arguments;
    failures++;
    printf("FAIL ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

/* Resident memory in KiB. Not VmRSS, which the kernel keeps only roughly: this is counted when it is asked for. */
static long resident_kib(void)
{
    char text[512] = "";
    int file = open("/proc/self/smaps_rollup", O_RDONLY);
    const char *rss;
    if (file < 0 || read(file, text, sizeof text - 1) <= 0 || (rss = strstr(text, "\nRss:")) == NULL) {
        printf("FAIL /proc/self/smaps_rollup does not tell the resident memory\n");
        exit(2);
    }
    close(file);
    return strtol(rss + 5, NULL, 10);
}

/* The next limits of a provider's quotas, those of its pools included. */
static void next_limits(unsigned members)
{
    size_t i;
    for (i = 0; i < QUOTAS; i++) {
        plan.step[i] += (QUOTA_PLAN[i].members & members) != 0;
    }
}

/* One change of the configuration; each kind of them comes once in a second. */
static void reconfigure(grate_engine *engine, unsigned step)
{
    static const char *const BAD[] = {"{", "{\"providers\": [{\"name\": \"a\"}], \"unknown\": 1}",
                                      "{\"replace\": true, \"capabilities\": [{\"name\": \"chat\", \"providers\": [{\"provider\": \"nobody\"}]}]}"};
    const char *bad = BAD[step / 10 % 3];
    uint64_t before = mono_ns();
    grate_status status = GRATE_OK;
    switch (step % 10) {
    case 0:
        next_limits(1u << A);
        status = plan_upsert(engine, &plan, A);
        break;
    case 1:
        next_limits(1u << B);
        status = plan_json(engine, &plan, 1u << B, 0, 0);
        break;
    case 2:
        next_limits(1u << C);
        status = plan_upsert(engine, &plan, C);
        break;
    case 3:
        next_limits(1u << D);
        status = plan_json(engine, &plan, 1u << D | 1u << TOLD, 0, 0);
        break;
    case 4:
        status = plan_capability(engine, CHAT, step / 10);
        break;
    case 5:
        status = grate_engine_remove_provider(engine, PROVIDER_NAMES[step / 10 % GUEST], NULL);
        break;
    case 6:
        status = plan_json(engine, &plan, 0, 1, step);
        break;
    case 7:
        status = grate_engine_remove_capability(engine, CAPABILITY_NAMES[BATCH], NULL);
        break;
    case 8:
        status = plan_capability(engine, BATCH, step);
        break;
    case 9:
        if (grate_engine_configure_json(engine, bad, strlen(bad), NULL) == GRATE_OK) {
            fail("a wrong document was taken: %s", bad);
        }
        break;
    }
    books_limits(&ledger, before, mono_ns(), &plan);
    self.longest = mono_ns() - before > self.longest ? mono_ns() - before : self.longest;
    if (status != GRATE_OK) {
        fail("change %u of the configuration: %s", step % 10, grate_status_name(status));
    }
}

static void recount_now(void)
{
    if (!books_recount(&ledger, workers, THREADS, self.longest)) {
        fail("more grants than the soak can keep");
    }
    self.longest = 0;
}

static uint64_t calls(void)
{
    uint64_t sum = 0, i;
    for (i = 0; i < THREADS; i++) {
        sum += __atomic_load_n(&workers[i].done.calls, __ATOMIC_RELAXED);
    }
    return sum;
}

static void check_threads(void)
{
    size_t i;
    for (i = 0; i < THREADS; i++) {
        if (workers[i].wrong != NULL) {
            fail("thread %zu: %s (%" PRId64 ")", i, workers[i].wrong, workers[i].wrong_value);
        }
    }
    if (self.wrong != NULL) {
        fail("in between: %s (%" PRId64 ")", self.wrong, self.wrong_value);
    }
}

static tally sum_of_threads(void)
{
    tally sum;
    uint64_t *to = (uint64_t *)&sum;
    size_t i, k;
    memset(&sum, 0, sizeof sum);
    for (i = 0; i < THREADS; i++) {
        const uint64_t *from = (const uint64_t *)&workers[i].done;
        for (k = 0; k < sizeof sum / sizeof *to; k++) {
            to[k] += from[k];
        }
    }
    return sum;
}

static void same(const char *what, uint64_t engine, uint64_t threads)
{
    if (engine != threads) {
        fail("%s: the engine counted %" PRIu64 ", the threads %" PRIu64, what, engine, threads);
    }
}

/* The value of a metric without labels in the Prometheus text. */
static uint64_t in_text(const char *text, const char *name)
{
    char line[64];
    const char *found;
    snprintf(line, sizeof line, "\ngrate_%s ", name);
    found = strstr(text, line);
    return found != NULL ? strtoull(found + strlen(line), NULL, 10) : UINT64_MAX;
}

/* After the last lease has ended or expired: no drift. */
static void check_counters(grate_engine *engine, const tally *sum)
{
    static char text[65536];
    grate_metrics m = GRATE_METRICS_INIT;
    uint64_t len, cooldowns = 0;
    int i;
    grate_engine_metrics(engine, &m, NULL);
    same("selects", m.selects, sum->selects);
    same("acquires", m.acquires, sum->acquires);
    same("completions", m.completions, sum->completions);
    same("cancellations", m.cancellations, sum->cancellations);
    same("expired leases", m.expired_leases, sum->abandoned + sum->late);
    same("observations", m.observations, sum->observations);
    same("none available", m.none_available, sum->none_available);
    same("rate limited", m.rate_limited_responses, sum->rate_limited);
    same("capped waits", m.capped_waits, sum->capped_waits);
    same("in flight", m.leases_in_flight, 0);
    same("grants in the books", ledger.grants + sum->cancellations, sum->acquires);
    for (i = 0; i < PROVIDERS; i++) {
        grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
        grate_quota_state quotas[QUOTAS] = {GRATE_QUOTA_STATE_INIT};
        uint64_t q;
        state.quotas = quotas;
        state.quotas_capacity = QUOTAS;
        if (grate_engine_provider_state(engine, PROVIDER_NAMES[i], &state, NULL) != GRATE_OK) {
            fail("provider %s is not there", PROVIDER_NAMES[i]);
        }
        same(PROVIDER_NAMES[i], state.acquires, sum->acquires_of[i]);
        same(PROVIDER_NAMES[i], state.observations, sum->observations_of[i]);
        same(PROVIDER_NAMES[i], state.leases_in_flight, 0);
        cooldowns += state.cooldowns_triggered;
        for (q = 0; q < state.quotas_len; q++) {
            if (quotas[q].dimension == GRATE_DIMENSION_CONCURRENCY) {
                same("slots taken", quotas[q].used, 0);
            }
        }
    }
    same("cooldowns", m.cooldowns_triggered, cooldowns);
    if (grate_engine_prometheus(engine, text, sizeof text, &len, NULL) != GRATE_OK) {
        fail("no metrics as text");
    }
    same("acquires as text", in_text(text, "acquires_total"), sum->acquires);
    same("observations as text", in_text(text, "observations_total"), sum->observations);
    same("none available as text", in_text(text, "none_available_total"), sum->none_available);
}

static void check_windows(void)
{
    size_t i;
    printf("\n%-34s %12s %12s %9s\n", "quota", "windows", "worst use", "excesses");
    for (i = 0; i < QUOTAS; i++) {
        const recount *r = &ledger.results[i];
        printf("%-34s %12" PRIu64 " %11.2f%% %9" PRIu64 "\n", QUOTA_PLAN[i].name, r->windows, 100 * r->worst, r->excesses);
        if (r->unsure > 0) {
            printf("%-34s %12" PRIu64 "   not recounted: threads were off their cores for too long\n", "", r->unsure);
        }
        if (r->windows + r->unsure == 0) {
            fail("%s: no window was recounted", QUOTA_PLAN[i].name);
        }
        if (r->excesses > 0) {
            fail("%s: %g units in the window that ends at %" PRIu64 " ns, the limit is %g", QUOTA_PLAN[i].name, r->units, r->at,
                 r->limit);
        }
    }
}

static grate_engine *begin(void)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_engine *engine = NULL;
    size_t i;
    config.lease_ttl_ns = LEASE_TTL_NS;
    config.skew_ns = SKEW_NS;
    config.max_retry_after_ns = MAX_RETRY_AFTER_NS;
    if (grate_engine_new(&config, &engine, NULL) != GRATE_OK || plan_json(engine, &plan, 0, 1, 0) != GRATE_OK) {
        printf("FAIL there is no engine\n");
        exit(2);
    }
    self.engine = engine;
    for (i = 0; i < THREADS; i++) {
        memset(rings[i], 1, sizeof rings[i]);
        workers[i].engine = engine;
        workers[i].random = i + 1;
        workers[i].ring = rings[i];
        workers[i].settled = mono_ns();
        if (pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]) != 0) {
            printf("FAIL there is no thread\n");
            exit(2);
        }
    }
    return engine;
}

/* Until the end of the run; the memory when it was warm. */
static long run(grate_engine *engine, uint64_t start, uint64_t duration, unsigned *steps)
{
    uint64_t warm_up = duration / 3 < MOST_WARM_UP ? duration / 3 : MOST_WARM_UP;
    uint64_t next = start + STEP_NS, now;
    long warm = 0;
    while ((now = mono_ns()) < start + duration && failures == 0) {
        if (now < next) {
            struct timespec t = {0, (long)(next - now)};
            nanosleep(&t, NULL);
            continue;
        }
        next = now + STEP_NS;
        reconfigure(engine, (*steps)++);
        if (warm == 0 && now - start > warm_up) {
            warm = resident_kib();
        }
        if (*steps % 10 == 0) {
            int i;
            recount_now();
            for (i = 0; i < PROVIDERS; i++) {
                worker_check_provider(&self, i);
            }
            check_threads();
        }
        if (*steps % 100 == 0) {
            printf("%5.0f s: %" PRIu64 " calls, %" PRIu64 " grants, %u changes, %ld KiB\n", (double)(now - start) / 1e9, calls(),
                   ledger.grants, *steps, resident_kib());
            fflush(stdout);
        }
    }
    return warm;
}

int main(int argc, char **argv)
{
    uint64_t start;
    struct timespec tick = {0, (long)MS}, expiry = {0, (long)(2 * LEASE_TTL_NS)};
    unsigned steps = 0;
    int plant = 0, i;
    long warm, end;
    grate_engine *engine;
    tally sum;
    double minutes = 10, took;

    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--plant") == 0) {
            plant = 1;
        } else if (strcmp(argv[i], "--minutes") == 0 && i + 1 < argc && strtod(argv[i + 1], NULL) > 0) {
            minutes = strtod(argv[++i], NULL);
        } else {
            fprintf(stderr, "usage: soak [--minutes N] [--plant]\n");
            return 2;
        }
    }
    /* A deadlock ends the program instead of the patience. */
    alarm((unsigned)(60 * minutes) + 120);
    start = mono_ns();
    books_open(&ledger, start, &plan, plant);
    engine = begin();
    warm = run(engine, start, (uint64_t)(60 * minutes * (double)SECOND), &steps);
    end = resident_kib();
    took = (double)(mono_ns() - start) / 1e9;

    __atomic_store_n(&worker_stop, 1, __ATOMIC_RELEASE);
    for (i = 0; i < THREADS; i++) {
        /* A ring that is full is emptied, so that its thread can end. */
        while (pthread_tryjoin_np(workers[i].thread, NULL) != 0) {
            recount_now();
            nanosleep(&tick, NULL);
        }
    }
    for (i = 0; i < THREADS; i++) {
        workers[i].settled = mono_ns();
    }
    recount_now();
    if (plan_json(engine, &plan, 0, 1, 0) != GRATE_OK) {
        fail("the last configuration was refused");
    }
    nanosleep(&expiry, NULL);
    sum = sum_of_threads();
    check_counters(engine, &sum);
    check_windows();
    check_threads();
    if (end - warm >= MOST_GROWTH_KIB) {
        fail("memory grew from %ld to %ld KiB", warm, end);
    }
    grate_engine_free(engine);

    printf("\n%" PRIu64 " calls in %.0f s, %.0f a second, on %d threads\n", sum.calls, took, (double)sum.calls / took, THREADS);
    printf("%" PRIu64 " grants: %" PRIu64 " completed, %" PRIu64 " cancelled, %" PRIu64 " left to expire, %" PRIu64 " settled too late\n",
           sum.acquires, sum.completions, sum.cancellations, sum.abandoned, sum.late);
    printf("%u changes of the configuration by one thread, %" PRIu64 " of limits\n", steps, ledger.changes);
    printf("memory: %ld KiB when warm, %ld KiB at the end\n", warm, end);
    printf("soak: %d passed, %u failed\n", failures == 0, failures);
    return failures != 0;
}
