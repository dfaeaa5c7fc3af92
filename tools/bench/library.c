/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L

#include "library.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sides.h"

#define NAME_SIZE 24
/* So that two callers share no cache line, nor two that are fetched together. */
#define ALIGNMENT 128

typedef char name[NAME_SIZE];

struct caller {
    grate_engine *engine;
    grate_clock *clock; /* NULL: the system's */
    int is_first;       /* owns engine and clock */
    int moves_clock;
    workload work;
    name capability;
    name *names;
    uint32_t turn; /* whose turn it is to be observed */
    uint64_t lease;
    grate_request request;
    grate_response response;
    grate_candidate *candidates;
    grate_error error; /* bindings and careful programs always pass one */
};

static void must(caller *c, grate_status status)
{
    if (status != GRATE_OK) {
        fprintf(stderr, "libgrate: %s: %s\n", grate_status_name(status), c->error.message);
        exit(EXIT_FAILURE);
    }
}

static void *zeroed(size_t size)
{
    void *memory;
    if (posix_memalign(&memory, ALIGNMENT, size) != 0)
        abort();
    memset(memory, 0, size);
    return memory;
}

static void name_capability(name name, uint32_t capability)
{
    snprintf(name, NAME_SIZE, "bench-cap-%" PRIu32, capability);
}

/* All that a caller has of its own, beside the engine. */
static caller *caller_of(const workload *work)
{
    caller *c = zeroed(sizeof *c);
    uint32_t i;

    c->work = *work;
    c->moves_clock = work->clock == MOCK;
    name_capability(c->capability, 0);
    c->names = zeroed(work->providers * sizeof *c->names);
    c->candidates = zeroed(work->providers * sizeof *c->candidates);
    for (i = 0; i < work->providers; i++) {
        snprintf(c->names[i], NAME_SIZE, "provider-%" PRIu32, i);
        grate_candidate_init(&c->candidates[i], sizeof *c->candidates);
    }
    grate_request_init(&c->request, sizeof c->request);
    grate_response_init(&c->response, sizeof c->response);
    grate_error_init(&c->error, sizeof c->error);
    c->response.outcome = GRATE_OUTCOME_SUCCESS;
    c->response.latency_ns = work->latency_ms * 1000000;
    if (work->quotas > 1)
        c->request.tokens = c->response.tokens = work->tokens;
    return c;
}

caller *caller_bare(const workload *work, const char *state_path)
{
    caller *c = caller_of(work);
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;

    c->is_first = 1;
    c->clock = work->clock == SYSTEM ? NULL : grate_clock_mock_new(0);
    config.clock = c->clock;
    config.state_path = state_path;
    must(c, grate_engine_new(&config, &c->engine, &c->error));
    return c;
}

static void quota(grate_quota_config *quota, int32_t dimension, uint64_t limit, uint64_t window_ns)
{
    grate_quota_config_init(quota, sizeof *quota);
    quota->dimension = dimension;
    quota->limit = limit;
    quota->window_ns = window_ns;
}

void caller_register_providers(caller *c)
{
    grate_quota_config quotas[3];
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;
    uint64_t requests = c->work.requests_per_minute;
    uint32_t i;

    quota(&quotas[0], GRATE_DIMENSION_REQUESTS, requests, GRATE_WINDOW_MINUTE);
    quota(&quotas[1], GRATE_DIMENSION_TOKENS, requests * c->work.tokens, GRATE_WINDOW_MINUTE);
    quota(&quotas[2], GRATE_DIMENSION_CONCURRENCY, CONCURRENCY, 0);
    config.quotas = quotas;
    config.quotas_len = c->work.quotas;
    config.cooldown_seconds = (double)c->work.cooldown_secs;
    for (i = 0; i < c->work.providers; i++) {
        config.name = c->names[i];
        config.priority = c->work.providers - i; /* all different, as in the benchmark of grate-limiter */
        must(c, grate_engine_upsert_provider(c->engine, &config, &c->error));
    }
}

void caller_capability(caller *c, uint32_t capability, uint32_t first, uint32_t len)
{
    grate_capability_provider *rows = zeroed(len * sizeof *rows);
    grate_capability_config config = GRATE_CAPABILITY_CONFIG_INIT;
    name name;
    uint32_t i;

    name_capability(name, capability);
    for (i = 0; i < len; i++) {
        grate_capability_provider_init(&rows[i], sizeof *rows);
        rows[i].provider = c->names[first + i];
    }
    config.name = name;
    config.providers = rows;
    config.providers_len = len;
    must(c, grate_engine_upsert_capability(c->engine, &config, &c->error));
    free(rows);
}

static caller *caller_with(const workload *work, const char *state_path)
{
    caller *c = caller_bare(work, state_path);
    uint32_t i;

    caller_register_providers(c);
    if (work->apart)
        for (i = 0; i < work->providers; i++)
            caller_capability(c, i, i, 1);
    else
        caller_capability(c, 0, 0, work->providers);
    return c;
}

caller *caller_new(const workload *work)
{
    return caller_with(work, NULL);
}

/* A second caller: of the second capability, if each provider has its own. */
static void *another(void *self)
{
    caller *first = self, *c = caller_of(&first->work);

    name_capability(c->capability, c->work.apart);
    c->engine = first->engine;
    c->clock = first->clock;
    return c;
}

void caller_free(caller *c)
{
    if (c->is_first) {
        grate_engine_free(c->engine);
        grate_clock_free(c->clock);
    }
    free(c->names);
    free(c->candidates);
    free(c);
}

void caller_select(caller *c)
{
    grate_decision decision = GRATE_DECISION_INIT;
    must(c, grate_engine_select(c->engine, c->capability, &c->request, &decision, &c->error));
}

static void select_ranked(caller *c)
{
    grate_decision decision = GRATE_DECISION_INIT;
    decision.candidates = c->candidates;
    decision.candidates_capacity = c->work.providers;
    must(c, grate_engine_select(c->engine, c->capability, &c->request, &decision, &c->error));
}

void caller_observe(caller *c)
{
    must(c, grate_engine_observe(c->engine, c->names[c->turn], &c->response, &c->error));
}

void caller_acquire(caller *c)
{
    grate_decision decision = GRATE_DECISION_INIT;
    must(c, grate_engine_acquire(c->engine, c->capability, &c->request, &decision, &c->error));
    c->lease = decision.lease;
}

void caller_complete(caller *c)
{
    must(c, grate_engine_complete(c->engine, c->lease, &c->response, &c->error));
}

void caller_tick(caller *c)
{
    if (c->moves_clock)
        grate_clock_advance_ms(c->clock, 1);
    c->turn = c->turn + 1 < c->work.providers ? c->turn + 1 : 0;
}

static void observe_next(caller *c)
{
    caller_tick(c);
    caller_observe(c);
}

static void cycle(caller *c)
{
    caller_acquire(c);
    caller_tick(c); /* within what is timed, on all sides: the time of two requests is never the same */
    caller_complete(c);
}

static void run(void *self, uint32_t operation, uint64_t n)
{
    static void (*const operations[])(caller *) = {caller_select, select_ranked, observe_next, cycle};
    void (*once)(caller *) = operations[operation];
    while (n-- > 0)
        once(self);
}

static void *create(const workload *work)
{
    return caller_new(work);
}

/* The file goes at once: who uses it keeps it. */
static void *create_shared(const workload *work)
{
    char path[64];
    caller *c;
    snprintf(path, sizeof path, "%s/grate-bench-%ld", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid());
    unlink(path);
    c = caller_with(work, path);
    unlink(path);
    return c;
}

static void destroy(void *self)
{
    caller_free(self);
}

const side LIBGRATE = {"libgrate", create, another, run, destroy};
const side SHARED = {"the same, in a file", create_shared, another, run, destroy};
