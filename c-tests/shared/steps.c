/*
 * A process is killed behind every single store that an operation makes in the state file, and behind single instructions.
 * Each time another process finds all counts as they were before the operation or as they are after it, and goes on at once;
 * in the end nothing is held and nothing is counted any more. So does one that finds the file abandoned.
 *
 *   shared_steps [long]
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "trap.h"

#define MS UINT64_C(1000000)
/* All calls of who comes next, together. */
#define LONGEST (100 * MS)
#define PROVIDERS 3
#define QUOTAS 8
#define START_MS UINT64_C(1700000000000)
#define PASSED (700 * MS) /* by the clock, when an operation begins */

#define POOLS \
    ", {\"dimension\": \"requests\", \"limit\": 300, \"window\": \"minute\", \"pool\": \"all\"}," \
    " {\"dimension\": \"concurrency\", \"limit\": 20, \"pool\": \"slots\"}]}"
#define ROLLING(limit) "{\"dimension\": \"requests\", \"limit\": " limit ", \"window\": \"second\"}"
#define BUCKET(limit) \
    ", {\"dimension\": \"tokens\", \"limit\": " limit ", \"window\": \"minute\", \"strategy\": \"token_bucket\"}"
#define TOKENS(limit) ", {\"dimension\": \"tokens\", \"limit\": " limit ", \"window\": \"minute\"}"
#define FIXED ", {\"dimension\": \"bytes\", \"limit\": 100000, \"window\": \"minute\", \"strategy\": \"fixed_window\"}"
#define SLOTS ", {\"dimension\": \"concurrency\", \"limit\": 10}"
#define CAPABILITIES \
    "\"capabilities\": [{\"name\": \"a\", \"providers\": [{\"provider\": \"a\"}]}," \
    " {\"name\": \"b\", \"providers\": [{\"provider\": \"b\"}]}]}"

static const char JSON[] =
    "{\"providers\": [{\"name\": \"a\", \"quotas\": [" ROLLING("60") BUCKET("9000") FIXED SLOTS POOLS
    ", {\"name\": \"b\", \"quotas\": [" ROLLING("70") BUCKET("8000") SLOTS POOLS "], " CAPABILITIES;
/* Other limits, a quota more on one and one less on the other, another strategy, another provider. */
static const char CHANGED[] =
    "{\"providers\": [{\"name\": \"a\", \"quotas\": [" ROLLING("90") BUCKET("9500") SLOTS POOLS
    ", {\"name\": \"b\", \"quotas\": [" ROLLING("70") TOKENS("8000") FIXED SLOTS POOLS
    ", {\"name\": \"c\", \"quotas\": [" ROLLING("50") POOLS "], " CAPABILITIES;

/* All that is counted; `status` tells whether there is such a provider. */
typedef struct {
    struct {
        int32_t status, circuit;
        uint64_t in_flight, selects, acquires, completions, cancellations, observations, expired, refused, failures;
        struct {
            uint64_t limit, effective, used, remaining;
        } quotas[QUOTAS];
    } providers[PROVIDERS];
} counts;

static const char *const names[PROVIDERS] = {"a", "b", "c"};
static const char *path;
static char *template_file; /* as it was left, in order */
static off_t template_size;
static grate_clock *mock;
static uint64_t *counted; /* by the child, when its operation ended before it was killed */
static uint64_t longest;  /* that who came next was busy */
static int is_long;

/* What a process does: at first, untouched, and then in single steps. */
typedef struct {
    const char *name;
    void (*prepare)(grate_engine **engine, uint64_t *lease);
    void (*act)(grate_engine **engine, uint64_t lease);
} operation;

static grate_engine *open_engine(const char *json)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    config.clock = mock;
    config.state_size = 1 << 20;
    return open_state(path, &config, json);
}

static uint64_t acquire(grate_engine *engine, const char *capability)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_request request = GRATE_REQUEST_INIT;
    request.tokens = 100;
    request.bytes = 1000;
    must(grate_engine_acquire(engine, capability, &request, &decision, NULL), "acquire");
    return decision.lease;
}

static grate_response response(int32_t http_status)
{
    grate_response response = GRATE_RESPONSE_INIT;
    response.http_status = http_status;
    response.tokens = 70;
    response.bytes = 3000;
    response.latency_ns = 5 * MS;
    return response;
}

static void is_a_user(grate_engine **engine, uint64_t *lease)
{
    grate_metrics metrics = GRATE_METRICS_INIT;
    (void)lease;
    must(grate_engine_metrics(*engine, &metrics, NULL), "metrics");
}

static void has_a_lease(grate_engine **engine, uint64_t *lease)
{
    *lease = acquire(*engine, "a");
}

static void acquires(grate_engine **engine, uint64_t lease)
{
    (void)lease;
    acquire(*engine, "a");
}

static void completes(grate_engine **engine, uint64_t lease)
{
    grate_response served = response(200);
    must(grate_engine_complete(*engine, lease, &served, NULL), "complete");
}

static void is_refused(grate_engine **engine, uint64_t lease)
{
    static const grate_header headers[] = {{"x-ratelimit-limit-requests", 26, "40", 2},
                                           {"x-ratelimit-remaining-requests", 30, "3", 1},
                                           {"retry-after", 11, "2", 1}};
    grate_response refused = response(429);
    refused.headers = headers;
    refused.headers_len = 3;
    must(grate_engine_complete(*engine, lease, &refused, NULL), "complete");
}

static void cancels(grate_engine **engine, uint64_t lease)
{
    must(grate_engine_cancel(*engine, lease, NULL), "cancel");
}

static void observes(grate_engine **engine, uint64_t lease)
{
    grate_response failed = response(500);
    (void)lease;
    must(grate_engine_observe(*engine, "a", &failed, NULL), "observe");
}

static void defines(grate_engine **engine, uint64_t lease)
{
    grate_quota_config quotas[2] = {GRATE_QUOTA_CONFIG_INIT, GRATE_QUOTA_CONFIG_INIT};
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;
    (void)lease;
    quotas[0].dimension = GRATE_DIMENSION_REQUESTS;
    quotas[0].limit = 45;
    quotas[0].window_ns = GRATE_WINDOW_SECOND;
    quotas[1].dimension = GRATE_DIMENSION_CONCURRENCY;
    quotas[1].limit = 20;
    quotas[1].pool = "slots";
    config.name = "a";
    config.quotas = quotas;
    config.quotas_len = 2;
    must(grate_engine_upsert_provider(*engine, &config, NULL), "upsert");
}

static void configures(grate_engine **engine, uint64_t lease)
{
    (void)lease;
    must(grate_engine_configure_json(*engine, CHANGED, sizeof CHANGED - 1, NULL), "configure");
}

static void removes(grate_engine **engine, uint64_t lease)
{
    (void)lease;
    must(grate_engine_remove_provider(*engine, "b", NULL), "remove");
}

static void opens(grate_engine **engine, uint64_t lease)
{
    (void)lease;
    *engine = open_engine(NULL);
}

static void leaves(grate_engine **engine, uint64_t lease)
{
    (void)lease;
    grate_engine_free(*engine);
}

static const operation acquiring = {"acquire", is_a_user, acquires};
static const operation completing = {"complete", has_a_lease, completes};
static const operation being_refused = {"complete with a 429", has_a_lease, is_refused};
static const operation cancelling = {"cancel", has_a_lease, cancels};
static const operation observing = {"observe", is_a_user, observes};
static const operation defining = {"upsert_provider", is_a_user, defines};
static const operation configuring = {"configure_json", is_a_user, configures};
static const operation removing = {"remove_provider", is_a_user, removes};
static const operation opening = {"new", is_a_user, opens};
static const operation leaving = {"free", has_a_lease, leaves};

static void make_template(void)
{
    grate_engine *engine = open_engine(JSON);
    struct stat found;
    int i, file;
    for (i = 0; i < 20; i++) {
        grate_response served = response(200);
        must(grate_engine_complete(engine, acquire(engine, i % 2 ? "a" : "b"), &served, NULL), "complete");
        grate_clock_advance_ms(mock, 1);
    }
    grate_engine_free(engine);
    file = open(path, O_RDONLY);
    CHECK(fstat(file, &found) == 0);
    template_size = found.st_size;
    template_file = malloc((size_t)template_size);
    CHECK(read(file, template_file, (size_t)template_size) == template_size);
    close(file);
}

static void restore_template(void)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(write(file, template_file, (size_t)template_size) == template_size);
    close(file);
    grate_clock_set_ns(mock, PASSED);
}

static void count(grate_engine *engine, counts *out)
{
    size_t i, q;
    memset(out, 0, sizeof *out);
    for (i = 0; i < PROVIDERS; i++) {
        grate_quota_state quotas[QUOTAS] = {GRATE_QUOTA_STATE_INIT};
        grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
        state.quotas = quotas;
        state.quotas_capacity = QUOTAS;
        out->providers[i].status = grate_engine_provider_state(engine, names[i], &state, NULL);
        out->providers[i].circuit = state.circuit;
        out->providers[i].in_flight = state.leases_in_flight;
        out->providers[i].selects = state.selects;
        out->providers[i].acquires = state.acquires;
        out->providers[i].completions = state.completions;
        out->providers[i].cancellations = state.cancellations;
        out->providers[i].observations = state.observations;
        out->providers[i].expired = state.expired_leases;
        out->providers[i].refused = state.rate_limited_responses;
        out->providers[i].failures = state.consecutive_failures;
        for (q = 0; q < state.quotas_len; q++) {
            out->providers[i].quotas[q].limit = quotas[q].limit;
            out->providers[i].quotas[q].effective = quotas[q].effective_limit;
            out->providers[i].quotas[q].used = quotas[q].used;
            out->providers[i].quotas[q].remaining = quotas[q].remaining;
        }
    }
}

static void tell(const counts *counts)
{
    size_t i, q;
    for (i = 0; i < PROVIDERS; i++) {
        fprintf(stderr, "  %s: status %d, in flight %" PRIu64 ", acquires %" PRIu64 ", expired %" PRIu64 ":", names[i],
                (int)counts->providers[i].status, counts->providers[i].in_flight, counts->providers[i].acquires,
                counts->providers[i].expired);
        for (q = 0; q < QUOTAS; q++) {
            fprintf(stderr, " %" PRIu64 "+%" PRIu64, counts->providers[i].quotas[q].used,
                    counts->providers[i].quotas[q].remaining);
        }
        fputc('\n', stderr);
    }
}

/* After some time nothing is in flight, and nothing is counted. */
static int nothing_is_left(grate_engine *engine)
{
    grate_metrics metrics = GRATE_METRICS_INIT;
    counts left;
    size_t i, q, wrong = 0;
    for (i = 0; i < 5; i++) {
        grate_clock_advance_ms(mock, 20);
        count(engine, &left);
    }
    wrong += grate_engine_metrics(engine, &metrics, NULL) != GRATE_OK || metrics.leases_in_flight != 0;
    grate_clock_advance_secs(mock, 125);
    count(engine, &left);
    for (i = 0; i < PROVIDERS; i++) {
        for (q = 0; q < QUOTAS; q++) {
            wrong += left.providers[i].quotas[q].used != 0
                     || left.providers[i].quotas[q].remaining != left.providers[i].quotas[q].effective;
        }
    }
    if (wrong > 0) {
        tell(&left);
    }
    return wrong == 0;
}

/* Both providers can be used, if they are there, and the circuit lets requests pass. */
static void use(grate_engine *engine, const counts *now)
{
    grate_response served = response(200);
    size_t i;
    for (i = 0; i < 2; i++) {
        if (now->providers[i].status == GRATE_OK && now->providers[i].circuit == GRATE_CIRCUIT_CLOSED) {
            must(grate_engine_complete(engine, acquire(engine, names[i]), &served, NULL), "complete");
        }
    }
}

/* What is counted after a process was killed at a point of an operation; whether it was. With a survivor, another process has
 * used the file all the time, and holds leases; otherwise nobody has. */
static int killed_at(const operation *op, int survives, trap_kind kind, uint64_t point, counts *found)
{
    grate_engine *engine = NULL;
    uint64_t held[2] = {0, 0}, since;
    grate_response served = response(200);
    pid_t child;
    int how;
    restore_template();
    if (survives) {
        engine = open_engine(NULL);
        held[0] = acquire(engine, "a");
        held[1] = acquire(engine, "b");
    }
    *counted = 0;
    child = fork();
    if (child == 0) {
        uint64_t lease = 0;
        if (!survives && op != &opening) {
            engine = open_engine(NULL);
        }
        if (engine != NULL) {
            op->prepare(&engine, &lease);
        }
        if (point > 0) {
            trap_begin(kind, point);
            op->act(&engine, lease);
            *counted = trap_end();
        }
        kill(getpid(), SIGKILL);
    }
    how = ended(child);
    CHECK_EQ_I32(how, -SIGKILL);
    since = now_ns();
    if (!survives) {
        engine = open_engine(NULL);
    }
    count(engine, found);
    use(engine, found);
    since = now_ns() - since;
    longest = since > longest ? since : longest;
    if (survives) {
        must(grate_engine_complete(engine, held[0], &served, NULL), "complete");
        must(grate_engine_complete(engine, held[1], &served, NULL), "complete");
    }
    if (!CHECK(nothing_is_left(engine))) {
        fprintf(stderr, "killed at point %" PRIu64 "\n", point);
    }
    grate_engine_free(engine);
    /* It was left in order, though a process died. */
    grate_engine_free(open_engine(NULL));
    return *counted == 0;
}

static int same(const counts *a, const counts *b)
{
    return memcmp(a, b, sizeof *b) == 0;
}

/* Kills a process at each `stride`-th point of an operation. */
static void kill_at_all(const operation *op, int survives, trap_kind kind, uint64_t stride)
{
    counts before, after, found;
    uint64_t point, points, were_before = 0, were_after = 0;
    longest = 0;
    killed_at(op, survives, kind, 0, &before);
    CHECK(!killed_at(op, survives, kind, UINT64_MAX, &after));
    points = *counted;
    for (point = 1; killed_at(op, survives, kind, point, &found); point += stride) {
        int is_before = same(&before, &found), is_after = same(&after, &found);
        were_before += is_before;
        were_after += !is_before && is_after;
        if (!CHECK(is_before || is_after)) {
            fprintf(stderr, "%s, killed at point %" PRIu64 " of %" PRIu64 "; before, found, after:\n", op->name, point, points);
            tell(&before);
            tell(&found);
            tell(&after);
            break;
        }
    }
    CHECK(longest <= LONGEST);
    printf("%-20s %5" PRIu64 " %s, killed at each%s%.0" PRIu64 ": %5" PRIu64 " times not happened, %5" PRIu64
           " times happened; %s went on within %.1f ms\n",
           op->name, points, kind == AT_STORES ? "stores" : "instructions", stride > 1 ? " of " : "", stride > 1 ? stride : 0,
           were_before, were_after, survives ? "the survivor" : "the next", (double)longest / 1e6);
}

TEST(between_operations)
{
    counts found;
    CHECK(killed_at(&completing, 1, AT_STORES, 0, &found));
    CHECK_EQ_U64(found.providers[0].in_flight, 2);
    CHECK(killed_at(&completing, 0, AT_STORES, 0, &found));
    CHECK_EQ_U64(found.providers[0].in_flight, 0);
}

#define EACH_STORE(name, op, fewer) \
    TEST(name) \
    { \
        kill_at_all(&op, 1, AT_STORES, is_long ? 1 : fewer); \
        kill_at_all(&op, 0, AT_STORES, is_long ? 1 : fewer); \
    }
EACH_STORE(acquire, acquiring, 1)
EACH_STORE(complete, completing, 1)
EACH_STORE(complete_refused, being_refused, 1)
EACH_STORE(cancel, cancelling, 1)
EACH_STORE(observe, observing, 1)
EACH_STORE(upsert_provider, defining, 7)
EACH_STORE(configure_json, configuring, 7)
EACH_STORE(remove_provider, removing, 7)
EACH_STORE(open, opening, 3)
EACH_STORE(leave, leaving, 1)

TEST(instructions)
{
    static const operation *const each[] = {&acquiring, &completing, &cancelling, &observing};
    size_t i;
    for (i = 0; i < sizeof each / sizeof *each; i++) {
        kill_at_all(each[i], 1, AT_INSTRUCTIONS, is_long ? 1 : 23);
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    is_long = argc > 1 && strcmp(argv[1], "long") == 0;
    alarm(is_long ? 600 : 120);
    path = state_path("steps");
    mock = grate_clock_mock_new(START_MS);
    counted = shared_memory(sizeof *counted);
    make_template();
    RUN(between_operations);
    if (trap_missing() != NULL) {
        printf("skipped: within operations: %s\n0 passed, 0 failed, 1 skipped\n", trap_missing());
        return check_report("shared_steps");
    }
    RUN(acquire);
    RUN(complete);
    RUN(complete_refused);
    RUN(cancel);
    RUN(observe);
    RUN(upsert_provider);
    RUN(configure_json);
    RUN(remove_provider);
    RUN(open);
    RUN(leave);
    RUN(instructions);
    grate_clock_free(mock);
    free(template_file);
    return check_report("shared_steps");
}
