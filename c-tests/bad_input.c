/*
 * Every exported function with everything that a caller can get wrong: a clear code and a message each time, nothing
 * changed, and no byte read or written that is not the caller's to give. The first argument is grate.h: a function that it
 * declares and that is missing here fails the run.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define CANARY 0xA5

/* Sizes of the first version. They never change: a caller that was compiled then has structs of these sizes. */
enum {
    V1_ERROR = 512,
    V1_ENGINE_CONFIG = 128,
    V1_QUOTA_CONFIG = 56,
    V1_PROVIDER_CONFIG = 48,
    V1_CAPABILITY_PROVIDER = 16,
    V1_CAPABILITY_CONFIG = 32,
    V1_REQUEST = 72,
    V1_RESPONSE = 96,
    V1_DECISION = 128,
    V1_CANDIDATE = 88,
    V1_METRICS = 96,
    V1_QUOTA_STATE = 104,
    V1_PROVIDER_STATE = 144,
    V1_HEADER_QUOTA = 40,
    V1_HEADER_REPORT = 48
};

/* Every call of the library goes through USE, which remembers the function. */
static const char *used[128];
static size_t used_len;

static void remember(const char *function)
{
    size_t i = 0;
    while (i < used_len && strcmp(used[i], function) != 0) {
        i++;
    }
    if (i == used_len && used_len < LENGTH(used)) {
        used[used_len++] = function;
    }
}
#define USE(function) (remember(#function), function)

/* ---- The world that no bad call may change ---- */

static grate_clock *clock_;
static grate_engine *engine;
static uint64_t live, settled;

static const char WORLD[] =
    "{\"engine\": {\"lease_ttl_ms\": 1000000}, \"providers\": ["
    " {\"name\": \"a\", \"priority\": 2, \"quotas\": ["
    "  {\"dimension\": \"requests\", \"limit\": 10, \"window\": \"minute\"},"
    "  {\"dimension\": \"tokens\", \"limit\": 1000, \"window\": \"minute\", \"strategy\": \"token_bucket\"},"
    "  {\"dimension\": \"concurrency\", \"limit\": 4, \"pool\": \"org\"}]},"
    " {\"name\": \"b\", \"priority\": 1, \"quotas\": ["
    "  {\"dimension\": \"requests\", \"limit\": 10, \"window\": \"day\", \"strategy\": \"fixed_window\"}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"a\"}, {\"provider\": \"b\"}]}]}";

typedef struct {
    char metrics[65536];
    grate_provider_state states[2];
    grate_quota_state quotas[2][4];
    grate_metrics counters;
    uint64_t now;
} snapshot;

static void look(snapshot *s)
{
    static grate_quota_state rows[4];
    static const char *const names[2] = {"a", "b"};
    uint64_t len = 0;
    size_t i;
    memset(s, 0, sizeof *s);
    CHECK_EQ_I32(USE(grate_engine_prometheus)(engine, s->metrics, sizeof s->metrics, &len, NULL), GRATE_OK);
    for (i = 0; i < 2; i++) {
        grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
        memset(rows, 0, sizeof rows);
        rows[0].struct_size = sizeof rows[0];
        state.quotas = rows;
        state.quotas_capacity = LENGTH(rows);
        CHECK_EQ_I32(USE(grate_engine_provider_state)(engine, names[i], &state, NULL), GRATE_OK);
        s->states[i] = state;
        memcpy(s->quotas[i], rows, sizeof rows);
    }
    s->counters.struct_size = sizeof s->counters;
    CHECK_EQ_I32(USE(grate_engine_metrics)(engine, &s->counters, NULL), GRATE_OK);
    s->now = USE(grate_clock_now_ns)(clock_);
}

static void begin(void)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    clock_ = USE(grate_clock_mock_new)(1767225600000u);
    config.clock = clock_;
    CHECK_EQ_I32(USE(grate_engine_new)(&config, &engine, NULL), GRATE_OK);
    CHECK_EQ_I32(USE(grate_engine_configure_json)(engine, WORLD, sizeof WORLD - 1, NULL), GRATE_OK);
    CHECK_EQ_I32(USE(grate_engine_acquire)(engine, "api", NULL, &decision, NULL), GRATE_OK);
    settled = decision.lease;
    USE(grate_clock_advance_ms)(clock_, 100);
    response.outcome = GRATE_OUTCOME_RATE_LIMITED;
    CHECK_EQ_I32(USE(grate_engine_complete)(engine, settled, &response, NULL), GRATE_OK);
    CHECK_EQ_I32(USE(grate_engine_acquire)(engine, "api", NULL, &decision, NULL), GRATE_OK);
    live = decision.lease;
}

/* What was there before still works. */
static void end(void)
{
    grate_response response = GRATE_RESPONSE_INIT;
    grate_metrics metrics = GRATE_METRICS_INIT;
    response.outcome = GRATE_OUTCOME_SUCCESS;
    CHECK_EQ_I32(USE(grate_engine_complete)(engine, live, &response, NULL), GRATE_OK);
    CHECK_EQ_I32(USE(grate_engine_metrics)(engine, &metrics, NULL), GRATE_OK);
    CHECK_EQ_U64(metrics.leases_in_flight, 0);
    CHECK_EQ_U64(metrics.completions, 2);
    USE(grate_engine_free)(engine);
    USE(grate_clock_free)(clock_);
}

static snapshot before, after;

static void refused(int line, const char *call, int32_t want, int32_t other, int32_t got, const grate_error *err)
{
    if (got != want && got != other) {
        check_fail(__FILE__, line, "%s: expected %s, got %s", call, grate_status_name(want), grate_status_name(got));
    }
    if (err != NULL && (err->code != got || err->message[0] == '\0')) {
        check_fail(__FILE__, line, "%s: the error has code %d and the message '%s'", call, (int)err->code, err->message);
    }
    look(&after);
    if (memcmp(&before, &after, sizeof before) != 0) {
        check_fail(__FILE__, line, "%s: it changed the engine", call);
    }
}

/* A call, which names its error `e`, is refused with and without an error struct, and changes nothing. */
#define REFUSED_EITHER(want, other, call)                                          \
    do {                                                                           \
        grate_error error_ = GRATE_ERROR_INIT, *e = &error_;                       \
        int32_t got_;                                                              \
        look(&before);                                                             \
        got_ = (call);                                                             \
        refused(__LINE__, #call, (want), (other), got_, &error_);                  \
        e = NULL;                                                                  \
        got_ = (call);                                                             \
        refused(__LINE__, #call, (want), (other), got_, NULL);                     \
    } while (0)
#define REFUSED(want, call) REFUSED_EITHER(want, want, call)

/* ---- Memory with a fence behind it ---- */

static unsigned char *fence; /* the first byte that cannot be touched */

static void make_fence(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + page, page, PROT_NONE) != 0) {
        perror("mmap");
        exit(1);
    }
    fence = memory + page;
}

static void remove_fence(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(fence - page, 2 * page);
}

/* The bytes, ending at the fence. */
static void *at_fence(const void *bytes, size_t len)
{
    return memcpy(fence - len, bytes, len);
}

/* ---- Names ---- */

typedef grate_status (*by_name)(const char *name, grate_error *e);

static grate_status upsert_provider(const char *name, grate_error *e)
{
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;
    config.name = name;
    return USE(grate_engine_upsert_provider)(engine, &config, e);
}

static grate_status upsert_pool(const char *name, grate_error *e)
{
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;
    grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
    quota.dimension = GRATE_DIMENSION_REQUESTS;
    quota.limit = 1;
    quota.window_ns = GRATE_WINDOW_SECOND;
    quota.pool = name;
    config.name = "c";
    config.quotas = &quota;
    config.quotas_len = 1;
    return USE(grate_engine_upsert_provider)(engine, &config, e);
}

static grate_status upsert_capability(const char *name, grate_error *e)
{
    grate_capability_config config = GRATE_CAPABILITY_CONFIG_INIT;
    config.name = name;
    return USE(grate_engine_upsert_capability)(engine, &config, e);
}

static grate_status list_provider(const char *name, grate_error *e)
{
    grate_capability_config config = GRATE_CAPABILITY_CONFIG_INIT;
    grate_capability_provider list[2] = {GRATE_CAPABILITY_PROVIDER_INIT, GRATE_CAPABILITY_PROVIDER_INIT};
    config.name = "api";
    config.providers = list;
    config.providers_len = 2;
    list[0].provider = "b";
    list[1].provider = name;
    return USE(grate_engine_upsert_capability)(engine, &config, e);
}

static grate_status remove_provider(const char *name, grate_error *e)
{
    return USE(grate_engine_remove_provider)(engine, name, e);
}

static grate_status remove_capability(const char *name, grate_error *e)
{
    return USE(grate_engine_remove_capability)(engine, name, e);
}

static grate_status select_(const char *name, grate_error *e)
{
    grate_decision decision = GRATE_DECISION_INIT;
    return USE(grate_engine_select)(engine, name, NULL, &decision, e);
}

static grate_status acquire(const char *name, grate_error *e)
{
    grate_decision decision = GRATE_DECISION_INIT;
    return USE(grate_engine_acquire)(engine, name, NULL, &decision, e);
}

static grate_status exclude(const char *name, grate_error *e)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_request request = GRATE_REQUEST_INIT;
    const char *names[2];
    names[0] = "a";
    names[1] = name;
    request.exclude = names;
    request.exclude_len = 2;
    return USE(grate_engine_select)(engine, "api", &request, &decision, e);
}

static grate_status observe(const char *name, grate_error *e)
{
    grate_response response = GRATE_RESPONSE_INIT;
    response.outcome = GRATE_OUTCOME_RATE_LIMITED;
    return USE(grate_engine_observe)(engine, name, &response, e);
}

static grate_status provider_health(const char *name, grate_error *e)
{
    double out;
    return USE(grate_engine_provider_health)(engine, name, &out, e);
}

static grate_status provider_in_cooldown(const char *name, grate_error *e)
{
    int32_t out;
    return USE(grate_engine_provider_in_cooldown)(engine, name, &out, e);
}

static grate_status remaining_quota(const char *name, grate_error *e)
{
    uint64_t out;
    return USE(grate_engine_remaining_quota)(engine, name, GRATE_DIMENSION_REQUESTS, &out, e);
}

static grate_status provider_state(const char *name, grate_error *e)
{
    grate_provider_state out = GRATE_PROVIDER_STATE_INIT;
    return USE(grate_engine_provider_state)(engine, name, &out, e);
}

static const struct {
    by_name call;
    int32_t unknown; /* what a well-formed name that nobody has gives; GRATE_OK where it would be registered */
    int null_is_none;
} NAMED[] = {
    {upsert_provider, GRATE_OK, 0},
    {upsert_pool, GRATE_OK, 1},
    {upsert_capability, GRATE_OK, 0},
    {list_provider, GRATE_ERR_UNKNOWN_PROVIDER, 0},
    {remove_provider, GRATE_ERR_UNKNOWN_PROVIDER, 0},
    {remove_capability, GRATE_ERR_UNKNOWN_CAPABILITY, 0},
    {select_, GRATE_ERR_UNKNOWN_CAPABILITY, 0},
    {acquire, GRATE_ERR_UNKNOWN_CAPABILITY, 0},
    {observe, GRATE_ERR_UNKNOWN_PROVIDER, 0},
    {provider_health, GRATE_ERR_UNKNOWN_PROVIDER, 0},
    {provider_in_cooldown, GRATE_ERR_UNKNOWN_PROVIDER, 0},
    {remaining_quota, GRATE_ERR_UNKNOWN_PROVIDER, 0},
    {provider_state, GRATE_ERR_UNKNOWN_PROVIDER, 0},
};

static const char *const NOT_UTF8[] = {
    "\xff", "\x80", "\xc0\x80" /* NUL, too long */, "\xe2\x82" /* cut off */, "a\xc3", "\xed\xa0\x80" /* a surrogate */,
    "\xf4\x90\x80\x80" /* beyond U+10FFFF */, "\xe0\x80\xaf" /* a slash, too long */,
};
static const char *const NO_NAMES[] = {"", "\x01", "a\nb", "a\tb", "\x7f", "a\xc2\x85", "\x1b[31m"};

TEST(names)
{
    char long_name[130];
    size_t i, k;
    begin();
    for (i = 0; i < LENGTH(NAMED); i++) {
        by_name call = NAMED[i].call;
        int32_t unknown = NAMED[i].unknown;
        if (!NAMED[i].null_is_none) {
            REFUSED(GRATE_ERR_NULL_POINTER, call(NULL, e));
        }
        for (k = 0; k < LENGTH(NOT_UTF8); k++) {
            REFUSED(GRATE_ERR_INVALID_NAME, call(NOT_UTF8[k], e));
        }
        /* A name that nobody can have need not be told apart from one that nobody has. */
        for (k = 0; k < LENGTH(NO_NAMES); k++) {
            REFUSED_EITHER(GRATE_ERR_INVALID_NAME, unknown != GRATE_OK ? unknown : GRATE_ERR_INVALID_NAME,
                           call(NO_NAMES[k], e));
        }
        memset(long_name, 'x', sizeof long_name);
        long_name[129] = '\0';
        REFUSED(GRATE_ERR_INVALID_NAME, call(long_name, e));
        /* 129 bytes without an end: none after them is touched. */
        REFUSED(GRATE_ERR_INVALID_NAME, call(at_fence(long_name, 129), e));
        long_name[128] = '\0';
        if (unknown != GRATE_OK) {
            REFUSED(unknown, call(long_name, e));
            REFUSED(unknown, call(at_fence(long_name, 129), e));
            REFUSED(unknown, call(at_fence("nope", 5), e));
            REFUSED(unknown, call("\xc3\xa9", e));
        }
    }
    end();
}

TEST(names_in_exclude)
{
    char long_name[130];
    size_t k;
    grate_error err = GRATE_ERROR_INIT;
    begin();
    REFUSED(GRATE_ERR_NULL_POINTER, exclude(NULL, e));
    for (k = 0; k < LENGTH(NOT_UTF8); k++) {
        REFUSED(GRATE_ERR_INVALID_NAME, exclude(NOT_UTF8[k], e));
    }
    memset(long_name, 'x', sizeof long_name);
    REFUSED(GRATE_ERR_INVALID_NAME, exclude(at_fence(long_name, 129), e));
    CHECK_EQ_I32(exclude(at_fence("nope", 5), &err), GRATE_OK);
    CHECK_STR(err.message, "");
    end();
}

TEST(names_of_full_length)
{
    char name[129];
    grate_error err = GRATE_ERROR_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    int i;
    begin();
    for (i = 0; i < 64; i++) {
        memcpy(name + 2 * i, "\xc3\xa9", 2);
    }
    name[128] = '\0';
    CHECK_EQ_I32(upsert_provider(at_fence(name, 129), &err), GRATE_OK);
    CHECK_EQ_I32(list_provider(name, &err), GRATE_OK);
    CHECK_EQ_I32(upsert_pool(name, &err), GRATE_OK);
    CHECK_EQ_I32(upsert_capability(name, &err), GRATE_OK);
    CHECK_EQ_I32(grate_engine_select(engine, "api", NULL, &decision, &err), GRATE_OK);
    CHECK_EQ_I32(select_(name, &err), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK_EQ_I32(observe(name, &err), GRATE_OK);
    /* The message names it, and is cut at the end of its buffer if need be. */
    name[0] = 'x';
    name[1] = 'y';
    CHECK_EQ_I32(observe(name, &err), GRATE_ERR_UNKNOWN_PROVIDER);
    CHECK(strlen(err.message) < sizeof err.message);
    end();
}

/* ---- NULL ---- */

static uint64_t some_time(void *user_data)
{
    uint64_t *calls = user_data;
    return ++*calls;
}

TEST(null_pointers)
{
    grate_engine *made = NULL;
    grate_clock *clock = NULL;
    grate_engine_config engine_config = GRATE_ENGINE_CONFIG_INIT;
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    grate_request request = GRATE_REQUEST_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_metrics metrics = GRATE_METRICS_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    char buffer[8] = "";
    uint64_t n = 0;
    int32_t i = 0;
    double d = 0;
    begin();
    provider.name = "c";
    capability.name = "c";
    response.outcome = GRATE_OUTCOME_SUCCESS;

    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_new)(&engine_config, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_new)(NULL, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_upsert_provider)(NULL, &provider, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_upsert_provider)(engine, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_upsert_capability)(NULL, &capability, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_upsert_capability)(engine, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_remove_provider)(NULL, "a", e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_remove_capability)(NULL, "api", e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_configure_json)(NULL, "{}", 2, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_configure_json)(engine, NULL, 2, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_configure_json)(engine, NULL, 0, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_select)(NULL, "api", &request, &decision, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_select)(engine, NULL, &request, &decision, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_select)(engine, "api", &request, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_acquire)(NULL, "api", NULL, &decision, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_acquire)(engine, NULL, NULL, &decision, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_acquire)(engine, "api", NULL, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_complete)(NULL, live, &response, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_complete)(engine, live, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_cancel)(NULL, live, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_observe)(NULL, "a", &response, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_observe)(engine, NULL, &response, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_observe)(engine, "a", NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_provider_health)(NULL, "a", &d, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_provider_health)(engine, "a", NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_provider_in_cooldown)(NULL, "a", &i, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_provider_in_cooldown)(engine, "a", NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_remaining_quota)(NULL, "a", 1, &n, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_remaining_quota)(engine, "a", 1, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_provider_state)(NULL, "a", &state, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_provider_state)(engine, "a", NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_metrics)(NULL, &metrics, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_metrics)(engine, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_prometheus)(NULL, buffer, sizeof buffer, &n, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_prometheus)(engine, buffer, sizeof buffer, NULL, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_engine_prometheus)(engine, NULL, 1, &n, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_clock_callback_new)(NULL, some_time, &n, &clock, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_clock_callback_new)(some_time, NULL, &n, &clock, e));
    REFUSED(GRATE_ERR_NULL_POINTER, USE(grate_clock_callback_new)(some_time, some_time, &n, NULL, e));
    CHECK(clock == NULL);

    /* All of them at once. */
    CHECK_EQ_I32(grate_engine_new(NULL, NULL, NULL), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(grate_engine_select(NULL, NULL, NULL, NULL, NULL), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(grate_engine_acquire(NULL, NULL, NULL, NULL, NULL), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(grate_engine_complete(NULL, 0, NULL, NULL), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(grate_engine_observe(NULL, NULL, NULL, NULL), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(grate_engine_configure_json(NULL, NULL, 0, NULL), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(grate_engine_prometheus(NULL, NULL, 0, NULL, NULL), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(grate_clock_callback_new(NULL, NULL, NULL, NULL, NULL), GRATE_ERR_NULL_POINTER);

    CHECK_EQ_I32(USE(grate_clock_advance_ms)(NULL, 1), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(USE(grate_clock_advance_secs)(NULL, 1), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_I32(USE(grate_clock_set_ns)(NULL, 1), GRATE_ERR_NULL_POINTER);
    CHECK_EQ_U64(USE(grate_clock_now_ns)(NULL), 0);

    /* And where NULL is allowed. */
    USE(grate_clock_free)(NULL);
    USE(grate_engine_free)(NULL);
    CHECK_EQ_I32(USE(grate_engine_new)(NULL, &made, NULL), GRATE_OK);
    CHECK(made != NULL);
    grate_engine_free(made);
    CHECK_EQ_I32(upsert_pool(NULL, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_prometheus(engine, NULL, 0, &n, NULL), GRATE_ERR_BUFFER_TOO_SMALL);
    CHECK(n > 0);
    end();
}

/* ---- struct_size ---- */

typedef union {
    uint32_t struct_size;
    uint64_t align;
    unsigned char bytes[8192];
} room;

typedef grate_status (*with_struct)(void *at, grate_error *e);

static grate_status new_with(void *at, grate_error *e)
{
    grate_engine *made = NULL;
    grate_status status = grate_engine_new(at, &made, e);
    CHECK((made != NULL) == (status == GRATE_OK));
    grate_engine_free(made);
    return status;
}

static grate_status provider_with(void *at, grate_error *e)
{
    return grate_engine_upsert_provider(engine, at, e);
}

static grate_status quota_with(void *at, grate_error *e)
{
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;
    config.name = "new";
    config.quotas = at;
    config.quotas_len = 1;
    return grate_engine_upsert_provider(engine, &config, e);
}

static grate_status capability_with(void *at, grate_error *e)
{
    return grate_engine_upsert_capability(engine, at, e);
}

static grate_status listed_with(void *at, grate_error *e)
{
    grate_capability_config config = GRATE_CAPABILITY_CONFIG_INIT;
    config.name = "new";
    config.providers = at;
    config.providers_len = 1;
    return grate_engine_upsert_capability(engine, &config, e);
}

static grate_status select_with(void *at, grate_error *e)
{
    grate_decision decision = GRATE_DECISION_INIT;
    return grate_engine_select(engine, "api", at, &decision, e);
}

static grate_status acquire_with(void *at, grate_error *e)
{
    grate_decision decision = GRATE_DECISION_INIT;
    return grate_engine_acquire(engine, "api", at, &decision, e);
}

static grate_status observe_with(void *at, grate_error *e)
{
    return grate_engine_observe(engine, "b", at, e);
}

static grate_status complete_with(void *at, grate_error *e)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_status status;
    /* The lease in flight of the world is for the bad ones; a good one settles its own. */
    if (((grate_response *)at)->struct_size == V1_RESPONSE) {
        CHECK_EQ_I32(grate_engine_acquire(engine, "api", NULL, &decision, NULL), GRATE_OK);
        return grate_engine_complete(engine, decision.lease, at, e);
    }
    status = grate_engine_complete(engine, live, at, e);
    if (status == GRATE_OK) {
        CHECK_EQ_I32(grate_engine_acquire(engine, "api", NULL, &decision, NULL), GRATE_OK);
        live = decision.lease;
    }
    return status;
}

static grate_status select_into(void *at, grate_error *e)
{
    return grate_engine_select(engine, "api", NULL, at, e);
}

static grate_status acquire_into(void *at, grate_error *e)
{
    grate_status status = grate_engine_acquire(engine, "api", NULL, at, e);
    if (status == GRATE_OK) {
        CHECK_EQ_I32(grate_engine_cancel(engine, ((grate_decision *)at)->lease, NULL), GRATE_OK);
    }
    return status;
}

static grate_status candidates_into(void *at, grate_error *e)
{
    grate_decision decision = GRATE_DECISION_INIT;
    decision.candidates = at;
    decision.candidates_capacity = 1;
    return grate_engine_select(engine, "api", NULL, &decision, e);
}

static grate_status metrics_into(void *at, grate_error *e)
{
    return grate_engine_metrics(engine, at, e);
}

static grate_status state_into(void *at, grate_error *e)
{
    return grate_engine_provider_state(engine, "a", at, e);
}

static grate_status quota_states_into(void *at, grate_error *e)
{
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    state.quotas = at;
    state.quotas_capacity = 1;
    return grate_engine_provider_state(engine, "a", &state, e);
}

static grate_header limit_header(void)
{
    static const char name[] = "x-ratelimit-limit-requests";
    grate_header field;
    field.name = name;
    field.name_len = sizeof name - 1;
    field.value = "100";
    field.value_len = 3;
    return field;
}

static grate_status report_into(void *at, grate_error *e)
{
    grate_header field = limit_header();
    return USE(grate_parse_headers)(&field, 1, 0, at, e);
}

static grate_status header_quotas_into(void *at, grate_error *e)
{
    grate_header field = limit_header();
    grate_header_report report = GRATE_HEADER_REPORT_INIT;
    report.quotas = at;
    report.quotas_capacity = 1;
    return grate_parse_headers(&field, 1, 0, &report, e);
}

static const uint32_t WRONG_SIZES[] = {0, 3, 4, 0x7FFFFFFF, 0xFFFFFFFF};

/* Of the first version, and of this one. */
#define INPUT_SIZES(call, good, v1) input_sizes(call, good, v1, sizeof *(good))

static void input_sizes(with_struct call, const void *good, uint32_t v1, uint32_t known)
{
    room r;
    grate_error err = GRATE_ERROR_INIT;
    size_t i;
    memset(&r, 0, sizeof r);
    memcpy(&r, good, v1);
    for (i = 0; i < LENGTH(WRONG_SIZES); i++) {
        r.struct_size = WRONG_SIZES[i];
        REFUSED(GRATE_ERR_STRUCT_SIZE, call(&r, e));
    }
    r.struct_size = v1 - 1;
    REFUSED(GRATE_ERR_STRUCT_SIZE, call(&r, e));
    /* From a newer header: a field that is used and not known. */
    for (i = known; i < known + 24; i += 23) {
        r.struct_size = known + 24;
        r.bytes[i] = 1;
        REFUSED(GRATE_ERR_STRUCT_SIZE, call(&r, e));
        r.bytes[i] = 0;
    }
    /* The same with none used, and this header's own. */
    CHECK_EQ_I32(call(&r, &err), GRATE_OK);
    r.struct_size = v1;
    CHECK_EQ_I32(call(&r, &err), GRATE_OK);
    CHECK_STR(err.message, "");
    /* What follows the struct is not read. */
    CHECK_EQ_I32(call(at_fence(&r, v1), &err), GRATE_OK);
}

static void output_sizes(with_struct call, uint32_t v1)
{
    room r;
    grate_error err = GRATE_ERROR_INIT;
    size_t i;
    memset(&r, 0, sizeof r);
    for (i = 0; i < LENGTH(WRONG_SIZES); i++) {
        r.struct_size = WRONG_SIZES[i];
        REFUSED(GRATE_ERR_STRUCT_SIZE, call(&r, e));
    }
    r.struct_size = v1 - 1;
    REFUSED(GRATE_ERR_STRUCT_SIZE, call(&r, e));

    /* A caller of the first version: not a byte more is written. */
    memset(&r, CANARY, sizeof r);
    memset(&r, 0, v1);
    r.struct_size = v1;
    CHECK_EQ_I32(call(&r, &err), GRATE_OK);
    CHECK_EQ_U64(r.struct_size, v1);
    for (i = v1; i < sizeof r; i++) {
        if (r.bytes[i] != CANARY) {
            check_fail(__FILE__, __LINE__, "byte %d was written behind a struct of %d bytes", (int)i, (int)v1);
            break;
        }
    }
    memset(fence - v1, 0, v1);
    memcpy(fence - v1, &v1, sizeof v1);
    CHECK_EQ_I32(call(fence - v1, &err), GRATE_OK);

    /* A caller with a newer header: what this library does not know is "not given". */
    memset(&r, CANARY, sizeof r);
    memset(&r, 0, v1);
    r.struct_size = v1 + 16;
    CHECK_EQ_I32(call(&r, &err), GRATE_OK);
    CHECK_EQ_U64(r.struct_size, v1 + 16);
    for (i = v1; i < v1 + 17; i++) {
        if (r.bytes[i] != (i < v1 + 16 ? 0 : CANARY)) {
            check_fail(__FILE__, __LINE__, "byte %d of a struct of %d bytes is %d", (int)i, (int)v1 + 16, r.bytes[i]);
        }
    }
}

TEST(sizes)
{
    CHECK(sizeof(grate_error) >= V1_ERROR);
    CHECK(sizeof(grate_engine_config) >= V1_ENGINE_CONFIG);
    CHECK(sizeof(grate_quota_config) >= V1_QUOTA_CONFIG);
    CHECK(sizeof(grate_provider_config) >= V1_PROVIDER_CONFIG);
    CHECK(sizeof(grate_capability_provider) >= V1_CAPABILITY_PROVIDER);
    CHECK(sizeof(grate_capability_config) >= V1_CAPABILITY_CONFIG);
    CHECK(sizeof(grate_request) >= V1_REQUEST);
    CHECK(sizeof(grate_response) >= V1_RESPONSE);
    CHECK(sizeof(grate_decision) >= V1_DECISION);
    CHECK(sizeof(grate_candidate) >= V1_CANDIDATE);
    CHECK(sizeof(grate_metrics) >= V1_METRICS);
    CHECK(sizeof(grate_quota_state) >= V1_QUOTA_STATE);
    CHECK(sizeof(grate_provider_state) >= V1_PROVIDER_STATE);
    CHECK(sizeof(grate_header_quota) >= V1_HEADER_QUOTA);
    CHECK(sizeof(grate_header_report) >= V1_HEADER_REPORT);
}

TEST(input_structs)
{
    grate_engine_config engine_config = GRATE_ENGINE_CONFIG_INIT;
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    grate_capability_provider listed = GRATE_CAPABILITY_PROVIDER_INIT;
    grate_request request = GRATE_REQUEST_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    grate_error err = GRATE_ERROR_INIT;
    begin();
    provider.name = "new";
    quota.dimension = GRATE_DIMENSION_BYTES;
    quota.window_ns = GRATE_WINDOW_HOUR;
    capability.name = "new";
    listed.provider = "a";
    response.outcome = GRATE_OUTCOME_SUCCESS;
    INPUT_SIZES(new_with, &engine_config, V1_ENGINE_CONFIG);
    INPUT_SIZES(provider_with, &provider, V1_PROVIDER_CONFIG);
    INPUT_SIZES(quota_with, &quota, V1_QUOTA_CONFIG);
    INPUT_SIZES(capability_with, &capability, V1_CAPABILITY_CONFIG);
    INPUT_SIZES(listed_with, &listed, V1_CAPABILITY_PROVIDER);
    INPUT_SIZES(select_with, &request, V1_REQUEST);
    INPUT_SIZES(acquire_with, &request, V1_REQUEST);
    INPUT_SIZES(observe_with, &response, V1_RESPONSE);

    /* A request that was refused for its size, then an error struct of a wrong one: nothing is done either. */
    look(&before);
    err.struct_size = V1_ERROR - 1;
    CHECK_EQ_I32(grate_engine_observe(engine, "a", &response, &err), GRATE_ERR_STRUCT_SIZE);
    err.struct_size = 0;
    CHECK_EQ_I32(grate_engine_acquire(engine, "api", &request, &(grate_decision){.struct_size = V1_DECISION}, &err),
                 GRATE_ERR_STRUCT_SIZE);
    look(&after);
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    grate_engine_free(engine);
    grate_clock_free(clock_);

    begin();
    INPUT_SIZES(complete_with, &response, V1_RESPONSE);
    grate_engine_free(engine);
    grate_clock_free(clock_);
}

TEST(output_structs)
{
    begin();
    output_sizes(select_into, V1_DECISION);
    output_sizes(acquire_into, V1_DECISION);
    output_sizes(candidates_into, V1_CANDIDATE);
    output_sizes(metrics_into, V1_METRICS);
    output_sizes(state_into, V1_PROVIDER_STATE);
    output_sizes(quota_states_into, V1_QUOTA_STATE);
    output_sizes(report_into, V1_HEADER_REPORT);
    output_sizes(header_quotas_into, V1_HEADER_QUOTA);
    end();
}

TEST(error_structs)
{
    room r;
    size_t i;
    begin();
    for (i = 0; i < LENGTH(WRONG_SIZES); i++) {
        memset(&r, 0, sizeof r);
        r.struct_size = WRONG_SIZES[i];
        look(&before);
        CHECK_EQ_I32(remove_provider("a", (grate_error *)&r), GRATE_ERR_STRUCT_SIZE);
        look(&after);
        CHECK(memcmp(&before, &after, sizeof before) == 0);
    }
    memset(&r, CANARY, sizeof r);
    r.struct_size = V1_ERROR;
    CHECK_EQ_I32(remove_provider("nope", (grate_error *)&r), GRATE_ERR_UNKNOWN_PROVIDER);
    CHECK_EQ_I32(((grate_error *)&r)->code, GRATE_ERR_UNKNOWN_PROVIDER);
    for (i = V1_ERROR; i < sizeof r; i++) {
        if (r.bytes[i] != CANARY) {
            check_fail(__FILE__, __LINE__, "byte %d was written behind the error", (int)i);
            break;
        }
    }
    /* A success clears it. */
    CHECK_EQ_I32(provider_health("a", (grate_error *)&r), GRATE_OK);
    CHECK_EQ_I32(((grate_error *)&r)->code, GRATE_OK);
    CHECK_STR(((grate_error *)&r)->message, "");
    end();
}

/* Arrays step by the size of their first element, whatever this header says. */
TEST(arrays_of_larger_structs)
{
    enum { STEP_QUOTA = V1_QUOTA_CONFIG + 24, STEP_LISTED = V1_CAPABILITY_PROVIDER + 8, STEP_ROW = V1_CANDIDATE + 8,
           STEP_STATE = V1_QUOTA_STATE + 40 };
    room r;
    grate_quota_config *quota;
    grate_capability_provider *listed;
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_error err = GRATE_ERROR_INIT;
    uint64_t remaining = 0;
    int i;
    begin();

    memset(&r, 0, sizeof r);
    for (i = 0; i < 3; i++) {
        quota = (grate_quota_config *)(void *)(r.bytes + i * STEP_QUOTA);
        quota->struct_size = STEP_QUOTA;
        quota->dimension = i == 0 ? GRATE_DIMENSION_REQUESTS : i == 1 ? GRATE_DIMENSION_TOKENS : GRATE_DIMENSION_BYTES;
        quota->limit = (uint64_t)i + 7;
        quota->window_ns = GRATE_WINDOW_MINUTE;
    }
    provider.name = "wide";
    provider.quotas = (grate_quota_config *)(void *)r.bytes;
    provider.quotas_len = 3;
    CHECK_EQ_I32(grate_engine_upsert_provider(engine, &provider, &err), GRATE_OK);
    CHECK_EQ_I32(grate_engine_remaining_quota(engine, "wide", GRATE_DIMENSION_TOKENS, &remaining, &err), GRATE_OK);
    CHECK_EQ_U64(remaining, 8);
    CHECK_EQ_I32(grate_engine_remaining_quota(engine, "wide", GRATE_DIMENSION_BYTES, &remaining, &err), GRATE_OK);
    CHECK_EQ_U64(remaining, 9);

    provider.name = "c";
    r.bytes[2 * STEP_QUOTA + V1_QUOTA_CONFIG] = 1;
    REFUSED(GRATE_ERR_STRUCT_SIZE, grate_engine_upsert_provider(engine, &provider, e));
    r.bytes[2 * STEP_QUOTA + V1_QUOTA_CONFIG] = 0;
    ((grate_quota_config *)(void *)(r.bytes + STEP_QUOTA))->struct_size = V1_QUOTA_CONFIG;
    REFUSED(GRATE_ERR_STRUCT_SIZE, grate_engine_upsert_provider(engine, &provider, e));

    memset(&r, 0, sizeof r);
    for (i = 0; i < 3; i++) {
        listed = (grate_capability_provider *)(void *)(r.bytes + i * STEP_LISTED);
        listed->struct_size = STEP_LISTED;
        listed->priority = (uint32_t)i + 1;
        listed->provider = i == 0 ? "a" : i == 1 ? "b" : "wide";
    }
    capability.name = "wide";
    capability.providers = (grate_capability_provider *)(void *)r.bytes;
    capability.providers_len = 3;
    CHECK_EQ_I32(grate_engine_upsert_capability(engine, &capability, &err), GRATE_OK);

    /* Rows that are larger than this library's, with room for two of the three: the best two. */
    memset(&r, CANARY, sizeof r);
    r.struct_size = STEP_ROW;
    decision.candidates = (grate_candidate *)(void *)r.bytes;
    decision.candidates_capacity = 2;
    CHECK_EQ_I32(grate_engine_select(engine, "wide", NULL, &decision, &err), GRATE_OK);
    CHECK_EQ_U64(decision.candidates_len, 2);
    CHECK_EQ_U64(decision.candidates_total, 3);
    CHECK_STR(((grate_candidate *)(void *)r.bytes)->provider, "wide");
    CHECK_STR(decision.provider, "wide");
    CHECK_STR(((grate_candidate *)(void *)(r.bytes + STEP_ROW))->provider, "b");
    CHECK_EQ_U64(((grate_candidate *)(void *)(r.bytes + STEP_ROW))->struct_size, STEP_ROW);
    CHECK_EQ_I32(r.bytes[V1_CANDIDATE], 0);
    CHECK_EQ_I32(r.bytes[2 * STEP_ROW - 1], 0);
    CHECK_EQ_I32(r.bytes[2 * STEP_ROW], CANARY);

    memset(&r, CANARY, sizeof r);
    r.struct_size = STEP_STATE;
    state.quotas = (grate_quota_state *)(void *)r.bytes;
    state.quotas_capacity = 2;
    CHECK_EQ_I32(grate_engine_provider_state(engine, "wide", &state, &err), GRATE_OK);
    CHECK_EQ_U64(state.quotas_len, 2);
    CHECK_EQ_U64(state.quotas_total, 3);
    CHECK_EQ_U64(((grate_quota_state *)(void *)(r.bytes + STEP_STATE))->struct_size, STEP_STATE);
    CHECK_EQ_U64(((grate_quota_state *)(void *)r.bytes)->limit +
                     ((grate_quota_state *)(void *)(r.bytes + STEP_STATE))->limit >= 15, 1);
    CHECK_EQ_I32(r.bytes[V1_QUOTA_STATE], 0);
    CHECK_EQ_I32(r.bytes[2 * STEP_STATE], CANARY);

    /* No array, or no room in it, is no array. */
    decision.candidates_capacity = 0;
    CHECK_EQ_I32(grate_engine_select(engine, "wide", NULL, &decision, &err), GRATE_OK);
    CHECK_EQ_U64(decision.candidates_len, 0);
    CHECK_EQ_U64(decision.candidates_total, 3);
    decision.candidates = NULL;
    decision.candidates_capacity = 5;
    CHECK_EQ_I32(grate_engine_select(engine, "wide", NULL, &decision, &err), GRATE_OK);
    CHECK_EQ_U64(decision.candidates_len, 0);
    end();
}

/* ---- The _init functions ---- */

#define INITIALISER(type)                              \
    static void init_##type(void *at, uint32_t size)   \
    {                                                  \
        USE(grate_##type##_init)(at, size);            \
    }
INITIALISER(error)
INITIALISER(engine_config)
INITIALISER(quota_config)
INITIALISER(provider_config)
INITIALISER(capability_provider)
INITIALISER(capability_config)
INITIALISER(request)
INITIALISER(response)
INITIALISER(decision)
INITIALISER(candidate)
INITIALISER(metrics)
INITIALISER(quota_state)
INITIALISER(provider_state)
INITIALISER(header_quota)
INITIALISER(header_report)
#define INIT(type, v1) check_init(init_##type, sizeof(grate_##type), v1, #type)

static void check_init(void (*init)(void *, uint32_t), size_t size, uint32_t v1, const char *type)
{
    const uint32_t sizes[] = {(uint32_t)size, v1, v1 + 32, 4};
    room r;
    size_t i, k;
    init(NULL, (uint32_t)size);
    init(NULL, 0);
    for (i = 0; i < LENGTH(sizes); i++) {
        memset(&r, CANARY, sizeof r);
        init(&r, sizes[i]);
        for (k = 4; k < sizeof r; k++) {
            if (r.bytes[k] != (k < sizes[i] ? 0 : CANARY)) {
                check_fail(__FILE__, __LINE__, "%s_init(%d): byte %d is %d", type, (int)sizes[i], (int)k, r.bytes[k]);
                break;
            }
        }
        CHECK_EQ_U64(r.struct_size, sizes[i]);
    }
    /* Too small for the size itself: what follows is not touched. */
    for (i = 0; i < 4; i++) {
        memset(&r, CANARY, sizeof r);
        init(&r, (uint32_t)i);
        CHECK_EQ_I32(r.bytes[i], CANARY);
        CHECK_EQ_I32(r.bytes[4], CANARY);
    }
}

TEST(init_functions)
{
    INIT(error, V1_ERROR);
    INIT(engine_config, V1_ENGINE_CONFIG);
    INIT(quota_config, V1_QUOTA_CONFIG);
    INIT(provider_config, V1_PROVIDER_CONFIG);
    INIT(capability_provider, V1_CAPABILITY_PROVIDER);
    INIT(capability_config, V1_CAPABILITY_CONFIG);
    INIT(request, V1_REQUEST);
    INIT(response, V1_RESPONSE);
    INIT(decision, V1_DECISION);
    INIT(candidate, V1_CANDIDATE);
    INIT(metrics, V1_METRICS);
    INIT(quota_state, V1_QUOTA_STATE);
    INIT(provider_state, V1_PROVIDER_STATE);
    INIT(header_quota, V1_HEADER_QUOTA);
    INIT(header_report, V1_HEADER_REPORT);
}

/* ---- Values ---- */

static const double NO_NUMBERS[] = {NAN, INFINITY, -INFINITY, -1.0, -1e-300};

#define ENGINE_REFUSES(field, value)                                        \
    do {                                                                    \
        grate_engine_config c_ = GRATE_ENGINE_CONFIG_INIT;                  \
        c_.field = (value);                                                 \
        REFUSED(GRATE_ERR_INVALID_CONFIG, new_with(&c_, e));                \
    } while (0)

TEST(engine_values)
{
    size_t i;
    begin();
    for (i = 0; i < LENGTH(NO_NUMBERS); i++) {
        double x = NO_NUMBERS[i];
        ENGINE_REFUSES(weight_quota, x);
        ENGINE_REFUSES(weight_health, x);
        ENGINE_REFUSES(weight_priority, x);
        ENGINE_REFUSES(weight_latency, x);
        ENGINE_REFUSES(min_health_for_selection, x);
        ENGINE_REFUSES(ewma_alpha, x);
        ENGINE_REFUSES(recovery_half_life_secs, x);
        ENGINE_REFUSES(cooldown_threshold, x);
        ENGINE_REFUSES(cooldown_multiplier, x);
        ENGINE_REFUSES(max_cooldown_secs, x);
    }
    ENGINE_REFUSES(min_health_for_selection, 1.0000001);
    ENGINE_REFUSES(ewma_alpha, 1.0000001);
    ENGINE_REFUSES(cooldown_threshold, 1.0000001);
    ENGINE_REFUSES(cooldown_multiplier, 0.9999999);
    ENGINE_REFUSES(recovery_half_life_secs, 31622401);
    ENGINE_REFUSES(max_cooldown_secs, 31622401);
    ENGINE_REFUSES(lease_ttl_ns, 31622400000000001u);
    ENGINE_REFUSES(lease_ttl_ns, UINT64_MAX);
    ENGINE_REFUSES(skew_ns, 3600000000001u);
    ENGINE_REFUSES(skew_ns, UINT64_MAX - 1);
    end();
}

static grate_status provider_of(double weight, double cooldown, uint32_t priority, grate_error *e)
{
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;
    config.name = "c";
    config.weight = weight;
    config.cooldown_seconds = cooldown;
    config.priority = priority;
    return grate_engine_upsert_provider(engine, &config, e);
}

TEST(provider_values)
{
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;
    grate_quota_config quotas[33];
    size_t i;
    begin();
    for (i = 0; i < LENGTH(NO_NUMBERS); i++) {
        REFUSED(GRATE_ERR_INVALID_CONFIG, provider_of(NO_NUMBERS[i], 0, 0, e));
        REFUSED(GRATE_ERR_INVALID_CONFIG, provider_of(0, NO_NUMBERS[i], 0, e));
    }
    REFUSED(GRATE_ERR_INVALID_CONFIG, provider_of(0, 31622401, 0, e));
    REFUSED(GRATE_ERR_INVALID_CONFIG, provider_of(0, 0, 1000001, e));
    REFUSED(GRATE_ERR_INVALID_CONFIG, provider_of(0, 0, UINT32_MAX, e));

    config.name = "c";
    config.quotas_len = 1;
    REFUSED(GRATE_ERR_NULL_POINTER, grate_engine_upsert_provider(engine, &config, e));
    config.quotas_len = UINT64_MAX;
    REFUSED(GRATE_ERR_NULL_POINTER, grate_engine_upsert_provider(engine, &config, e));
    for (i = 0; i < LENGTH(quotas); i++) {
        grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
        quota.dimension = GRATE_DIMENSION_REQUESTS;
        quota.limit = 1;
        quota.window_ns = (i + 1) * GRATE_WINDOW_SECOND;
        quotas[i] = quota;
    }
    config.quotas = quotas;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_upsert_provider(engine, &config, e));
    config.quotas_len = (uint64_t)1 << 63;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_upsert_provider(engine, &config, e));
    config.quotas_len = UINT64_MAX / sizeof quotas[0] + 1;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_upsert_provider(engine, &config, e));
    config.quotas_len = 33;
    REFUSED(GRATE_ERR_INVALID_CONFIG, grate_engine_upsert_provider(engine, &config, e));
    quotas[1].window_ns = quotas[0].window_ns;
    config.quotas_len = 2;
    REFUSED(GRATE_ERR_INVALID_CONFIG, grate_engine_upsert_provider(engine, &config, e));
    quotas[1].window_ns = 2 * GRATE_WINDOW_SECOND;
    config.quotas_len = 32;
    CHECK_EQ_I32(grate_engine_upsert_provider(engine, &config, NULL), GRATE_OK);
    end();
}

typedef struct {
    int32_t dimension, strategy;
    uint32_t reserved;
    uint64_t limit, window_ns, burst;
    int64_t phase_ns;
    int32_t status;
} quota_case;

TEST(quota_values)
{
    static const uint64_t S = GRATE_WINDOW_SECOND;
    const quota_case cases[] = {
        {0, 0, 0, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {8, 0, 0, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {-1, 0, 0, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {INT32_MIN, 0, 0, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {INT32_MAX, 0, 0, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {1, 5, 0, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {1, -1, 0, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {1, INT32_MAX, 0, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {1, 0, 1, 1, S, 0, 0, GRATE_ERR_INVALID_ARGUMENT},
        {1, 0, 0, 1, 0, 0, 0, GRATE_ERR_INVALID_CONFIG},
        {1, 0, 0, 1, 999999, 0, 0, GRATE_ERR_INVALID_CONFIG},
        {1, 0, 0, 1, 366 * GRATE_WINDOW_DAY + 1, 0, 0, GRATE_ERR_INVALID_CONFIG},
        {1, 0, 0, 1, UINT64_MAX, 0, 0, GRATE_ERR_INVALID_CONFIG},
        {1, 0, 0, 1, S, 1, 0, GRATE_ERR_INVALID_CONFIG},
        {1, GRATE_STRATEGY_FIXED_WINDOW, 0, 1, S, 1, 0, GRATE_ERR_INVALID_CONFIG},
        {1, 0, 0, 1, S, 0, 1, GRATE_ERR_INVALID_CONFIG},
        {1, GRATE_STRATEGY_TOKEN_BUCKET, 0, 1, S, 0, 1, GRATE_ERR_INVALID_CONFIG},
        {1, GRATE_STRATEGY_FIXED_WINDOW, 0, 1, S, 0, (int64_t)S + 1, GRATE_ERR_INVALID_CONFIG},
        {1, GRATE_STRATEGY_FIXED_WINDOW, 0, 1, S, 0, INT64_MIN, GRATE_ERR_INVALID_CONFIG},
        {1, GRATE_STRATEGY_CONCURRENCY, 0, 1, 0, 0, 0, GRATE_ERR_INVALID_CONFIG},
        {GRATE_DIMENSION_CONCURRENCY, GRATE_STRATEGY_ROLLING, 0, 1, S, 0, 0, GRATE_ERR_INVALID_CONFIG},
        {GRATE_DIMENSION_CONCURRENCY, 0, 0, 1, S, 0, 0, GRATE_ERR_INVALID_CONFIG},
        {GRATE_DIMENSION_CONCURRENCY, 0, 0, 1, 0, 1, 0, GRATE_ERR_INVALID_CONFIG},
        {GRATE_DIMENSION_CONCURRENCY, 0, 0, 1, 0, 0, 1, GRATE_ERR_INVALID_CONFIG},
        /* And the largest that are allowed. */
        {1, 0, 0, UINT64_MAX, 366 * GRATE_WINDOW_DAY, 0, 0, GRATE_OK},
        {1, GRATE_STRATEGY_TOKEN_BUCKET, 0, UINT64_MAX, 1000000, UINT64_MAX, 0, GRATE_OK},
        {1, GRATE_STRATEGY_FIXED_WINDOW, 0, UINT64_MAX, S, 0, (int64_t)S - 1, GRATE_OK},
        {GRATE_DIMENSION_CONCURRENCY, 0, 0, UINT64_MAX, 0, 0, 0, GRATE_OK},
    };
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    grate_capability_provider listed = GRATE_CAPABILITY_PROVIDER_INIT;
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    size_t i;
    begin();
    for (i = 0; i < LENGTH(cases); i++) {
        const quota_case *c = &cases[i];
        grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
        quota.dimension = c->dimension;
        quota.strategy = c->strategy;
        quota.reserved = c->reserved;
        quota.limit = c->limit;
        quota.window_ns = c->window_ns;
        quota.burst = c->burst;
        quota.phase_ns = c->phase_ns;
        provider.name = "c";
        provider.quotas = &quota;
        provider.quotas_len = 1;
        if (c->status != GRATE_OK) {
            REFUSED(c->status, grate_engine_upsert_provider(engine, &provider, e));
        } else {
            grate_response response = GRATE_RESPONSE_INIT;
            grate_decision decision = GRATE_DECISION_INIT;
            uint64_t remaining = 0;
            CHECK_EQ_I32(grate_engine_upsert_provider(engine, &provider, NULL), GRATE_OK);
            listed.provider = "c";
            capability.name = "c";
            capability.providers = &listed;
            capability.providers_len = 1;
            CHECK_EQ_I32(grate_engine_upsert_capability(engine, &capability, NULL), GRATE_OK);
            CHECK_EQ_I32(grate_engine_acquire(engine, "c", NULL, &decision, NULL), GRATE_OK);
            CHECK_EQ_I32(grate_engine_remaining_quota(engine, "c", c->dimension, &remaining, NULL), GRATE_OK);
            CHECK_EQ_U64(remaining, UINT64_MAX - 1);
            /* The largest usage there is, several times over. */
            response.outcome = GRATE_OUTCOME_SUCCESS;
            response.requests = UINT64_MAX - 1;
            CHECK_EQ_I32(grate_engine_complete(engine, decision.lease, &response, NULL), GRATE_OK);
            CHECK_EQ_I32(grate_engine_observe(engine, "c", &response, NULL), GRATE_OK);
            CHECK_EQ_I32(grate_engine_observe(engine, "c", &response, NULL), GRATE_OK);
            CHECK_EQ_I32(grate_engine_remove_provider(engine, "c", NULL), GRATE_OK);
        }
    }
    grate_engine_free(engine);
    grate_clock_free(clock_);
}

TEST(capability_values)
{
    grate_capability_provider list[2] = {GRATE_CAPABILITY_PROVIDER_INIT, GRATE_CAPABILITY_PROVIDER_INIT};
    grate_capability_config config = GRATE_CAPABILITY_CONFIG_INIT;
    begin();
    list[0].provider = "b";
    list[1].provider = "a";
    config.name = "api";
    config.providers_len = 1;
    REFUSED(GRATE_ERR_NULL_POINTER, grate_engine_upsert_capability(engine, &config, e));
    config.providers = list;
    config.providers_len = UINT64_MAX;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_upsert_capability(engine, &config, e));
    config.providers_len = (uint64_t)1 << 60;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_upsert_capability(engine, &config, e));
    config.providers_len = 2;
    config.reserved = 1;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_upsert_capability(engine, &config, e));
    config.reserved = 0;
    list[1].priority = 1000001;
    REFUSED(GRATE_ERR_INVALID_CONFIG, grate_engine_upsert_capability(engine, &config, e));
    list[1].priority = GRATE_PRIORITY_ZERO;
    list[1].provider = "b";
    REFUSED(GRATE_ERR_INVALID_CONFIG, grate_engine_upsert_capability(engine, &config, e));
    list[1].provider = "a";
    CHECK_EQ_I32(grate_engine_upsert_capability(engine, &config, NULL), GRATE_OK);
    end();
}

TEST(requests)
{
    static const double headrooms[] = {NAN, INFINITY, -INFINITY, -0.1, 1.0, 1.5};
    const char *many[65];
    grate_request request = GRATE_REQUEST_INIT;
    grate_decision decision = GRATE_DECISION_INIT, untouched;
    grate_candidate row = GRATE_CANDIDATE_INIT;
    size_t i;
    begin();
    decision.score = 42;
    untouched = decision;
    for (i = 0; i < LENGTH(headrooms); i++) {
        request.headroom = headrooms[i];
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_select(engine, "api", &request, &decision, e));
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_acquire(engine, "api", &request, &decision, e));
    }
    request.headroom = 0;
    request.reserved = 1;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_select(engine, "api", &request, &decision, e));
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_acquire(engine, "api", &request, &decision, e));
    request.reserved = 0;
    request.exclude_len = 1;
    REFUSED(GRATE_ERR_NULL_POINTER, grate_engine_acquire(engine, "api", &request, &decision, e));
    for (i = 0; i < LENGTH(many); i++) {
        many[i] = "nope";
    }
    request.exclude = many;
    request.exclude_len = 65;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_acquire(engine, "api", &request, &decision, e));
    request.exclude_len = UINT64_MAX;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_select(engine, "api", &request, &decision, e));
    REFUSED(GRATE_ERR_UNKNOWN_CAPABILITY, grate_engine_select(engine, "nope", NULL, &decision, e));
    CHECK(memcmp(&decision, &untouched, sizeof decision) == 0);
    request.exclude_len = 64;
    CHECK_EQ_I32(grate_engine_select(engine, "api", &request, &decision, NULL), GRATE_OK);

    decision.candidates = &row;
    decision.candidates_capacity = UINT64_MAX;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_select(engine, "api", NULL, &decision, e));
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_acquire(engine, "api", NULL, &decision, e));
    decision.candidates = NULL;

    /* The largest there is fits nowhere, and does not overflow into something small. */
    request.tokens = UINT64_MAX - 1;
    request.input_tokens = UINT64_MAX - 1;
    request.output_tokens = UINT64_MAX - 1;
    request.bytes = UINT64_MAX - 1;
    request.cost_micro_usd = UINT64_MAX - 1;
    request.exclude_len = 1;
    many[0] = "b";
    CHECK_EQ_I32(grate_engine_acquire(engine, "api", &request, &decision, NULL), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK_EQ_I32(decision.held_by, GRATE_HELD_BY_QUOTA);
    CHECK_EQ_U64(decision.retry_after_ns, GRATE_NEVER);
    request.tokens = 0;
    CHECK_EQ_I32(grate_engine_acquire(engine, "api", &request, &decision, NULL), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK_EQ_U64(decision.retry_after_ns, GRATE_NEVER);
    end();
}

TEST(responses)
{
    static const int32_t outcomes[] = {-1, 10, INT32_MIN, INT32_MAX};
    static const int32_t statuses[] = {0, -1, 1, 99, INT32_MIN};
    size_t i;
    begin();
    for (i = 0; i < LENGTH(outcomes); i++) {
        grate_response response = GRATE_RESPONSE_INIT;
        response.outcome = outcomes[i];
        response.http_status = 200;
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_observe(engine, "a", &response, e));
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_complete(engine, live, &response, e));
    }
    for (i = 0; i < LENGTH(statuses); i++) {
        grate_response response = GRATE_RESPONSE_INIT;
        response.http_status = statuses[i];
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_observe(engine, "a", &response, e));
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_complete(engine, live, &response, e));
    }
    {
        grate_response response = GRATE_RESPONSE_INIT;
        response.outcome = GRATE_OUTCOME_SUCCESS;
        response.reserved = 1;
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_observe(engine, "a", &response, e));
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_complete(engine, live, &response, e));
    }
    end();
}

static grate_header header(const char *name, uint64_t name_len, const char *value, uint64_t value_len)
{
    grate_header h;
    h.name = name;
    h.name_len = name_len;
    h.value = value;
    h.value_len = value_len;
    return h;
}

TEST(headers)
{
    static const char name[] = "x-ratelimit-remaining-requests", value[] = "\xff\x00-12e999999999999999999999\r\n";
    grate_header fields[2];
    grate_response response = GRATE_RESPONSE_INIT;
    uint64_t remaining = 0;
    size_t i;
    const struct {
        grate_header field;
        int32_t status;
    } cases[] = {
        {header(NULL, 1, value, 1), GRATE_ERR_NULL_POINTER},
        {header(name, 1, NULL, 1), GRATE_ERR_NULL_POINTER},
        {header(NULL, UINT64_MAX, NULL, UINT64_MAX), GRATE_ERR_INVALID_ARGUMENT},
        {header(name, UINT64_MAX, value, 1), GRATE_ERR_INVALID_ARGUMENT},
        {header(name, 1, value, (uint64_t)1 << 63), GRATE_ERR_INVALID_ARGUMENT},
    };
    begin();
    response.outcome = GRATE_OUTCOME_SUCCESS;
    response.headers_len = 1;
    REFUSED(GRATE_ERR_NULL_POINTER, grate_engine_observe(engine, "a", &response, e));
    REFUSED(GRATE_ERR_NULL_POINTER, grate_engine_complete(engine, live, &response, e));
    response.headers = fields;
    fields[0] = header(name, sizeof name - 1, "3", 1);
    response.headers_len = UINT64_MAX;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_observe(engine, "a", &response, e));
    response.headers_len = (uint64_t)1 << 59;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_complete(engine, live, &response, e));
    /* A good field does not count either if the next one cannot be read. */
    response.headers_len = 2;
    for (i = 0; i < LENGTH(cases); i++) {
        fields[1] = cases[i].field;
        REFUSED(cases[i].status, grate_engine_observe(engine, "a", &response, e));
        REFUSED(cases[i].status, grate_engine_complete(engine, live, &response, e));
    }

    /* Rubbish inside a field is not the caller's fault, and is ignored. Nothing needs a NUL behind it. */
    response.requests = GRATE_ZERO;
    for (i = 1; i < sizeof value; i++) {
        char *text = at_fence(value, i);
        fields[0] = header(name, sizeof name - 1, text, i);
        fields[1] = header(text, i, text, i);
        CHECK_EQ_I32(grate_engine_observe(engine, "a", &response, NULL), GRATE_OK);
    }
    fields[0] = header(at_fence(name, sizeof name - 1), sizeof name - 1, NULL, 0);
    fields[1] = header(NULL, 0, NULL, 0);
    CHECK_EQ_I32(grate_engine_observe(engine, "a", &response, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_remaining_quota(engine, "a", GRATE_DIMENSION_REQUESTS, &remaining, NULL), GRATE_OK);
    CHECK_EQ_U64(remaining, 8);
    end();
}

TEST(parsing_headers)
{
    grate_header field = limit_header();
    grate_header_quota quota = GRATE_HEADER_QUOTA_INIT;
    grate_header_report report = GRATE_HEADER_REPORT_INIT;
    begin();
    REFUSED(GRATE_ERR_NULL_POINTER, grate_parse_headers(NULL, 1, 0, &report, e));
    REFUSED(GRATE_ERR_NULL_POINTER, grate_parse_headers(&field, 1, 0, NULL, e));
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_parse_headers(&field, UINT64_MAX, 0, &report, e));
    report.quotas = &quota;
    report.quotas_capacity = UINT64_MAX;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_parse_headers(&field, 1, 0, &report, e));
    report.quotas_capacity = 1;
    CHECK_EQ_I32(grate_parse_headers(NULL, 0, 0, &report, NULL), GRATE_OK);
    CHECK_EQ_U64(report.quotas_total, 0);
    CHECK_EQ_U64(report.retry_after_ms, GRATE_ABSENT);
    CHECK_EQ_I32(grate_parse_headers(&field, 1, 0, &report, NULL), GRATE_OK);
    CHECK_EQ_U64(report.quotas_len, 1);
    CHECK_EQ_I32(quota.dimension, GRATE_DIMENSION_REQUESTS);
    CHECK_EQ_U64(quota.limit, 100);
    CHECK_EQ_U64(quota.remaining, GRATE_ABSENT);
    field.value = "-1";
    field.value_len = 2;
    CHECK_EQ_I32(grate_parse_headers(&field, 1, 0, &report, NULL), GRATE_OK);
    CHECK_EQ_U64(report.quotas_len, 0);
    end();
}

TEST(leases)
{
    grate_engine *other = NULL;
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    uint64_t forged[8];
    size_t i;
    begin();
    response.outcome = GRATE_OUTCOME_RATE_LIMITED;
    forged[0] = 0;
    forged[1] = 1;
    forged[2] = UINT64_MAX;
    forged[3] = UINT64_MAX - 1;
    forged[4] = settled;
    forged[5] = live + 1;
    forged[6] = live - 1;
    forged[7] = (uint64_t)1 << 63;
    for (i = 0; i < LENGTH(forged); i++) {
        REFUSED(GRATE_ERR_STALE_LEASE, grate_engine_complete(engine, forged[i], &response, e));
        REFUSED(GRATE_ERR_STALE_LEASE, USE(grate_engine_cancel)(engine, forged[i], e));
    }
    for (i = 0; i < 64; i++) {
        REFUSED(GRATE_ERR_STALE_LEASE, grate_engine_complete(engine, live ^ (uint64_t)1 << i, &response, e));
        REFUSED(GRATE_ERR_STALE_LEASE, grate_engine_cancel(engine, live ^ (uint64_t)1 << i, e));
    }

    /* A lease of another engine, made in the same way, is none of this one's. */
    config.clock = clock_;
    CHECK_EQ_I32(grate_engine_new(&config, &other, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_configure_json(other, WORLD, sizeof WORLD - 1, NULL), GRATE_OK);
    for (i = 0; i < 2; i++) {
        CHECK_EQ_I32(grate_engine_acquire(other, "api", NULL, &decision, NULL), GRATE_OK);
        REFUSED(GRATE_ERR_STALE_LEASE, grate_engine_complete(engine, decision.lease, &response, e));
        REFUSED(GRATE_ERR_STALE_LEASE, grate_engine_cancel(engine, decision.lease, e));
        CHECK_EQ_I32(grate_engine_cancel(other, live, NULL), GRATE_ERR_STALE_LEASE);
    }
    CHECK_EQ_I32(grate_engine_cancel(other, decision.lease, NULL), GRATE_OK);
    grate_engine_free(other);
    end();
}

TEST(leases_that_expired)
{
    grate_response response = GRATE_RESPONSE_INIT;
    begin();
    response.outcome = GRATE_OUTCOME_SUCCESS;
    CHECK_EQ_I32(USE(grate_clock_advance_secs)(clock_, 1000), GRATE_OK);
    CHECK_EQ_I32(provider_health("a", NULL), GRATE_OK);
    REFUSED(GRATE_ERR_STALE_LEASE, grate_engine_complete(engine, live, &response, e));
    REFUSED(GRATE_ERR_STALE_LEASE, grate_engine_cancel(engine, live, e));
    grate_engine_free(engine);
    grate_clock_free(clock_);
}

TEST(dimensions)
{
    static const int32_t wrong[] = {0, 8, -1, INT32_MIN, INT32_MAX};
    uint64_t out = 0;
    size_t i;
    begin();
    for (i = 0; i < LENGTH(wrong); i++) {
        REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_remaining_quota(engine, "a", wrong[i], &out, e));
    }
    end();
}

TEST(states)
{
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_quota_state row = GRATE_QUOTA_STATE_INIT;
    begin();
    state.quotas = &row;
    state.quotas_capacity = UINT64_MAX;
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_provider_state(engine, "a", &state, e));
    state.quotas = NULL;
    CHECK_EQ_I32(grate_engine_provider_state(engine, "a", &state, NULL), GRATE_OK);
    CHECK_EQ_U64(state.quotas_len, 0);
    CHECK_EQ_U64(state.quotas_total, 3);
    end();
}

TEST(prometheus)
{
    static char text[65536];
    uint64_t len = 0, again = 0, i;
    begin();
    CHECK_EQ_I32(grate_engine_prometheus(engine, NULL, 0, &len, NULL), GRATE_ERR_BUFFER_TOO_SMALL);
    if (CHECK(len > 100 && len < sizeof text - 2)) {
        memset(text, CANARY, sizeof text);
        /* One byte too few: only the length is written. */
        REFUSED(GRATE_ERR_BUFFER_TOO_SMALL, grate_engine_prometheus(engine, text, len, &again, e));
        CHECK_EQ_U64(again, len);
        for (i = 0; i < sizeof text && (unsigned char)text[i] == CANARY; i++) {
        }
        CHECK_EQ_U64(i, sizeof text);
        CHECK_EQ_I32(grate_engine_prometheus(engine, text, len + 1, &again, NULL), GRATE_OK);
        CHECK_EQ_U64(again, len);
        CHECK_EQ_U64(strlen(text), len);
        CHECK_EQ_I32((unsigned char)text[len + 1], CANARY);
        CHECK(strstr(text, "acquires_total 2") != NULL);
    }
    end();
}

/* ---- JSON ---- */

static grate_status json(const char *text, grate_error *e)
{
    /* Ends at the fence: the document needs no NUL. */
    size_t len = strlen(text);
    return grate_engine_configure_json(engine, at_fence(text, len), len, e);
}

TEST(documents)
{
    static const char *const malformed[] = {
        "", " ", "{", "}", "[]", "1", "null", "\"\"", "{} {}", "{\"providers\": 1}", "{\"providers\": {}}",
        "{\"providers\": [1]}", "{\"providers\": [{}]}", "{\"providers\": [{\"name\": 1}]}",
        "{\"providers\": [{\"name\": \"c\", \"priority\": -1}]}", "{\"providers\": [{\"name\": \"c\", \"priority\": 1.5}]}",
        "{\"providers\": [{\"name\": \"c\", \"priority\": 99999999999}]}",
        "{\"providers\": [{\"name\": \"c\", \"weight\": 1e999}]}", "{\"providers\": [{\"name\": \"c\", \"weight\": NaN}]}",
        "{\"providers\": [{\"name\": \"c\"}], \"provider\": []}", "{\"replace\": 1}",
        "{\"providers\": [{\"name\": \"c\", \"name\": \"d\"}]}",
        "{\"providers\": [{\"name\": \"c\xff\"}]}", "\xef\xbb\xbf{}x",
        "{\"providers\": [{\"name\": \"c\", \"quotas\": [{\"limit\": 1, \"window\": \"day\"}]}]}",
        "{\"providers\": [{\"name\": \"c\", \"quotas\": [{\"dimension\": \"requests\", \"window\": \"day\"}]}]}",
        "{\"providers\": [{\"name\": \"c\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1, \"window\": \"week\"}]}]}",
        "{\"providers\": [{\"name\": \"c\", \"quotas\": [{\"dimension\": \"bytes\", \"limit\": 18446744073709551616}]}]}",
    };
    static const char *const bad_names[] = {
        "{\"providers\": [{\"name\": \"\"}]}", "{\"providers\": [{\"name\": \"a\\u0000b\"}]}",
        "{\"providers\": [{\"name\": \"c\"}], \"capabilities\": [{\"name\": \"\\n\"}]}",
    };
    static char deep[200000];
    size_t i;
    begin();
    for (i = 0; i < LENGTH(malformed); i++) {
        REFUSED(GRATE_ERR_INVALID_JSON, json(malformed[i], e));
    }
    for (i = 0; i < LENGTH(bad_names); i++) {
        REFUSED(GRATE_ERR_INVALID_NAME, json(bad_names[i], e));
    }
    REFUSED(GRATE_ERR_UNKNOWN_PROVIDER, json("{\"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"c\"}]}]}", e));
    REFUSED(GRATE_ERR_INVALID_CONFIG, json("{\"providers\": [{\"name\": \"c\"}, {\"name\": \"c\"}]}", e));
    /* Every beginning of a good document is a bad one. */
    for (i = 0; i < sizeof WORLD - 1; i += 7) {
        REFUSED(GRATE_ERR_INVALID_JSON, grate_engine_configure_json(engine, at_fence(WORLD, i), i, e));
    }
    memset(deep, '[', sizeof deep);
    REFUSED(GRATE_ERR_INVALID_JSON, grate_engine_configure_json(engine, deep, sizeof deep, e));
    for (i = 0; i + 5 <= sizeof deep; i += 5) {
        memcpy(deep + i, "{\"a\":", 5);
    }
    REFUSED(GRATE_ERR_INVALID_JSON, grate_engine_configure_json(engine, deep, i, e));
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_configure_json(engine, WORLD, UINT64_MAX, e));
    REFUSED(GRATE_ERR_INVALID_ARGUMENT, grate_engine_configure_json(engine, WORLD, (uint64_t)1 << 63, e));
    REFUSED(GRATE_ERR_INVALID_JSON, grate_engine_configure_json(engine, "{}\0", 3, e));
    CHECK_EQ_I32(json("{}", NULL), GRATE_OK);
    end();
}

/* ---- Clocks, codes, versions ---- */

TEST(clocks)
{
    grate_clock *clock = NULL;
    grate_engine *made = NULL;
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_error err = GRATE_ERROR_INIT;
    uint64_t calls = 0;
    CHECK_EQ_I32(USE(grate_clock_callback_new)(some_time, some_time, &calls, &clock, &err), GRATE_OK);
    CHECK(clock != NULL);
    CHECK_EQ_I32(USE(grate_clock_advance_ms)(clock, 1), GRATE_ERR_INVALID_ARGUMENT);
    CHECK_EQ_I32(USE(grate_clock_advance_secs)(clock, 1), GRATE_ERR_INVALID_ARGUMENT);
    CHECK_EQ_I32(USE(grate_clock_set_ns)(clock, 1), GRATE_ERR_INVALID_ARGUMENT);
    CHECK_EQ_U64(USE(grate_clock_now_ns)(clock), 1);
    config.clock = clock;
    CHECK_EQ_I32(grate_engine_new(&config, &made, &err), GRATE_OK);
    /* The engine keeps what it needs of the clock. */
    grate_clock_free(clock);
    CHECK_EQ_I32(grate_engine_configure_json(made, WORLD, sizeof WORLD - 1, &err), GRATE_OK);
    calls = 0;
    CHECK_EQ_I32(grate_engine_select(made, "api", NULL, &(grate_decision){.struct_size = sizeof(grate_decision)}, &err),
                 GRATE_OK);
    CHECK(calls > 0);
    grate_engine_free(made);

    clock = grate_clock_mock_new(UINT64_MAX);
    CHECK_EQ_U64(grate_clock_now_ns(clock), 0);
    CHECK_EQ_I32(grate_clock_advance_ms(clock, UINT64_MAX), GRATE_OK);
    CHECK_EQ_U64(grate_clock_now_ns(clock), UINT64_MAX);
    CHECK_EQ_I32(grate_clock_advance_secs(clock, UINT64_MAX), GRATE_OK);
    CHECK_EQ_U64(grate_clock_now_ns(clock), UINT64_MAX);
    CHECK_EQ_I32(grate_clock_set_ns(clock, 5), GRATE_OK);
    CHECK_EQ_U64(grate_clock_now_ns(clock), 5);
    grate_clock_free(clock);
}

TEST(codes_and_version)
{
    char version[64];
    int32_t i;
    for (i = GRATE_OK; i <= GRATE_ERR_PANIC; i++) {
        const char *name = USE(grate_status_name)(i);
        CHECK(strncmp(name, i == GRATE_OK ? "GRATE_OK" : "GRATE_ERR_", i == GRATE_OK ? 9 : 10) == 0);
        CHECK(strcmp(name, "GRATE_ERR_UNKNOWN") != 0);
    }
    CHECK_STR(grate_status_name(GRATE_ERR_STALE_LEASE), "GRATE_ERR_STALE_LEASE");
    CHECK_STR(grate_status_name(GRATE_ERR_PANIC), "GRATE_ERR_PANIC");
    CHECK_STR(grate_status_name(GRATE_ERR_PANIC + 1000), "GRATE_ERR_UNKNOWN");
    CHECK_STR(grate_status_name(-1), "GRATE_ERR_UNKNOWN");
    CHECK_STR(grate_status_name(INT32_MIN), "GRATE_ERR_UNKNOWN");
    CHECK_STR(grate_status_name(INT32_MAX), "GRATE_ERR_UNKNOWN");
    CHECK_EQ_U64(USE(grate_version)(), GRATE_VERSION);
    CHECK_EQ_U64(GRATE_VERSION, GRATE_VERSION_MAJOR * 1000000 + GRATE_VERSION_MINOR * 1000 + GRATE_VERSION_PATCH);
    snprintf(version, sizeof version, "%d.%d.%d", GRATE_VERSION_MAJOR, GRATE_VERSION_MINOR, GRATE_VERSION_PATCH);
    CHECK_STR(USE(grate_version_string)(), version);
}

/* ---- Nothing forgotten ---- */

static const char *header_path;

/* The header without its comments; to be freed. */
static char *header_code(void)
{
    FILE *file = fopen(header_path, "rb");
    char *text = NULL, *to;
    const char *from;
    long size = 0;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0 ||
        (text = malloc((size_t)size + 1)) == NULL) {
        fprintf(stderr, "%s: cannot be read\n", header_path);
        exit(1);
    }
    rewind(file);
    text[fread(text, 1, (size_t)size, file)] = '\0';
    fclose(file);
    for (from = to = text; *from != '\0';) {
        if (from[0] == '/' && (from[1] == '*' || from[1] == '/')) {
            const char *close = strstr(from + 2, from[1] == '*' ? "*/" : "\n");
            from = close == NULL ? "" : from[1] == '*' ? close + 2 : close;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return text;
}

/* A name like grate_engine_new with an opening parenthesis behind it is a declaration of a function. */
TEST(no_function_is_forgotten)
{
    char *code = header_code();
    const char *at;
    size_t declared = 0, i;
    for (at = strstr(code, "grate_"); at != NULL; at = strstr(at, "grate_")) {
        size_t length = 0;
        int inside = at > code && (isalnum((unsigned char)at[-1]) || at[-1] == '_');
        while (isalnum((unsigned char)at[length]) || at[length] == '_') {
            length++;
        }
        /* C's macro for C++ has a local variable of this name. */
        if (!inside && at[length] == '(' && !(length == 8 && strncmp(at, "grate_x_", 8) == 0)) {
            declared++;
            for (i = 0; i < used_len && (strlen(used[i]) != length || strncmp(used[i], at, length) != 0); i++) {
            }
            if (i == used_len) {
                check_fail(__FILE__, __LINE__, "%.*s is declared and not tested", (int)length, at);
            }
        }
        at += length;
    }
    CHECK_EQ_U64(declared, used_len);
    CHECK(declared >= 30);
    free(code);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s grate.h\n", argv[0]);
        return 2;
    }
    header_path = argv[1];
    make_fence();
    RUN(names);
    RUN(names_in_exclude);
    RUN(names_of_full_length);
    RUN(null_pointers);
    RUN(sizes);
    RUN(input_structs);
    RUN(output_structs);
    RUN(error_structs);
    RUN(arrays_of_larger_structs);
    RUN(init_functions);
    RUN(engine_values);
    RUN(provider_values);
    RUN(quota_values);
    RUN(capability_values);
    RUN(requests);
    RUN(responses);
    RUN(headers);
    RUN(parsing_headers);
    RUN(leases);
    RUN(leases_that_expired);
    RUN(dimensions);
    RUN(states);
    RUN(prometheus);
    RUN(documents);
    RUN(clocks);
    RUN(codes_and_version);
    RUN(no_function_is_forgotten);
    remove_fence();
    return check_report("bad_input");
}
