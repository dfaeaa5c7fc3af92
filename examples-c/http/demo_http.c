/*
 * The same load, sent twice to three real HTTP upstreams with rate limits: once with plain failover, once with
 * libgrate. Prints how many requests each serves, and how many 429s each runs into.
 *
 * One thread, one event loop, many requests in flight: libcurl's multi interface. Everything that concerns libgrate is
 * in the section "Router 2"; the rest of the program does not know which router it works with.
 *
 * scripts/demo-http.sh starts the upstreams (nginx) and calls this program; to build it:
 *   cc -std=c99 -Iinclude examples-c/http/demo_http.c -lgrate -lcurl -o demo_http
 *
 * Exit status: 0 if libgrate received 429s for less than 1 % of its requests and served no fewer than plain failover,
 * 1 if not, 2 if the demo could not run.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _POSIX_C_SOURCE 200809L

#include <curl/curl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "grate.h"

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

/* Both routers have the same patience with a request and may send it equally often. */
#define PATIENCE (2 * SECOND)
#define MAX_ATTEMPTS 6

/*
 * How long plain failover leaves an upstream alone that failed. It has only bad choices: back too soon, and requests
 * use up their attempts on the same 429s; too late, and capacity stands idle. This is about the best for it here: the
 * second that Retry-After asks for costs it a third of its goodput (--bench-ms 0), and jitter (--jitter-ms 250) spares
 * it most of the 429s, though one in ten is left, and serves no more.
 */
#define BENCH_MS 500

/* Settle time before each run, so that both find the upstreams rested: longer than any of them needs. */
#define REST_MS 2000

#define UPSTREAMS 3

/* The upstreams in order of preference, with the limits that they document; nginx.conf.in enforces them. */
static struct upstream {
    const char *name;
    uint32_t priority;
    uint32_t per_second;
    uint32_t burst; /* nginx's limit_req: so many above the steady rate, and the one that is due */
    char *url;
} upstreams[UPSTREAMS] = {
    {"gold", 30, 20, 10, NULL},
    {"silver", 20, 12, 6, NULL},
    {"bronze", 10, 6, 3, NULL},
};

/*
 * The load, in requests/s and per cent of the run: a little less than the 38/s that the upstreams allow together, a
 * burst of more, and an outage of silver, during which 26 are left.
 */
#define STEADY_RATE 32
#define BURST_RATE 55
#define BURST_FROM 30
#define BURST_TO 40
#define OUTAGE_FROM 55
#define OUTAGE_TO 70

struct options {
    uint64_t seconds;
    uint64_t seed;
    uint64_t bench_ms;  /* plain failover: how long it leaves an upstream alone that failed; 0: Retry-After */
    uint64_t jitter_ms; /* plain failover: added to a wait, at random up to this */
    const char *outage_file;
};

/* ---- Small things ------------------------------------------------------------------------------------------------ */

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2), noreturn))
#endif
static void
die(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fputs("demo_http: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL)
        die("out of memory");
    return memory;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
        die("no monotonic clock");
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void sleep_ms(long ms)
{
    struct timespec t;

    t.tv_sec = ms / 1000;
    t.tv_nsec = ms % 1000 * 1000000;
    nanosleep(&t, NULL);
}

/* splitmix64: the same numbers for the same seed everywhere. */
static uint64_t random_u64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void check_easy(CURLcode code, const char *what)
{
    if (code != CURLE_OK)
        die("%s: %s", what, curl_easy_strerror(code));
}

static void check_multi(CURLMcode code, const char *what)
{
    if (code != CURLM_OK)
        die("%s: %s", what, curl_multi_strerror(code));
}

/* ---- What a router sees ------------------------------------------------------------------------------------------ */

enum request_state { WAITING, IN_FLIGHT, SERVED, GAVE_UP };

struct request {
    uint64_t arrival; /* when the caller wants an answer */
    uint64_t deadline;
    uint64_t wake; /* WAITING: when to ask the router again */
    uint64_t finished;
    enum request_state state;
    int attempts;
    unsigned failed; /* bit i: upstream i has failed this request */
    int upstream;    /* IN_FLIGHT: where it is */
    uint64_t lease;  /* IN_FLIGHT with libgrate */
    CURL *easy;      /* IN_FLIGHT */
};

struct answer {
    long status;          /* HTTP, or 0 if there was no answer */
    int timed_out;        /* ... because it took too long */
    uint64_t latency_ns;  /* from sending to the end of the answer */
    uint64_t retry_after; /* what the upstream said, in nanoseconds; 0 for nothing */
};

struct router {
    const char *name;
    void *state;
    /* The upstream for the request, or -1 and in *wait the time after which to ask again. */
    int (*choose)(void *state, struct request *request, uint64_t *wait);
    /* What became of a request that was sent. */
    void (*report)(void *state, struct request *request, const struct answer *answer);
};

/* Whether to leave upstream i out: it has failed this request, and there are others that have not. */
static int leave_out(const struct request *request, int i)
{
    return (request->failed & (1u << i)) != 0 && request->failed != (1u << UPSTREAMS) - 1;
}

/* ---- Router 1: plain failover, as most services have it ---------------------------------------------------------- */

/*
 * The most preferred upstream that is not benched. A 429 or an error benches an upstream for a while; the request goes
 * on to the next one at once. If all are benched, it waits for the first that comes back.
 */
struct failover {
    uint64_t until[UPSTREAMS];
    uint64_t bench;  /* 0: as long as Retry-After says, or a second without one */
    uint64_t jitter; /* 0: none */
    uint64_t seed;
};

static int failover_choose(void *state, struct request *request, uint64_t *wait)
{
    struct failover *f = state;
    uint64_t now = now_ns(), first = UINT64_MAX;
    int i;

    for (i = 0; i < UPSTREAMS; i++) {
        if (f->until[i] <= now && !leave_out(request, i))
            return i;
        if (f->until[i] > now && f->until[i] < first)
            first = f->until[i];
    }
    *wait = first == UINT64_MAX ? MS : first - now;
    if (f->jitter != 0)
        *wait += random_u64(&f->seed) % f->jitter;
    return -1;
}

static void failover_report(void *state, struct request *request, const struct answer *answer)
{
    struct failover *f = state;
    uint64_t bench = SECOND;

    if (answer->status == 200)
        return;
    if (f->bench != 0)
        bench = f->bench;
    else if (answer->retry_after != 0)
        bench = answer->retry_after;
    f->until[request->upstream] = now_ns() + bench;
}

/* ---- Router 2: libgrate ------------------------------------------------------------------------------------------ */

#define CAPABILITY "answer"

static void check_grate(grate_status status, const char *what, const grate_error *err)
{
    if (status != GRATE_OK)
        die("%s: %s: %s", what, grate_status_name(status), err->message);
}

static grate_engine *grate_setup(void)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    grate_capability_provider members[UPSTREAMS];
    grate_engine *engine = NULL;
    int i;

    check_grate(grate_engine_new(NULL, &engine, &err), "grate_engine_new", &err);
    for (i = 0; i < UPSTREAMS; i++) {
        const struct upstream *u = &upstreams[i];
        grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
        grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;

        /*
         * limit_req with "rate=R burst=B nodelay" is a bucket of B + 1: the excess over the rate may be up to B, and
         * the request that is due comes on top.
         */
        quota.dimension = GRATE_DIMENSION_REQUESTS;
        quota.strategy = GRATE_STRATEGY_TOKEN_BUCKET;
        quota.limit = u->per_second;
        quota.window_ns = GRATE_WINDOW_SECOND;
        quota.burst = u->burst + 1;

        provider.name = u->name;
        provider.priority = u->priority;
        provider.cooldown_seconds = 1.0; /* how soon to try one again that keeps failing; doubles each time */
        provider.quotas = &quota;
        provider.quotas_len = 1;
        check_grate(grate_engine_upsert_provider(engine, &provider, &err), "grate_engine_upsert_provider", &err);

        grate_capability_provider_init(&members[i], sizeof members[i]);
        members[i].provider = u->name;
    }
    capability.name = CAPABILITY;
    capability.providers = members;
    capability.providers_len = UPSTREAMS;
    check_grate(grate_engine_upsert_capability(engine, &capability, &err), "grate_engine_upsert_capability", &err);
    return engine;
}

static int grate_choose(void *state, struct request *request, uint64_t *wait)
{
    grate_engine *engine = state;
    grate_error err = GRATE_ERROR_INIT;
    grate_request demand = GRATE_REQUEST_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    const char *exclude[UPSTREAMS];
    grate_status status;
    int i;

    for (i = 0; i < UPSTREAMS; i++)
        if (leave_out(request, i))
            exclude[demand.exclude_len++] = upstreams[i].name;
    demand.exclude = exclude;

    /* Chooses and reserves in one step: what it returns has room for this request. */
    status = grate_engine_acquire(engine, CAPABILITY, &demand, &decision, &err);
    if (status == GRATE_ERR_NO_PROVIDER_AVAILABLE) {
        *wait = decision.retry_after_ns;
        return -1;
    }
    check_grate(status, "grate_engine_acquire", &err);

    request->lease = decision.lease;
    for (i = 0; i < UPSTREAMS - 1 && strcmp(upstreams[i].name, decision.provider) != 0; i++)
        ;
    return i;
}

static void grate_report(void *state, struct request *request, const struct answer *answer)
{
    grate_engine *engine = state;
    grate_error err = GRATE_ERROR_INIT;
    grate_response response = GRATE_RESPONSE_INIT;

    if (answer->status != 0)
        response.http_status = (int32_t)answer->status;
    else
        response.outcome = answer->timed_out ? GRATE_OUTCOME_TIMEOUT : GRATE_OUTCOME_SERVER_ERROR;
    response.latency_ns = answer->latency_ns;
    response.retry_after_ns = answer->retry_after;
    check_grate(grate_engine_complete(engine, request->lease, &response, &err), "grate_engine_complete", &err);
}

/* Each lease must be settled, or what it holds stays taken until it expires: worth a check, or an alarm, anywhere. */
static void grate_check_settled(grate_engine *engine)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_metrics metrics = GRATE_METRICS_INIT;

    check_grate(grate_engine_metrics(engine, &metrics, &err), "grate_engine_metrics", &err);
    if (metrics.leases_in_flight != 0 || metrics.expired_leases != 0)
        die("%" PRIu64 " leases were never settled", metrics.leases_in_flight + metrics.expired_leases);
}

/* ---- The load ---------------------------------------------------------------------------------------------------- */

struct load {
    uint64_t *arrivals; /* nanoseconds from the start of a run, ascending */
    size_t count;
    uint64_t outage_from, outage_to;
};

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* As many requests from one moment to another as the rate says, at random times. */
static void add_arrivals(struct load *load, uint64_t from, uint64_t to, uint64_t per_second, uint64_t *seed)
{
    uint64_t n = (to - from) * per_second / SECOND;

    for (; n > 0; n--)
        load->arrivals[load->count++] = from + random_u64(seed) % (to - from);
}

/* Made once, so that both runs get the same. */
static struct load make_load(const struct options *options)
{
    struct load load = {NULL, 0, 0, 0};
    uint64_t end = options->seconds * SECOND, seed = options->seed;
    uint64_t burst_from = end / 100 * BURST_FROM, burst_to = end / 100 * BURST_TO;

    load.arrivals = allocate(options->seconds * BURST_RATE, sizeof *load.arrivals);
    add_arrivals(&load, 0, burst_from, STEADY_RATE, &seed);
    add_arrivals(&load, burst_from, burst_to, BURST_RATE, &seed);
    add_arrivals(&load, burst_to, end, STEADY_RATE, &seed);
    qsort(load.arrivals, load.count, sizeof *load.arrivals, compare_u64);
    load.outage_from = end / 100 * OUTAGE_FROM;
    load.outage_to = end / 100 * OUTAGE_TO;
    return load;
}

/* The outage is real: while the file exists, silver answers 503. */
static void set_outage(const struct options *options, int on)
{
    if (on) {
        FILE *file = fopen(options->outage_file, "w");

        if (file == NULL || fclose(file) != 0)
            die("cannot write %s", options->outage_file);
    } else if (unlink(options->outage_file) != 0) {
        die("cannot remove %s", options->outage_file);
    }
}

/* ---- One run ----------------------------------------------------------------------------------------------------- */

struct counts {
    unsigned sent, served, limited, errors;
};

struct result {
    unsigned offered, gave_up;
    struct counts all, upstream[UPSTREAMS];
    double p50_ms, p99_ms;
};

struct run {
    const struct router *router;
    struct request *requests;
    size_t count;
    size_t arrived;
    size_t settled_below; /* all requests before this one are settled */
    CURLM *multi;
    struct result result;
};

static size_t discard(char *data, size_t size, size_t count, void *unused)
{
    (void)data;
    (void)unused;
    return size * count;
}

static void count_answer(struct counts *counts, const struct answer *answer)
{
    counts->sent++;
    if (answer->status == 200)
        counts->served++;
    else if (answer->status == 429)
        counts->limited++;
    else
        counts->errors++;
}

static void send_request(struct run *run, struct request *request)
{
    CURL *easy = curl_easy_init();
    uint64_t now = now_ns(), left = request->deadline > now ? request->deadline - now : 0;

    if (easy == NULL)
        die("curl_easy_init failed");
    check_easy(curl_easy_setopt(easy, CURLOPT_URL, upstreams[request->upstream].url), "CURLOPT_URL");
    check_easy(curl_easy_setopt(easy, CURLOPT_NOPROXY, "*"), "CURLOPT_NOPROXY");
    check_easy(curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(left / MS) + 1), "CURLOPT_TIMEOUT_MS");
    check_easy(curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard), "CURLOPT_WRITEFUNCTION");
    check_easy(curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *)request), "CURLOPT_PRIVATE");
    check_multi(curl_multi_add_handle(run->multi, easy), "curl_multi_add_handle");
    request->easy = easy;
    request->attempts++;
    request->state = IN_FLIGHT;
}

/* A request that waits and whose time has come: sends it, or lets it wait on, or gives it up. */
static void try_request(struct run *run, struct request *request)
{
    uint64_t now = now_ns(), wait = 0;

    if (now >= request->deadline) {
        request->state = GAVE_UP;
        return;
    }
    request->upstream = run->router->choose(run->router->state, request, &wait);
    if (request->upstream >= 0)
        send_request(run, request);
    else if (wait >= request->deadline - now)
        request->state = GAVE_UP; /* the answer would be late: better to say so now */
    else
        request->wake = now + wait;
}

/* An attempt is over: tells the router, and settles the request or has it tried elsewhere. */
static void finish_attempt(struct run *run, CURL *easy, CURLcode code)
{
    struct request *request = NULL;
    struct answer answer = {0, 0, 0, 0};
    curl_off_t microseconds = 0, retry_after = 0;
    char *private = NULL;

    check_easy(curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private), "CURLINFO_PRIVATE");
    request = (struct request *)(void *)private;
    if (code == CURLE_OK) {
        check_easy(curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answer.status), "CURLINFO_RESPONSE_CODE");
        check_easy(curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after), "CURLINFO_RETRY_AFTER");
    }
    check_easy(curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &microseconds), "CURLINFO_TOTAL_TIME_T");
    answer.timed_out = code == CURLE_OPERATION_TIMEDOUT;
    answer.latency_ns = (uint64_t)microseconds * 1000;
    answer.retry_after = (uint64_t)retry_after * SECOND;

    check_multi(curl_multi_remove_handle(run->multi, easy), "curl_multi_remove_handle");
    curl_easy_cleanup(easy);
    request->easy = NULL;

    run->router->report(run->router->state, request, &answer);
    count_answer(&run->result.all, &answer);
    count_answer(&run->result.upstream[request->upstream], &answer);

    if (answer.status == 200) {
        request->finished = now_ns();
        request->state = SERVED;
    } else {
        request->failed |= 1u << request->upstream;
        request->wake = 0;
        request->state = request->attempts < MAX_ATTEMPTS ? WAITING : GAVE_UP;
    }
}

static void summarise(struct run *run)
{
    uint64_t *took = allocate(run->count, sizeof *took);
    size_t i, served = 0;

    for (i = 0; i < run->count; i++) {
        if (run->requests[i].state == SERVED)
            took[served++] = run->requests[i].finished - run->requests[i].arrival;
        else
            run->result.gave_up++;
    }
    if (served > 0) {
        qsort(took, served, sizeof *took, compare_u64);
        run->result.p50_ms = (double)took[served / 2] / 1e6;
        run->result.p99_ms = (double)took[served * 99 / 100] / 1e6;
    }
    run->result.offered = (unsigned)run->count;
    free(took);
}

static void print_progress(const struct run *run, uint64_t elapsed, int outage)
{
    size_t i, waiting = 0;

    for (i = run->settled_below; i < run->arrived; i++)
        waiting += run->requests[i].state == WAITING;
    printf("  %3u s   offered %4zu   served %4u   429s %4u   errors %3u   waiting %3zu%s\n",
           (unsigned)(elapsed / SECOND), run->arrived, run->result.all.served, run->result.all.limited,
           run->result.all.errors, waiting, outage ? "   (silver is down)" : "");
    fflush(stdout);
}

static struct result send_load(const struct options *options, const struct load *load, const struct router *router)
{
    struct run run;
    uint64_t start, progress = 2 * SECOND;
    size_t i;
    int outage = 0;

    memset(&run, 0, sizeof run);
    run.router = router;
    run.count = load->count;
    run.requests = allocate(load->count, sizeof *run.requests);
    run.multi = curl_multi_init();
    if (run.multi == NULL)
        die("curl_multi_init failed");

    printf("\n%s\n", router->name);
    sleep_ms(REST_MS);
    start = now_ns();
    for (i = 0; i < run.count; i++) {
        run.requests[i].arrival = start + load->arrivals[i];
        run.requests[i].deadline = run.requests[i].arrival + PATIENCE;
    }

    for (;;) {
        uint64_t elapsed = now_ns() - start, next, now;
        int running = 0, left = 0, poll_ms;
        CURLMsg *message;

        if ((elapsed >= load->outage_from && elapsed < load->outage_to) != outage) {
            outage = !outage;
            set_outage(options, outage);
        }
        if (elapsed >= progress) {
            print_progress(&run, elapsed, outage);
            progress += 2 * SECOND;
        }

        while (run.arrived < run.count && load->arrivals[run.arrived] <= elapsed)
            run.arrived++;

        check_multi(curl_multi_perform(run.multi, &running), "curl_multi_perform");
        while ((message = curl_multi_info_read(run.multi, &left)) != NULL)
            if (message->msg == CURLMSG_DONE)
                finish_attempt(&run, message->easy_handle, message->data.result);

        /* Those that wait, the oldest first; and when the next of them, or anything else, is due. */
        next = start + progress;
        if (run.arrived < run.count && start + load->arrivals[run.arrived] < next)
            next = start + load->arrivals[run.arrived];
        if (elapsed < load->outage_from && start + load->outage_from < next)
            next = start + load->outage_from;
        if (outage && start + load->outage_to < next)
            next = start + load->outage_to;
        for (i = run.settled_below; i < run.arrived; i++) {
            struct request *request = &run.requests[i];

            if (request->state == WAITING && request->wake <= now_ns())
                try_request(&run, request);
            if (request->state == WAITING && request->wake < next)
                next = request->wake;
        }
        while (run.settled_below < run.arrived && run.requests[run.settled_below].state >= SERVED)
            run.settled_below++;

        if (run.settled_below == run.count)
            break;

        /*
         * Nobody sleeps for a request that has to wait: its time is the timeout of the event loop. Rounded up, or the
         * loop would spin through the last millisecond; curl returns earlier when there is something to send or read.
         */
        now = now_ns();
        poll_ms = next > now ? (int)((next - now + MS - 1) / MS) : 0;
        check_multi(curl_multi_poll(run.multi, NULL, 0, poll_ms, NULL), "curl_multi_poll");
    }
    if (outage)
        set_outage(options, 0);
    print_progress(&run, now_ns() - start, 0);

    summarise(&run);
    check_multi(curl_multi_cleanup(run.multi), "curl_multi_cleanup");
    free(run.requests);
    return run.result;
}

/* ---- The result -------------------------------------------------------------------------------------------------- */

static double percent(unsigned part, unsigned whole)
{
    return whole == 0 ? 0.0 : 100.0 * part / whole;
}

static void print_row(const char *name, unsigned a, unsigned b)
{
    printf("%-28s%12u         %12u\n", name, a, b);
}

static void print_share(const char *name, unsigned a, unsigned a_of, unsigned b, unsigned b_of)
{
    printf("%-28s%12u %6.1f %%%12u %6.1f %%\n", name, a, percent(a, a_of), b, percent(b, b_of));
}

static void print_table(const struct result *a, const struct result *b)
{
    char name[64];
    int i;

    printf("\n%-28s%15s      %15s\n", "", "plain failover", "libgrate");
    print_row("requests offered", a->offered, b->offered);
    print_share("served (goodput)", a->all.served, a->offered, b->all.served, b->offered);
    print_share("gave up", a->gave_up, a->offered, b->gave_up, b->offered);
    print_row("HTTP requests sent", a->all.sent, b->all.sent);
    print_share("429s", a->all.limited, a->all.sent, b->all.limited, b->all.sent);
    print_share("errors (5xx, transport)", a->all.errors, a->all.sent, b->all.errors, b->all.sent);
    printf("%-28s%12.0f ms      %12.0f ms\n", "time to answer, served, p50", a->p50_ms, b->p50_ms);
    printf("%-28s%12.0f ms      %12.0f ms\n", "time to answer, served, p99", a->p99_ms, b->p99_ms);

    printf("\n%-28s%21s%21s\n", "sent / 200 / 429 / error", "plain failover", "libgrate");
    for (i = 0; i < UPSTREAMS; i++) {
        const struct counts *x = &a->upstream[i], *y = &b->upstream[i];

        snprintf(name, sizeof name, "%s, %" PRIu32 "/s + %" PRIu32, upstreams[i].name, upstreams[i].per_second,
                 upstreams[i].burst);
        printf("%-28s%6u%5u%5u%5u%6u%5u%5u%5u\n", name, x->sent, x->served, x->limited, x->errors, y->sent, y->served,
               y->limited, y->errors);
    }
}

/* ---- Start and end ----------------------------------------------------------------------------------------------- */

/* Asks an upstream, outside its limit, until it answers. */
static void wait_until_ready(const char *base)
{
    CURL *easy = curl_easy_init();
    CURLcode code = CURLE_OK;
    char url[256];
    long status = 0;
    int tries;

    if (easy == NULL)
        die("curl_easy_init failed");
    snprintf(url, sizeof url, "%s/ready", base);
    check_easy(curl_easy_setopt(easy, CURLOPT_URL, url), "CURLOPT_URL");
    check_easy(curl_easy_setopt(easy, CURLOPT_NOPROXY, "*"), "CURLOPT_NOPROXY");
    check_easy(curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 1000L), "CURLOPT_TIMEOUT_MS");
    check_easy(curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard), "CURLOPT_WRITEFUNCTION");
    for (tries = 0; tries < 50 && status != 204; tries++) {
        if (tries > 0)
            sleep_ms(100);
        code = curl_easy_perform(easy);
        if (code == CURLE_OK)
            check_easy(curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status), "CURLINFO_RESPONSE_CODE");
    }
    curl_easy_cleanup(easy);
    if (status != 204)
        die("%s does not answer: %s", url, code == CURLE_OK ? "wrong status" : curl_easy_strerror(code));
}

static uint64_t parse_number(const char *option, const char *text, uint64_t low, uint64_t high)
{
    char *end = NULL;
    unsigned long long value;

    if (text == NULL || *text < '0' || *text > '9')
        die("%s needs a number", option);
    value = strtoull(text, &end, 10);
    if (*end != '\0' || value < low || value > high)
        die("%s needs a number from %" PRIu64 " to %" PRIu64, option, low, high);
    return value;
}

static void parse_arguments(int argc, char **argv, struct options *options)
{
    int i, u;

    for (i = 1; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0)
            options->seconds = parse_number(argv[i], argv[i + 1], 5, 600);
        else if (strcmp(argv[i], "--seed") == 0)
            options->seed = parse_number(argv[i], argv[i + 1], 0, UINT32_MAX);
        else if (strcmp(argv[i], "--bench-ms") == 0)
            options->bench_ms = parse_number(argv[i], argv[i + 1], 0, 600000);
        else if (strcmp(argv[i], "--jitter-ms") == 0)
            options->jitter_ms = parse_number(argv[i], argv[i + 1], 0, 600000);
        else
            die("unknown option %s", argv[i]);
    }
    if (argc - i != 1 + UPSTREAMS)
        die("usage: demo_http [option N]... OUTAGE_FILE GOLD_URL SILVER_URL BRONZE_URL\n"
            "  --seconds    length of each of the two runs (20)\n"
            "  --seed       of the random arrivals (1)\n"
            "  --bench-ms   how long plain failover leaves an upstream alone that failed (500); 0: by Retry-After\n"
            "  --jitter-ms  how much plain failover adds to a wait, at random up to this (0)");
    options->outage_file = argv[i++];
    for (u = 0; u < UPSTREAMS; u++, i++) {
        size_t size = strlen(argv[i]) + sizeof "/v1/answer";

        wait_until_ready(argv[i]);
        upstreams[u].url = allocate(size, 1);
        snprintf(upstreams[u].url, size, "%s/v1/answer", argv[i]);
    }
}

int main(int argc, char **argv)
{
    struct options options = {20, 1, BENCH_MS, 0, NULL};
    struct failover failover = {{0}, 0, 0, 0};
    struct router plain = {"Plain failover", NULL, failover_choose, failover_report};
    struct router grate = {"libgrate", NULL, grate_choose, grate_report};
    struct result a, b;
    struct load load;
    grate_engine *engine;
    int i, few_429s, goodput;

    check_easy(curl_global_init(CURL_GLOBAL_DEFAULT), "curl_global_init");
    parse_arguments(argc, argv, &options);
    load = make_load(&options);
    if (load.count == 0)
        die("this seed gives no load");
    printf("%zu requests in %" PRIu64 " s (seed %" PRIu64 "), to upstreams that allow", load.count, options.seconds,
           options.seed);
    for (i = 0; i < UPSTREAMS; i++)
        printf("%s %" PRIu32, i == 0 ? "" : " +", upstreams[i].per_second);
    printf(" per second\n");

    failover.bench = options.bench_ms * MS;
    failover.jitter = options.jitter_ms * MS;
    failover.seed = options.seed;
    plain.state = &failover;
    a = send_load(&options, &load, &plain);

    engine = grate_setup();
    grate.state = engine;
    b = send_load(&options, &load, &grate);
    grate_check_settled(engine);
    grate_engine_free(engine);

    print_table(&a, &b);
    few_429s = (uint64_t)b.all.limited * 100 < b.all.sent;
    goodput = b.all.served >= a.all.served;
    printf("\n429s with libgrate under 1 %% of its requests: %s\n", few_429s ? "yes" : "NO");
    printf("goodput with libgrate not below plain failover: %s\n", goodput ? "yes" : "NO");

    for (i = 0; i < UPSTREAMS; i++)
        free(upstreams[i].url);
    free(load.arrivals);
    curl_global_cleanup();
    return few_429s && goodput ? 0 : 1;
}
