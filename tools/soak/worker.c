/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker.h"

#include <string.h>
#include <time.h>

int worker_stop;

#define CANDIDATES 10
/* Statuses that a call may return, as bits. */
#define MAY(status) (1u << (status))
#define DONE MAY(GRATE_OK)
/* Providers and capabilities come and go meanwhile. */
#define GONE_PROVIDER MAY(GRATE_ERR_UNKNOWN_PROVIDER)
#define GONE_CAPABILITY MAY(GRATE_ERR_UNKNOWN_CAPABILITY)
#define STALE MAY(GRATE_ERR_STALE_LEASE)

uint64_t mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

static uint64_t below(worker *w, uint64_t n)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (w->random >> 33) % n;
}

static void wrong(worker *w, const char *what, int64_t value)
{
    if (w->wrong == NULL) {
        w->wrong = what;
        w->wrong_value = value;
    }
}

static grate_status expect(worker *w, const char *what, unsigned allowed, grate_status status)
{
    w->done.calls++;
    if (status < 0 || status > 31 || (allowed >> status & 1) == 0) {
        wrong(w, what, status);
    }
    return status;
}

/* Not true of NaN either. */
static int is_share(double x)
{
    return x >= 0 && x <= 1;
}

static void nap(worker *w, uint64_t most_us)
{
    struct timespec t = {0, 0};
    t.tv_nsec = (long)(1000 * (1 + below(w, most_us)));
    nanosleep(&t, NULL);
}

static int provider_named(const char *name)
{
    int i;
    for (i = 0; name != NULL && i < PROVIDERS; i++) {
        if (strcmp(name, PROVIDER_NAMES[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static void check_decision(worker *w, const grate_decision *d, grate_status status)
{
    uint64_t i;
    if (!is_share(d->score) || !is_share(d->quota_score) || !is_share(d->health_score) || !is_share(d->priority_score) ||
        !is_share(d->latency_score) || !(d->seconds_to_exhaustion >= 0)) {
        wrong(w, "a score of a decision is out of its range", (int64_t)(d->score * 1e9));
    }
    if (status == GRATE_OK && (d->held_by != GRATE_HELD_BY_NOTHING || d->retry_after_ns != 0 || provider_named(d->provider) < 0)) {
        wrong(w, "a chosen provider is held", d->held_by);
    }
    if (status == GRATE_ERR_NO_PROVIDER_AVAILABLE &&
        (d->lease != 0 || d->retry_after_ns == 0 || (d->provider != NULL && d->held_by == GRATE_HELD_BY_NOTHING))) {
        wrong(w, "nothing is available, and nothing holds it", d->held_by);
    }
    if (d->candidates_len > d->candidates_capacity || d->candidates_len > d->candidates_total) {
        wrong(w, "more candidates than there are", (int64_t)d->candidates_len);
        return;
    }
    for (i = 0; i < d->candidates_len; i++) {
        const grate_candidate *c = &d->candidates[i];
        if (!is_share(c->score) || !is_share(c->health_score) || provider_named(c->provider) < 0) {
            wrong(w, "a candidate is out of its range", (int64_t)(c->score * 1e9));
        }
    }
}

void worker_check_provider(worker *w, int provider)
{
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_quota_state quotas[QUOTAS] = {GRATE_QUOTA_STATE_INIT};
    uint64_t i;
    state.quotas = quotas;
    state.quotas_capacity = QUOTAS;
    if (expect(w, "provider_state", DONE | GONE_PROVIDER,
               grate_engine_provider_state(w->engine, PROVIDER_NAMES[provider], &state, NULL)) != GRATE_OK) {
        return;
    }
    if (!is_share(state.health) || state.leases_in_flight > state.acquires || state.quotas_len > QUOTAS) {
        wrong(w, "the state of a provider is out of its range", (int64_t)(state.health * 1e9));
        return;
    }
    for (i = 0; i < state.quotas_len; i++) {
        const grate_quota_state *q = &quotas[i];
        /* A bucket may be larger than what refills it in a window, and is never larger than this. */
        uint64_t most = q->strategy == GRATE_STRATEGY_TOKEN_BUCKET ? 10000 : q->effective_limit;
        if (q->remaining > most || !is_share(q->predicted_share) || !(q->burn_per_sec >= 0) || !(q->seconds_to_exhaustion >= 0)) {
            wrong(w, "a quota is out of its range", (int64_t)q->remaining);
        }
        if (provider != TOLD && q->effective_limit > q->limit) {
            wrong(w, "the limit in force is above the configured one", (int64_t)q->effective_limit);
        }
    }
}

/* For the recount, once the lease is settled or given up. */
static void record(worker *w, const grant *g)
{
    while (w->written - __atomic_load_n(&w->read, __ATOMIC_ACQUIRE) == RING) {
        nap(w, 1000);
    }
    w->ring[w->written % RING] = *g;
    __atomic_store_n(&w->written, w->written + 1, __ATOMIC_RELEASE);
}

static void took(worker *w, uint64_t before, uint64_t after)
{
    if (after - before > __atomic_load_n(&w->longest, __ATOMIC_RELAXED)) {
        __atomic_store_n(&w->longest, after - before, __ATOMIC_RELAXED);
    }
}

/* What became of a request: mostly it was served. `units` are never more than was reserved. */
static grate_response response_of(worker *w, uint32_t units, int may_refuse)
{
    static const int32_t FAILURES[] = {GRATE_OUTCOME_SERVER_ERROR, GRATE_OUTCOME_OVERLOADED, GRATE_OUTCOME_TIMEOUT,
                                       GRATE_OUTCOME_FORBIDDEN};
    grate_response r = GRATE_RESPONSE_INIT;
    uint64_t dice = below(w, 1000);
    r.outcome = GRATE_OUTCOME_SUCCESS;
    if (dice < 4) {
        r.outcome = FAILURES[dice];
        r.retry_after_ns = below(w, 2) == 0 ? 5 * MS : 0;
    } else if (dice < 6 && may_refuse) {
        r.outcome = GRATE_OUTCOME_RATE_LIMITED;
        /* Mostly a few milliseconds; sometimes a wait that is not believed. */
        r.retry_after_ns = below(w, 8) == 0 ? 10 * MAX_RETRY_AFTER_NS : 3 * MS;
    } else if (dice < 30) {
        r.outcome = 0;
        r.http_status = dice < 10 ? 404 : 200;
    } else if (dice < 33) {
        r.outcome = GRATE_OUTCOME_CANCELLED;
    }
    r.tokens = units;
    r.bytes = plan_units(GRATE_DIMENSION_BYTES, units);
    return r;
}

/* Of what was accepted. */
static void count_response(worker *w, const grate_response *r)
{
    w->done.rate_limited += r->outcome == GRATE_OUTCOME_RATE_LIMITED;
    w->done.capped_waits += r->retry_after_ns > MAX_RETRY_AFTER_NS;
}

static void add_headers(worker *w, grate_response *r, grate_header *header)
{
    static const grate_header FIELDS[] = {{"x-ratelimit-remaining-requests", 30, "900", 3},
                                          {"RateLimit", 9, "\"default\";r=50;t=1", 18},
                                          {"x-ratelimit-limit-requests", 26, "2000", 4},
                                          {"retry-after", 11, "rubbish", 7},
                                          {"anthropic-ratelimit-tokens-remaining", 36, "\xff\xfe", 2}};
    *header = FIELDS[below(w, sizeof FIELDS / sizeof *FIELDS)];
    r->headers = header;
    r->headers_len = 1;
}

static void settle(worker *w, size_t which)
{
    held_lease h = w->held[which];
    uint64_t before = mono_ns(), dice = below(w, 100);
    /* A bucket gives back with care: many cancelled requests would hide that it refills too fast. */
    int cancels = below(w, h.grant.provider == B ? 500 : 7) == 0;
    grate_error err = GRATE_ERROR_INIT;
    grate_status status;
    w->held[which] = w->held[--w->held_len];

    if (dice < 1) {
        /* Left to expire: it holds its slots until then. */
        w->done.abandoned++;
        record(w, &h.grant);
        return;
    }
    h.grant.end = before < h.grant.end ? before : h.grant.end;
    if (cancels) {
        status = expect(w, "cancel", DONE | STALE, grate_engine_cancel(w->engine, h.lease, &err));
        w->done.cancellations += status == GRATE_OK;
    } else {
        uint32_t used = 1 + (uint32_t)below(w, h.grant.tokens);
        grate_response r = response_of(w, used, h.grant.provider == A);
        grate_header header;
        if (h.grant.provider == TOLD && dice < 50) {
            add_headers(w, &r, &header);
        }
        status = expect(w, "complete", DONE | STALE, grate_engine_complete(w->engine, h.lease, &r, &err));
        if (status == GRATE_OK) {
            w->done.completions++;
            count_response(w, &r);
            h.grant.tokens = used;
        }
    }
    took(w, before, mono_ns());
    if (status == GRATE_ERR_STALE_LEASE) {
        /* The thread was off its core for so long that the lease expired. */
        w->done.late++;
        if (mono_ns() - h.grant.before < LEASE_TTL_NS) {
            wrong(w, "a lease expired too soon", (int64_t)(before - h.grant.after));
        }
    }
    if (!cancels || status != GRATE_OK) {
        record(w, &h.grant);
    }
    if (below(w, 8) == 0) {
        expect(w, "settling again", STALE, grate_engine_cancel(w->engine, h.lease, NULL));
    }
}

static void acquire(worker *w)
{
    uint64_t kind = below(w, 100);
    int capability = kind < 70 ? CHAT : kind < 85 ? BATCH : kind < 95 ? VISIT : FREE;
    const char *exclude[] = {PROVIDER_NAMES[below(w, PROVIDERS)]};
    grate_request request = GRATE_REQUEST_INIT;
    grate_decision d = GRATE_DECISION_INIT;
    grate_candidate candidates[CANDIDATES] = {GRATE_CANDIDATE_INIT};
    grant g = {0, 0, 0, 0, 0};
    grate_status status;

    g.tokens = 1 + (uint32_t)below(w, 100);
    if (capability != FREE || below(w, 2) == 0) {
        request.tokens = g.tokens;
        request.bytes = plan_units(GRATE_DIMENSION_BYTES, g.tokens);
    }
    request.headroom = below(w, 10) == 0 ? 0.2 : 0;
    request.exclude = exclude;
    request.exclude_len = below(w, 10) == 0;
    if (below(w, 10) == 0) {
        d.candidates = candidates;
        d.candidates_capacity = below(w, CANDIDATES + 1);
    }
    g.before = mono_ns();
    status = grate_engine_acquire(w->engine, CAPABILITY_NAMES[capability], &request, &d, NULL);
    g.after = mono_ns();
    took(w, g.before, g.after);
    expect(w, "acquire", DONE | MAY(GRATE_ERR_NO_PROVIDER_AVAILABLE) | GONE_CAPABILITY, status);
    if (status != GRATE_ERR_UNKNOWN_CAPABILITY) {
        check_decision(w, &d, status);
    }
    if (status == GRATE_OK) {
        int provider = provider_named(d.provider);
        if (d.lease == 0 || provider < 0 || w->wrong != NULL) {
            wrong(w, "a grant without a lease", provider);
            return;
        }
        g.provider = (uint32_t)provider;
        g.end = g.before + LEASE_TTL_NS;
        w->done.acquires++;
        w->done.acquires_of[provider]++;
        w->held[w->held_len].grant = g;
        w->held[w->held_len].lease = d.lease;
        w->held[w->held_len++].due = g.after + (below(w, 4) == 0 ? below(w, 5 * MS) : 0);
    } else if (status == GRATE_ERR_NO_PROVIDER_AVAILABLE) {
        w->done.none_available++;
        if (below(w, 8) == 0) {
            nap(w, 200);
        }
    }
}

static void select_one(worker *w)
{
    grate_decision d = GRATE_DECISION_INIT;
    grate_candidate candidates[CANDIDATES] = {GRATE_CANDIDATE_INIT};
    grate_status status;
    if (below(w, 2) == 0) {
        d.candidates = candidates;
        d.candidates_capacity = CANDIDATES;
    }
    status = expect(w, "select", DONE | MAY(GRATE_ERR_NO_PROVIDER_AVAILABLE) | GONE_CAPABILITY,
                    grate_engine_select(w->engine, CAPABILITY_NAMES[below(w, CAPABILITIES)], NULL, &d, NULL));
    if (status != GRATE_ERR_UNKNOWN_CAPABILITY) {
        check_decision(w, &d, status);
    }
    w->done.selects += status == GRATE_OK;
    w->done.none_available += status == GRATE_ERR_NO_PROVIDER_AVAILABLE;
}

static void observe(worker *w)
{
    /* Elsewhere it takes room from the leases. */
    int provider = below(w, 100) == 0 ? (int)below(w, PROVIDERS) : TOLD;
    grate_response r = response_of(w, 1 + (uint32_t)below(w, 20), provider == TOLD);
    grate_header header;
    uint64_t before = mono_ns();
    if (provider == TOLD) {
        add_headers(w, &r, &header);
    }
    if (expect(w, "observe", DONE | GONE_PROVIDER, grate_engine_observe(w->engine, PROVIDER_NAMES[provider], &r, NULL)) ==
        GRATE_OK) {
        w->done.observations++;
        w->done.observations_of[provider]++;
        count_response(w, &r);
    }
    took(w, before, mono_ns());
}

static void look(worker *w)
{
    int provider = (int)below(w, PROVIDERS);
    double health = 0;
    int32_t cooling = 0;
    uint64_t remaining = 0;
    grate_metrics metrics = GRATE_METRICS_INIT;
    if (expect(w, "health", DONE | GONE_PROVIDER,
               grate_engine_provider_health(w->engine, PROVIDER_NAMES[provider], &health, NULL)) == GRATE_OK && !is_share(health)) {
        wrong(w, "health is out of its range", (int64_t)(health * 1e9));
    }
    expect(w, "in_cooldown", DONE | GONE_PROVIDER,
           grate_engine_provider_in_cooldown(w->engine, PROVIDER_NAMES[provider], &cooling, NULL));
    expect(w, "remaining_quota", DONE | GONE_PROVIDER,
           grate_engine_remaining_quota(w->engine, PROVIDER_NAMES[provider], GRATE_DIMENSION_REQUESTS, &remaining, NULL));
    expect(w, "metrics", DONE, grate_engine_metrics(w->engine, &metrics, NULL));
    worker_check_provider(w, provider);
}

/* What a caller gets wrong changes nothing. */
static void misuse(worker *w)
{
    grate_decision d = GRATE_DECISION_INIT;
    grate_response r = GRATE_RESPONSE_INIT;
    grate_error err = GRATE_ERROR_INIT;
    r.outcome = GRATE_OUTCOME_SUCCESS;
    expect(w, "rubbish as a lease", STALE, grate_engine_complete(w->engine, w->random | 1u << 23, &r, &err));
    expect(w, "no lease", STALE, grate_engine_cancel(w->engine, 0, &err));
    expect(w, "no engine", MAY(GRATE_ERR_NULL_POINTER), grate_engine_acquire(NULL, "chat", NULL, &d, &err));
    expect(w, "a bad name", MAY(GRATE_ERR_INVALID_NAME), grate_engine_acquire(w->engine, "\xff", NULL, &d, &err));
    expect(w, "an unknown name", GONE_PROVIDER, grate_engine_observe(w->engine, "nobody", &r, &err));
    r.outcome = 77;
    expect(w, "a bad outcome", MAY(GRATE_ERR_INVALID_ARGUMENT), grate_engine_observe(w->engine, "told", &r, &err));
    expect(w, "bad JSON", MAY(GRATE_ERR_INVALID_JSON), grate_engine_configure_json(w->engine, "{\"providers\": [", 15, &err));
}

/* Guests are configured and removed by whom it may be. */
static void configure_guests(worker *w, const plan_state *state)
{
    int guest = GUEST + (int)below(w, GUESTS);
    if (below(w, 3) == 0) {
        expect(w, "remove_provider", DONE | GONE_PROVIDER,
               grate_engine_remove_provider(w->engine, PROVIDER_NAMES[guest], NULL));
    } else {
        expect(w, "upsert_provider", DONE, plan_upsert(w->engine, state, guest));
        expect(w, "upsert_capability", DONE | GONE_PROVIDER,
               plan_capability(w->engine, VISIT, (unsigned)below(w, PROVIDERS)));
    }
}

/* An engine of its own for a moment. */
static void another_engine(worker *w)
{
    static const char json[] = "{\"providers\": [{\"name\": \"x\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1,"
                               " \"window\": \"day\"}]}], \"capabilities\": [{\"name\": \"y\", \"providers\": [{\"provider\": \"x\"}]}]}";
    grate_clock *clock = grate_clock_mock_new(0);
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_decision d = GRATE_DECISION_INIT;
    grate_engine *other = NULL;
    config.clock = clock;
    if (expect(w, "engine_new", DONE, grate_engine_new(&config, &other, NULL)) == GRATE_OK) {
        expect(w, "configure_json", DONE, grate_engine_configure_json(other, json, sizeof json - 1, NULL));
        expect(w, "its first", DONE, grate_engine_acquire(other, "y", NULL, &d, NULL));
        expect(w, "a lease of another engine", STALE, grate_engine_cancel(w->engine, d.lease, NULL));
        expect(w, "its second", MAY(GRATE_ERR_NO_PROVIDER_AVAILABLE), grate_engine_acquire(other, "y", NULL, &d, NULL));
    }
    grate_clock_free(clock);
    grate_engine_free(other);
}

static void something_else(worker *w)
{
    static const plan_state guests = {{0}};
    char text[65536];
    uint64_t dice = below(w, 1000), len = 0;
    if (dice < 400) {
        select_one(w);
    } else if (dice < 600) {
        observe(w);
    } else if (dice < 900) {
        look(w);
    } else if (dice < 970) {
        misuse(w);
    } else if (dice < 985) {
        expect(w, "prometheus", DONE, grate_engine_prometheus(w->engine, text, sizeof text, &len, NULL));
    } else if (dice < 995) {
        configure_guests(w, &guests);
    } else {
        another_engine(w);
    }
}

static void publish(worker *w)
{
    uint64_t settled = mono_ns();
    size_t i;
    for (i = 0; i < w->held_len; i++) {
        settled = w->held[i].grant.before < settled ? w->held[i].grant.before : settled;
    }
    __atomic_store_n(&w->settled, settled, __ATOMIC_RELEASE);
}

void *worker_run(void *argument)
{
    worker *w = argument;
    size_t i;
    while (!__atomic_load_n(&worker_stop, __ATOMIC_ACQUIRE) && w->wrong == NULL) {
        uint64_t now = mono_ns();
        publish(w);
        for (i = w->held_len; i-- > 0;) {
            if (w->held[i].due <= now || w->held_len == HELD) {
                settle(w, i);
            }
        }
        acquire(w);
        if (below(w, 8) == 0) {
            something_else(w);
        }
    }
    while (w->held_len > 0) {
        settle(w, w->held_len - 1);
    }
    publish(w);
    return NULL;
}
