/*
 * Memory that runs out, and memory that a caller may make the library ask for. The program is the allocator of the process,
 * so that it can count and refuse.
 *
 * A refused allocation while an engine is made or configured ends the process, with a message: Rust's way. It could be an
 * error instead, but nothing else may happen, such as a call through NULL or a half-made configuration. The hot calls ask for nothing, so that they go on when
 * there is no memory left at all; but acquire does at a new peak of leases in flight.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

/* ---- The allocator: glibc's, counted ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *at);

static int refusing;       /* whether the nth request from now and all after it fail */
static uint64_t allowance; /* requests until then */
static uint64_t requests;
static size_t in_use, most_in_use;

static int refused(void)
{
    requests++;
    if (refusing && (allowance == 0 || --allowance == 0)) {
        errno = ENOMEM;
        return 1;
    }
    return 0;
}

static void *counted(void *at)
{
    in_use += at != NULL ? malloc_usable_size(at) : 0;
    most_in_use = in_use > most_in_use ? in_use : most_in_use;
    return at;
}

void *malloc(size_t size)
{
    return refused() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return refused() ? NULL : counted(__libc_calloc(n, size));
}

void *realloc(void *old, size_t size)
{
    size_t before = old != NULL ? malloc_usable_size(old) : 0;
    void *at = refused() ? NULL : __libc_realloc(old, size);
    in_use -= at != NULL ? before : 0;
    return at != NULL ? counted(at) : NULL;
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *at = refused() ? NULL : counted(__libc_memalign(alignment, size));
    *out = at != NULL ? at : *out;
    return at != NULL ? 0 : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return refused() ? NULL : counted(__libc_memalign(alignment, size));
}

void free(void *at)
{
    in_use -= at != NULL ? malloc_usable_size(at) : 0;
    __libc_free(at);
}

static void refuse_from(uint64_t nth)
{
    allowance = nth;
    refusing = nth != 0;
}

/* ---- Configuration without memory ---- */

static const char JSON[] =
    "{\"providers\": ["
    " {\"name\": \"a\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1000, \"window\": \"minute\", \"pool\": \"x\"},"
    "                           {\"dimension\": \"tokens\", \"limit\": 100000, \"window\": \"day\"}]},"
    " {\"name\": \"b\", \"quotas\": [{\"dimension\": \"concurrency\", \"limit\": 50}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"a\"}, {\"provider\": \"b\"}]}]}";

/* 0 if everything went well, 1 if a call failed. */
static int set_up(grate_engine **engine)
{
    return grate_engine_new(NULL, engine, NULL) != GRATE_OK ||
           grate_engine_configure_json(*engine, JSON, sizeof JSON - 1, NULL) != GRATE_OK;
}

/* Sets an engine up in a child in which the nth request for memory fails. Its wait status; what it says goes to `text`. */
static int without_memory(uint64_t nth, char *text, size_t size)
{
    int ends[2], status = 0;
    size_t len = 0;
    ssize_t n;
    pid_t child;
    CHECK_EQ_I32(pipe(ends), 0);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        grate_engine *engine = NULL;
        int failed;
        dup2(ends[1], STDERR_FILENO);
        alarm(20);
        refuse_from(nth);
        failed = set_up(&engine);
        refuse_from(0);
        grate_engine_free(engine);
        _exit(failed);
    }
    close(ends[1]);
    while (len < size - 1 && (n = read(ends[0], text + len, size - 1 - len)) > 0) {
        len += (size_t)n;
    }
    text[len] = '\0';
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

TEST(a_refused_allocation_is_an_error_or_aborts_with_a_message)
{
    char text[4096];
    uint64_t nth;
    int status = 0;
    for (nth = 1; nth < 10000; nth++) {
        status = without_memory(nth, text, sizeof text);
        if (WIFEXITED(status)) {
            if (WEXITSTATUS(status) == 0) {
                break;
            }
            CHECK_EQ_I32(WEXITSTATUS(status), 1);
        } else {
            CHECK_EQ_I32(WTERMSIG(status), SIGABRT);
            CHECK(strstr(text, "memory allocation of ") != NULL);
        }
    }
    /* All of them were tried. */
    CHECK(WIFEXITED(status));
    CHECK(nth > 20 && nth < 10000);
}

/* ---- Hot calls without memory ---- */

TEST(hot_calls_need_none)
{
    enum { PEAK = 40 };
    grate_engine *engine = NULL;
    grate_response served = GRATE_RESPONSE_INIT;
    grate_header_report report = GRATE_HEADER_REPORT_INIT;
    const grate_header header = {"x-ratelimit-remaining", 21, "900", 3};
    uint64_t leases[PEAK], before;
    uint64_t room = 0;
    int round, i, wrong = 0;
    CHECK_EQ_I32(set_up(&engine), 0);
    served.outcome = GRATE_OUTCOME_SUCCESS;
    served.headers = &header;
    served.headers_len = 1;
    for (round = 0; round < 3; round++) {
        before = requests;
        for (i = 0; i < PEAK; i++) {
            grate_decision decision = GRATE_DECISION_INIT;
            wrong += grate_engine_select(engine, "api", NULL, &decision, NULL) != GRATE_OK;
            wrong += grate_engine_acquire(engine, "api", NULL, &decision, NULL) != GRATE_OK;
            leases[i] = decision.lease;
        }
        for (i = 0; i < PEAK; i++) {
            wrong += (i % 2 ? grate_engine_cancel(engine, leases[i], NULL)
                            : grate_engine_complete(engine, leases[i], &served, NULL)) != GRATE_OK;
            wrong += grate_engine_observe(engine, "a", &served, NULL) != GRATE_OK;
            wrong += grate_engine_remaining_quota(engine, "a", GRATE_DIMENSION_REQUESTS, &room, NULL) != GRATE_OK;
            wrong += grate_parse_headers(&header, 1, 0, &report, NULL) != GRATE_OK;
        }
        if (round == 0) {
            /* The peak has been. From now on there is no memory. */
            refuse_from(1);
        } else {
            CHECK_EQ_U64(requests - before, 0);
        }
    }
    refuse_from(0);
    CHECK_EQ_I32(wrong, 0);
    grate_engine_free(engine);
}

/* ---- How much a caller can make it ask for ---- */

static size_t cost_of(const char *json, size_t len, grate_status expected)
{
    grate_engine *engine = NULL;
    size_t before;
    CHECK_EQ_I32(grate_engine_new(NULL, &engine, NULL), GRATE_OK);
    before = most_in_use = in_use;
    CHECK_EQ_I32(grate_engine_configure_json(engine, json, len, NULL), expected);
    grate_engine_free(engine);
    return most_in_use - before;
}

TEST(a_quota_takes_little_whatever_its_limit)
{
    static const char *const limits[] = {"1", "1000", "1000000000", "18446744073709551615"};
    static const char *const strategies[] = {"rolling", "token_bucket", "fixed_window"};
    static const char *const windows[] = {"1", "31622400000"};
    char json[512];
    size_t l, s, w;
    for (l = 0; l < 4; l++) {
        for (s = 0; s < 3; s++) {
            for (w = 0; w < 2; w++) {
                int len = snprintf(json, sizeof json,
                                   "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"tokens\", \"limit\": %s,"
                                   " \"window_ms\": %s, \"strategy\": \"%s\"}]}]}",
                                   limits[l], windows[w], strategies[s]);
                /* Most of it is the first chunk of each table, which the next hundred providers share. */
                CHECK(cost_of(json, (size_t)len, GRATE_OK) < 1 << 20);
            }
        }
    }
}

/* `n` times `what`, between `start` and `end`; with %d where it has one. */
static char *repeated(const char *start, const char *what, int n, const char *end, size_t *len)
{
    size_t size = strlen(start) + strlen(end) + (size_t)n * (strlen(what) + 12) + 1;
    char *text = malloc(size), *to = text;
    int i;
    if (text == NULL) {
        exit(1);
    }
    to += sprintf(to, "%s", start);
    for (i = 0; i < n; i++) {
        const char *at;
        for (at = what; *at != '\0'; at++) {
            to += *at == '#' ? sprintf(to, "%d", i) : (*to = *at, 1);
        }
    }
    to += sprintf(to, "%s", end);
    *len = (size_t)(to - text);
    return text;
}

static void check_cost(char *json, size_t len, grate_status expected, size_t per_byte)
{
    CHECK(cost_of(json, len, expected) <= per_byte * len + (1 << 20));
    free(json);
}

TEST(documents_that_ask_for_much)
{
    const size_t most = 64; /* bytes for each byte of a document that is refused */
    size_t len;
    char *json;
    json = repeated("", "[", 1000000, "", &len);
    check_cost(json, len, GRATE_ERR_INVALID_JSON, most);
    json = repeated("{\"providers\": ", "{\"a\": ", 200000, "", &len);
    check_cost(json, len, GRATE_ERR_INVALID_JSON, most);
    json = repeated("{\"providers\": [{\"name\": \"", "aaaaaaaaaa", 100000, "\"}]}", &len);
    check_cost(json, len, GRATE_ERR_INVALID_NAME, most);
    json = repeated("{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"tokens\", \"window\": \"day\", \"limit\": 1",
                    "0", 1000000, "}]}]}", &len);
    check_cost(json, len, GRATE_ERR_INVALID_JSON, most);
    json = repeated("{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1, \"window_ms\": 1}",
                    ", {\"dimension\": \"requests\", \"limit\": 1, \"window_ms\": 1#}", 20000, "]}]}", &len);
    check_cost(json, len, GRATE_ERR_INVALID_CONFIG, most);
    json = repeated("{\"capabilities\": [{\"name\": \"c\", \"providers\": [{\"provider\": \"p\"}", ", {\"provider\": \"p\"}", 50000,
                    "]}]}", &len);
    check_cost(json, len, GRATE_ERR_UNKNOWN_PROVIDER, most);
    /* One that is accepted: some kilobytes for each provider, and so at most some gigabytes for the million there can be. */
    json = repeated("{\"providers\": [{\"name\": \"p\"}", ", {\"name\": \"p#\"}", 20000, "]}", &len);
    CHECK(cost_of(json, len, GRATE_OK) <= 8192 * (size_t)20001);
    free(json);
}

/* ---- Stacks ---- */

/* The hot calls, without headers; what failed, or NULL. */
static void *call_all(void *engine)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response served = GRATE_RESPONSE_INIT;
    grate_error error = GRATE_ERROR_INIT;
    served.http_status = 200;
    if (grate_engine_select(engine, "api", NULL, &decision, &error) != GRATE_OK ||
        grate_engine_acquire(engine, "api", NULL, &decision, &error) != GRATE_OK ||
        grate_engine_complete(engine, decision.lease, &served, &error) != GRATE_OK ||
        grate_engine_observe(engine, "a", &served, &error) != GRATE_OK ||
        grate_engine_acquire(engine, "api", NULL, &decision, &error) != GRATE_OK ||
        grate_engine_cancel(engine, decision.lease, &error) != GRATE_OK ||
        grate_engine_select(engine, "nothing", NULL, &decision, &error) != GRATE_ERR_UNKNOWN_CAPABILITY) {
        return "a hot call";
    }
    return NULL;
}

/* Making, configuring, headers, inspection. */
static void *do_all(void *unused)
{
    static char text[65536];
    static const grate_header headers[] = {
        {"x-ratelimit-limit-requests", 26, "100", 3}, {"ratelimit", 9, "\"default\";r=50;t=30", 20}};
    grate_engine *engine = NULL;
    grate_response told = GRATE_RESPONSE_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    uint64_t len;
    void *failed;
    (void)unused;
    told.http_status = 429;
    told.headers = headers;
    told.headers_len = 2;
    if (set_up(&engine) != GRATE_OK) {
        return "set up";
    }
    failed = call_all(engine);
    if (grate_engine_observe(engine, "a", &told, NULL) != GRATE_OK ||
        grate_engine_provider_state(engine, "a", &state, NULL) != GRATE_OK ||
        grate_engine_prometheus(engine, text, sizeof text, &len, NULL) != GRATE_OK) {
        failed = "headers or inspection";
    }
    grate_engine_free(engine);
    return failed;
}

static void on_a_stack(size_t size, void *(*work)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;
    void *failed = "not run";
    CHECK_EQ_I32(pthread_attr_init(&attributes), 0);
    CHECK_EQ_I32(pthread_attr_setstacksize(&attributes, size), 0);
    CHECK_EQ_I32(pthread_create(&thread, &attributes, work, argument), 0);
    CHECK_EQ_I32(pthread_join(thread, &failed), 0);
    CHECK(failed == NULL);
    pthread_attr_destroy(&attributes);
}

/* As grate.h has it. The stack also holds what the C library keeps of a thread. */
TEST(small_stacks)
{
    grate_engine *engine = NULL;
    CHECK_EQ_I32(set_up(&engine), GRATE_OK);
    on_a_stack(16384, call_all, engine);
    on_a_stack(65536, do_all, NULL);
    grate_engine_free(engine);
}

int main(void)
{
    alarm(180);
    RUN(a_refused_allocation_is_an_error_or_aborts_with_a_message);
    RUN(hot_calls_need_none);
    RUN(a_quota_takes_little_whatever_its_limit);
    RUN(documents_that_ask_for_much);
    RUN(small_stacks);
    return check_report("memory");
}
