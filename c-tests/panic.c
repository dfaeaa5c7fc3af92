/*
 * A bug of libgrate, made on demand in a library that is built with the feature fault-injection: a panic in any call is
 * GRATE_ERR_PANIC with a message, and the process, other engines and the same engine go on. Locks that the call held are
 * free, and no lease appears or is lost that the caller was not told of.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

/* Of the feature alone, so not in grate.h: the nth passage of a place panics; 0 is none. How many were left. */
uint64_t grate_fault_panic(int32_t place, uint64_t nth);
enum { CALL = 1, LOCK = 2 };

static grate_engine *engine, *other;
static grate_clock *mock;
static char text[65536];

static const char JSON[] =
    "{\"providers\": ["
    " {\"name\": \"a\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 5, \"window\": \"minute\", \"pool\": \"x\"},"
    "                           {\"dimension\": \"concurrency\", \"limit\": 9, \"pool\": \"y\"}]},"
    " {\"name\": \"b\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 4, \"window\": \"minute\"}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"a\"}, {\"provider\": \"b\"}]}]}";
#define ROOM 9 /* requests per minute, of both */

static grate_engine *make(void)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_engine *made = NULL;
    config.clock = mock;
    CHECK_EQ_I32(grate_engine_new(&config, &made, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_configure_json(made, JSON, sizeof JSON - 1, NULL), GRATE_OK);
    return made;
}

static void begin(void)
{
    mock = grate_clock_mock_new(1767225600000u);
    engine = make();
    other = make();
}

static void end(void)
{
    grate_engine_free(engine);
    grate_engine_free(other);
    grate_clock_free(mock);
}

static uint64_t in_flight(grate_engine *of)
{
    grate_metrics metrics = GRATE_METRICS_INIT;
    CHECK_EQ_I32(grate_engine_metrics(of, &metrics, NULL), GRATE_OK);
    return metrics.leases_in_flight;
}

static void *free_requests(void *of)
{
    static uint64_t granted;
    grate_decision decision = GRATE_DECISION_INIT;
    uint64_t leases[2 * ROOM], n;
    for (n = 0; n < 2 * ROOM && grate_engine_acquire(of, "api", NULL, &decision, NULL) == GRATE_OK; n++) {
        leases[n] = decision.lease;
    }
    for (granted = n; n > 0; n--) {
        CHECK_EQ_I32(grate_engine_cancel(of, leases[n - 1], NULL), GRATE_OK);
    }
    return &granted;
}

/* How many requests an engine grants now. On another thread: a lock that was left taken would stop it there, too. */
static uint64_t room(grate_engine *of)
{
    pthread_t thread;
    void *granted = NULL;
    CHECK_EQ_I32(pthread_create(&thread, NULL, free_requests, of), 0);
    CHECK_EQ_I32(pthread_join(thread, &granted), 0);
    return *(uint64_t *)granted;
}

/* ---- Every function that can fail, as a call that succeeds when nothing panics ---- */

static uint64_t lease;    /* of the engine, out */
static uint64_t acquired; /* another, by acquire below */

static grate_status select_(grate_error *err)
{
    grate_decision decision = GRATE_DECISION_INIT;
    return grate_engine_select(engine, "api", NULL, &decision, err);
}

static grate_status select_explained(grate_error *err)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_candidate rows[2] = {GRATE_CANDIDATE_INIT, GRATE_CANDIDATE_INIT};
    decision.candidates = rows;
    decision.candidates_capacity = 2;
    return grate_engine_select(engine, "api", NULL, &decision, err);
}

static grate_status acquire(grate_error *err)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_status status = grate_engine_acquire(engine, "api", NULL, &decision, err);
    acquired = decision.lease;
    return status;
}

static grate_status complete(grate_error *err)
{
    grate_response response = GRATE_RESPONSE_INIT;
    response.outcome = GRATE_OUTCOME_SUCCESS;
    return grate_engine_complete(engine, lease, &response, err);
}

static grate_status cancel(grate_error *err)
{
    return grate_engine_cancel(engine, lease, err);
}

static grate_status observe(grate_error *err)
{
    grate_response response = GRATE_RESPONSE_INIT;
    response.outcome = GRATE_OUTCOME_CLIENT_ERROR;
    response.requests = GRATE_ZERO;
    return grate_engine_observe(engine, "a", &response, err);
}

static grate_status configure(grate_error *err)
{
    return grate_engine_configure_json(engine, JSON, sizeof JSON - 1, err);
}

static grate_status upsert_provider(grate_error *err)
{
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    provider.name = "c";
    return grate_engine_upsert_provider(engine, &provider, err);
}

static grate_status upsert_capability(grate_error *err)
{
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    capability.name = "none";
    return grate_engine_upsert_capability(engine, &capability, err);
}

static grate_status health(grate_error *err)
{
    double value;
    return grate_engine_provider_health(engine, "a", &value, err);
}

static grate_status in_cooldown(grate_error *err)
{
    int32_t value;
    return grate_engine_provider_in_cooldown(engine, "a", &value, err);
}

static grate_status remaining(grate_error *err)
{
    uint64_t value;
    return grate_engine_remaining_quota(engine, "a", GRATE_DIMENSION_REQUESTS, &value, err);
}

static grate_status state(grate_error *err)
{
    grate_provider_state value = GRATE_PROVIDER_STATE_INIT;
    return grate_engine_provider_state(engine, "a", &value, err);
}

static grate_status metrics(grate_error *err)
{
    grate_metrics value = GRATE_METRICS_INIT;
    return grate_engine_metrics(engine, &value, err);
}

static grate_status prometheus(grate_error *err)
{
    uint64_t len;
    return grate_engine_prometheus(engine, text, sizeof text, &len, err);
}

static grate_status new_engine(grate_error *err)
{
    grate_engine *made = NULL;
    grate_status status = grate_engine_new(NULL, &made, err);
    CHECK((made != NULL) == (status == GRATE_OK));
    grate_engine_free(made);
    return status;
}

static grate_status parse(grate_error *err)
{
    grate_header_report report = GRATE_HEADER_REPORT_INIT;
    return grate_parse_headers(NULL, 0, 0, &report, err);
}

typedef grate_status (*call)(grate_error *err);
static const call CALLS[] = {select_,   select_explained, acquire,         complete,          cancel, observe,
                             configure, upsert_provider,  upsert_capability, health,          in_cooldown, remaining,
                             state,     metrics,          prometheus,        new_engine,      parse};
#define CALLS_LEN (sizeof CALLS / sizeof CALLS[0])

static uint64_t take_lease(void)
{
    grate_decision decision = GRATE_DECISION_INIT;
    CHECK_EQ_I32(grate_engine_acquire(engine, "api", NULL, &decision, NULL), GRATE_OK);
    return decision.lease;
}

static void panics(call function, int32_t place, uint64_t nth)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_fault_panic(place, nth);
    CHECK_EQ_I32(function(&err), GRATE_ERR_PANIC);
    CHECK_EQ_U64(grate_fault_panic(0, 0), 0);
    CHECK_EQ_I32(err.code, GRATE_ERR_PANIC);
    CHECK_STR(err.message, "internal error, please report it: injected");
}

TEST(a_panic_in_a_call_changes_nothing)
{
    size_t i;
    begin();
    for (i = 0; i < CALLS_LEN; i++) {
        lease = take_lease();
        panics(CALLS[i], CALL, 1);
        CHECK_EQ_U64(in_flight(engine), 1);
        CHECK_EQ_U64(room(engine), ROOM - 1);
        CHECK_EQ_I32(grate_engine_cancel(engine, lease, NULL), GRATE_OK);
        CHECK_EQ_U64(room(engine), ROOM);
        CHECK_EQ_U64(room(other), ROOM);
    }
    /* Where the error is not wanted, and in functions that tell no status. */
    grate_fault_panic(CALL, 1);
    CHECK_EQ_I32(cancel(NULL), GRATE_ERR_PANIC);
    grate_fault_panic(CALL, 1);
    CHECK_EQ_U64(grate_clock_now_ns(mock), 0);
    CHECK_EQ_U64(grate_fault_panic(0, 0), 0);
    end();
}

/* Each lock that a call takes, in turn: until the call gets through without a panic. */
TEST(a_panic_with_locks_held_frees_them)
{
    size_t i;
    uint64_t nth, most = 0;
    begin();
    for (i = 0; i < CALLS_LEN; i++) {
        for (nth = 1;; nth++) {
            grate_error err = GRATE_ERROR_INIT;
            grate_status status;
            lease = take_lease();
            grate_fault_panic(LOCK, nth);
            status = CALLS[i](&err);
            if (grate_fault_panic(0, 0) != 0) {
                CHECK_EQ_I32(status, GRATE_OK);
                break;
            }
            CHECK_EQ_I32(status, GRATE_ERR_PANIC);
            CHECK_STR(err.message, "internal error, please report it: injected");
            /* The lease is still out: settling it failed, and acquire told of no other. */
            CHECK_EQ_U64(in_flight(engine), 1);
            CHECK_EQ_U64(room(engine), ROOM - 1);
            CHECK_EQ_U64(room(other), ROOM);
            CHECK_EQ_I32(grate_engine_cancel(engine, lease, NULL), GRATE_OK);
            CHECK_EQ_U64(room(engine), ROOM);
        }
        most = nth > most ? nth : most;
        if (CALLS[i] == acquire) {
            CHECK_EQ_I32(grate_engine_cancel(engine, acquired, NULL), GRATE_OK);
        }
        if (CALLS[i] == complete) {
            /* It was counted, and is no longer in the window of the next call. */
            CHECK_EQ_I32(grate_clock_advance_secs(mock, 61), GRATE_OK);
        } else if (CALLS[i] != cancel) {
            CHECK_EQ_I32(grate_engine_cancel(engine, lease, NULL), GRATE_OK);
        }
    }
    /* A provider with two pools: three locks at once. */
    CHECK(most >= 4);
    end();
}

int main(void)
{
    alarm(120);
    RUN(a_panic_in_a_call_changes_nothing);
    RUN(a_panic_with_locks_held_frees_them);
    return check_report("panic");
}
