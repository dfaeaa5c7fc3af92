/*
 * Replays the scenarios of conformance/ (its README has the format), given as arguments, through the C API.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grate.h"
#include "json.h"

#define DEFAULT_UNIX_MS 1767225600000u
#define DEFAULT_WITHIN 1e-9
#define NS_PER_MS 1000000u
#define MAX_CANDIDATES 64
#define MAX_EXCLUDED 64
#define MAX_LEASES 64
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

typedef struct {
    const char *name;
    int32_t code;
} code_name;

static const code_name DIMENSIONS[] = {
    {"requests", GRATE_DIMENSION_REQUESTS},
    {"tokens", GRATE_DIMENSION_TOKENS},
    {"input_tokens", GRATE_DIMENSION_INPUT_TOKENS},
    {"output_tokens", GRATE_DIMENSION_OUTPUT_TOKENS},
    {"concurrency", GRATE_DIMENSION_CONCURRENCY},
    {"bytes", GRATE_DIMENSION_BYTES},
    {"cost_micro_usd", GRATE_DIMENSION_COST_MICRO_USD},
    {NULL, 0},
};
static const code_name HOLDS[] = {
    {"nothing", GRATE_HELD_BY_NOTHING},
    {"cooldown", GRATE_HELD_BY_COOLDOWN},
    {"health", GRATE_HELD_BY_HEALTH},
    {"quota", GRATE_HELD_BY_QUOTA},
    {"concurrency", GRATE_HELD_BY_CONCURRENCY},
    {"probe", GRATE_HELD_BY_PROBE},
    {"exclusion", GRATE_HELD_BY_EXCLUSION},
    {NULL, 0},
};
static const code_name OUTCOMES[] = {
    {"success", GRATE_OUTCOME_SUCCESS},
    {"rate_limited", GRATE_OUTCOME_RATE_LIMITED},
    {"quota_exhausted", GRATE_OUTCOME_QUOTA_EXHAUSTED},
    {"forbidden", GRATE_OUTCOME_FORBIDDEN},
    {"server_error", GRATE_OUTCOME_SERVER_ERROR},
    {"overloaded", GRATE_OUTCOME_OVERLOADED},
    {"timeout", GRATE_OUTCOME_TIMEOUT},
    {"client_error", GRATE_OUTCOME_CLIENT_ERROR},
    {"cancelled", GRATE_OUTCOME_CANCELLED},
    {NULL, 0},
};
static const code_name CIRCUITS[] = {
    {"closed", GRATE_CIRCUIT_CLOSED},
    {"open", GRATE_CIRCUIT_OPEN},
    {"half_open", GRATE_CIRCUIT_HALF_OPEN},
    {"ramping", GRATE_CIRCUIT_RAMPING},
    {NULL, 0},
};

#define REQUEST_KEYS "tokens input_tokens output_tokens bytes cost_micro_usd headroom exclude "
#define RESPONSE_KEYS \
    "outcome http_status latency_ms retry_after_ms requests tokens input_tokens output_tokens bytes cost_micro_usd "
#define DECISION_KEYS \
    "error within provider held_by held_dimension held_window_ns score quota health priority latency " \
    "seconds_to_exhaustion retry_after_ns weights "

typedef struct {
    const char *name;
    uint64_t id;
} named_lease;

typedef struct {
    grate_clock *clock;
    grate_engine *engine;
    named_lease leases[MAX_LEASES];
    size_t leases_len;
    uint64_t trace; /* a hash of all decisions */
    char where[256];
    char why[1024];
} replay;

/* What decisions and their rows have in common. */
typedef struct {
    const char *provider;
    int32_t held_by, held_dimension;
    uint64_t held_window_ns, retry_after_ns;
    double score, components[4], seconds_to_exhaustion;
} seen;

static const char *const COMPONENTS[] = {"quota", "health", "priority", "latency"};

/* Every check below returns 1 if it holds; otherwise it says why not and returns 0. */
static int fail(replay *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->why, sizeof r->why, format, arguments);
    va_end(arguments);
    return 0;
}

/* Whether an object has no other keys than those of a list, each followed by a space. */
static int only(replay *r, const json *object, const char *keys)
{
    const json *member;
    if (object == NULL || object->type != JSON_OBJECT) {
        return fail(r, "an object is missing");
    }
    for (member = object->child; member != NULL; member = member->next) {
        const char *at = keys;
        size_t length = strlen(member->key);
        while (strncmp(at, member->key, length) != 0 || at[length] != ' ') {
            at = strchr(at, ' ') + 1;
            if (*at == '\0') {
                return fail(r, "unknown key '%s'", member->key);
            }
        }
    }
    return 1;
}

static int code_of(replay *r, const code_name *table, const json *node, int32_t *out)
{
    const char *name = json_string(node);
    for (; name != NULL && table->name != NULL; table++) {
        if (strcmp(table->name, name) == 0) {
            *out = table->code;
            return 1;
        }
    }
    return fail(r, "unknown name '%s'", name != NULL ? name : "?");
}

static const char *name_of(const code_name *table, int32_t code)
{
    for (; table->name != NULL; table++) {
        if (table->code == code) {
            return table->name;
        }
    }
    return "none";
}

static int whole(replay *r, const json *object, const char *key, uint64_t absent, uint64_t *out)
{
    const json *node = json_get(object, key);
    *out = absent;
    return node == NULL || json_u64(node, out) || fail(r, "'%s' is not a whole number", key);
}

static int text(replay *r, const json *object, const char *key, const char **out)
{
    *out = json_string(json_get(object, key));
    return *out != NULL || fail(r, "'%s' is missing or no string", key);
}

static int same_u64(replay *r, const char *what, const json *expected, uint64_t got)
{
    uint64_t exact, min, max;
    int fits;
    if (expected->type == JSON_STRING && strcmp(expected->string, "never") == 0) {
        fits = got == GRATE_NEVER;
    } else if (expected->type == JSON_OBJECT) {
        if (!only(r, expected, "min max ") || !whole(r, expected, "min", 0, &min) ||
            !whole(r, expected, "max", UINT64_MAX, &max)) {
            return 0;
        }
        fits = min <= got && got <= max;
    } else {
        fits = json_u64(expected, &exact) && exact == got;
    }
    return fits || fail(r, "%s: expected %.*s, got %" PRIu64, what, (int)expected->length, expected->text, got);
}

static int same_double(replay *r, const char *what, const json *expected, double got, double within)
{
    int fits;
    if (expected->type == JSON_STRING && strcmp(expected->string, "never") == 0) {
        fits = got > 0 && isinf(got);
    } else if (expected->type == JSON_OBJECT) {
        const json *min = json_get(expected, "min"), *max = json_get(expected, "max");
        if (!only(r, expected, "min max ")) {
            return 0;
        }
        fits = !isnan(got) && (min == NULL || got >= min->number) && (max == NULL || got <= max->number);
    } else {
        fits = expected->type == JSON_NUMBER && fabs(got - expected->number) <= within;
    }
    return fits || fail(r, "%s: expected %.*s within %g, got %.17g", what, (int)expected->length, expected->text, within, got);
}

static double within_of(const json *object)
{
    const json *within = json_get(object, "within");
    return within != NULL ? within->number : DEFAULT_WITHIN;
}

/* Compares a status with its expectation: GRATE_OK if there is none. */
static int status_is(replay *r, const json *expected, grate_status status, const grate_error *err)
{
    const char *want = expected != NULL ? json_string(expected) : "GRATE_OK";
    const char *got = grate_status_name(status);
    if (want == NULL || strcmp(want, got) != 0) {
        return fail(r, "expected %s, got %s (%s)", want != NULL ? want : "?", got, err->message);
    }
    if (err->code != status || (status == GRATE_OK) != (err->message[0] == '\0')) {
        return fail(r, "%s, but the error has code %d and the message '%s'", got, (int)err->code, err->message);
    }
    return 1;
}

static int settled(replay *r, const json *step, grate_status status, const grate_error *err)
{
    const json *expect = json_get(step, "expect");
    return (expect == NULL || only(r, expect, "error ")) && status_is(r, json_get(expect, "error"), status, err);
}

static int lease_of(replay *r, const json *step, uint64_t *out)
{
    const json *node = json_get(step, "lease");
    const char *name = json_string(node);
    size_t i;
    if (name == NULL) {
        return json_u64(node, out) || fail(r, "'lease' is missing");
    }
    for (i = 0; i < r->leases_len; i++) {
        if (strcmp(r->leases[i].name, name) == 0) {
            *out = r->leases[i].id;
            return 1;
        }
    }
    return fail(r, "no lease is called '%s'", name);
}

static int keep_lease(replay *r, const char *name, uint64_t id)
{
    size_t i = 0;
    while (i < r->leases_len && strcmp(r->leases[i].name, name) != 0) {
        i++;
    }
    if (i == MAX_LEASES) {
        return fail(r, "too many names of leases");
    }
    r->leases_len += i == r->leases_len;
    r->leases[i].name = name;
    r->leases[i].id = id;
    return 1;
}

/* In a scenario 0 is a true zero, which C spells GRATE_ZERO. */
static int given(replay *r, const json *step, const char *key, uint64_t unit, uint64_t *out)
{
    if (!whole(r, step, key, 0, out)) {
        return 0;
    }
    *out = json_get(step, key) == NULL ? 0 : *out == 0 ? GRATE_ZERO : *out * unit;
    return 1;
}

static int response_of(replay *r, const json *step, grate_response *out)
{
    uint64_t http_status;
    if ((json_get(step, "outcome") != NULL && !code_of(r, OUTCOMES, json_get(step, "outcome"), &out->outcome)) ||
        !whole(r, step, "http_status", 0, &http_status)) {
        return 0;
    }
    out->http_status = (int32_t)http_status;
    return given(r, step, "latency_ms", NS_PER_MS, &out->latency_ns) &&
           given(r, step, "retry_after_ms", NS_PER_MS, &out->retry_after_ns) &&
           given(r, step, "requests", 1, &out->requests) && given(r, step, "tokens", 1, &out->tokens) &&
           given(r, step, "input_tokens", 1, &out->input_tokens) &&
           given(r, step, "output_tokens", 1, &out->output_tokens) && given(r, step, "bytes", 1, &out->bytes) &&
           given(r, step, "cost_micro_usd", 1, &out->cost_micro_usd);
}

static seen of_decision(const grate_decision *d)
{
    seen s = {d->provider, d->held_by, d->held_dimension, d->held_window_ns, d->retry_after_ns, d->score,
              {d->quota_score, d->health_score, d->priority_score, d->latency_score}, d->seconds_to_exhaustion};
    return s;
}

static seen of_candidate(const grate_candidate *c)
{
    seen s = {c->provider, c->held_by, c->held_dimension, c->held_window_ns, c->retry_after_ns, c->score,
              {c->quota_score, c->health_score, c->priority_score, c->latency_score}, c->seconds_to_exhaustion};
    return s;
}

/* FNV-1a. */
static void trace(replay *r, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    while (length-- > 0) {
        r->trace = (r->trace ^ *at++) * 1099511628211u;
    }
}

/* What holds of every decision; and remembers it. */
static int sane(replay *r, const seen *s)
{
    size_t i;
    if (!(s->score >= 0 && s->score <= 1)) {
        return fail(r, "the score of '%s' is %g", s->provider != NULL ? s->provider : "", s->score);
    }
    for (i = 0; i < LENGTH(COMPONENTS); i++) {
        if (!(s->components[i] >= 0 && s->components[i] <= 1)) {
            return fail(r, "%s of '%s' is %g", COMPONENTS[i], s->provider != NULL ? s->provider : "", s->components[i]);
        }
    }
    trace(r, &s->score, sizeof s->score);
    trace(r, s->components, sizeof s->components);
    trace(r, &s->seconds_to_exhaustion, sizeof s->seconds_to_exhaustion);
    trace(r, &s->retry_after_ns, sizeof s->retry_after_ns);
    trace(r, &s->held_by, sizeof s->held_by);
    return 1;
}

static int matches(replay *r, const json *expect, const seen *s)
{
    const json *node, *weights = json_get(expect, "weights");
    double within = within_of(expect), sum = 0;
    int32_t code;
    size_t i;
    if ((node = json_get(expect, "provider")) != NULL) {
        const char *want = json_string(node);
        if (want == NULL ? s->provider != NULL : s->provider == NULL || strcmp(want, s->provider) != 0) {
            return fail(r, "provider: expected %.*s, got %s", (int)node->length, node->text,
                        s->provider != NULL ? s->provider : "none");
        }
    }
    if ((node = json_get(expect, "held_by")) != NULL) {
        if (!code_of(r, HOLDS, node, &code)) {
            return 0;
        }
        if (code != s->held_by) {
            return fail(r, "held_by: expected %s, got %s", node->string, name_of(HOLDS, s->held_by));
        }
    }
    if ((node = json_get(expect, "held_dimension")) != NULL) {
        code = 0;
        if (node->type != JSON_NULL && !code_of(r, DIMENSIONS, node, &code)) {
            return 0;
        }
        if (code != s->held_dimension) {
            return fail(r, "held_dimension: expected %.*s, got %s", (int)node->length, node->text,
                        name_of(DIMENSIONS, s->held_dimension));
        }
    }
    if (((node = json_get(expect, "held_window_ns")) != NULL && !same_u64(r, "held_window_ns", node, s->held_window_ns)) ||
        ((node = json_get(expect, "retry_after_ns")) != NULL && !same_u64(r, "retry_after_ns", node, s->retry_after_ns)) ||
        ((node = json_get(expect, "score")) != NULL && !same_double(r, "score", node, s->score, within)) ||
        ((node = json_get(expect, "seconds_to_exhaustion")) != NULL &&
         !same_double(r, "seconds_to_exhaustion", node, s->seconds_to_exhaustion, within))) {
        return 0;
    }
    for (i = 0; i < LENGTH(COMPONENTS); i++) {
        if ((node = json_get(expect, COMPONENTS[i])) != NULL &&
            !same_double(r, COMPONENTS[i], node, s->components[i], within)) {
            return 0;
        }
    }
    if (weights != NULL) {
        if (!only(r, weights, "quota health priority latency ")) {
            return 0;
        }
        for (i = 0; i < LENGTH(COMPONENTS); i++) {
            if ((node = json_get(weights, COMPONENTS[i])) == NULL) {
                return fail(r, "weights without '%s'", COMPONENTS[i]);
            }
            sum += node->number * s->components[i];
        }
        if (!(fabs(sum - s->score) <= within)) {
            return fail(r, "score: the weighted components are %.17g, it is %.17g", sum, s->score);
        }
    }
    return 1;
}

static int candidates_match(replay *r, const json *expected, const grate_candidate *rows, uint64_t len)
{
    const json *node = expected->child;
    uint64_t i;
    for (i = 0; i < len || node != NULL; i++, node = node->next) {
        seen s;
        const char *want = node == NULL ? NULL : json_string(node->type == JSON_OBJECT ? json_get(node, "provider") : node);
        if (i == len || want == NULL || strcmp(want, rows[i].provider) != 0) {
            return fail(r, "candidate %" PRIu64 ": expected %s, got %s", i + 1, want != NULL ? want : "no more",
                        i < len ? rows[i].provider : "no more");
        }
        s = of_candidate(&rows[i]);
        if (node->type == JSON_OBJECT && (!only(r, node, DECISION_KEYS) || !matches(r, node, &s))) {
            return 0;
        }
    }
    return 1;
}

static int route(replay *r, int acquire, const json *step)
{
    grate_request request = GRATE_REQUEST_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_candidate rows[MAX_CANDIDATES] = {GRATE_CANDIDATE_INIT};
    grate_error err = GRATE_ERROR_INIT;
    const char *exclude[MAX_EXCLUDED], *capability;
    const json *expect = json_get(step, "expect"), *node;
    grate_status status;
    seen s;
    uint64_t i;
    if (!only(r, step, REQUEST_KEYS "capability as expect ") || !text(r, step, "capability", &capability) ||
        (expect != NULL && !only(r, expect, DECISION_KEYS "candidates ")) ||
        !whole(r, step, "tokens", 0, &request.tokens) || !whole(r, step, "input_tokens", 0, &request.input_tokens) ||
        !whole(r, step, "output_tokens", 0, &request.output_tokens) || !whole(r, step, "bytes", 0, &request.bytes) ||
        !whole(r, step, "cost_micro_usd", 0, &request.cost_micro_usd)) {
        return 0;
    }
    if ((node = json_get(step, "headroom")) != NULL) {
        request.headroom = node->number;
    }
    if ((node = json_get(step, "exclude")) != NULL) {
        for (node = node->child; node != NULL && request.exclude_len < MAX_EXCLUDED; node = node->next) {
            exclude[request.exclude_len++] = json_string(node);
        }
        request.exclude = exclude;
    }
    decision.candidates = rows;
    decision.candidates_capacity = MAX_CANDIDATES;
    status = (acquire ? grate_engine_acquire : grate_engine_select)(r->engine, capability, &request, &decision, &err);
    if (!status_is(r, json_get(expect, "error"), status, &err)) {
        return 0;
    }
    if (status != GRATE_OK && status != GRATE_ERR_NO_PROVIDER_AVAILABLE) {
        return 1;
    }
    if (status == GRATE_OK && (decision.held_by != GRATE_HELD_BY_NOTHING || decision.retry_after_ns != 0)) {
        return fail(r, "chosen, but held by %s", name_of(HOLDS, decision.held_by));
    }
    if ((decision.lease != 0) != (acquire && status == GRATE_OK)) {
        return fail(r, "the lease is %" PRIu64, decision.lease);
    }
    s = of_decision(&decision);
    if (!sane(r, &s) || (expect != NULL && !matches(r, expect, &s))) {
        return 0;
    }
    for (i = 0; i < decision.candidates_len; i++) {
        s = of_candidate(&rows[i]);
        if (!sane(r, &s)) {
            return 0;
        }
    }
    node = json_get(expect, "candidates");
    if (node != NULL && !candidates_match(r, node, rows, decision.candidates_len)) {
        return 0;
    }
    return json_get(step, "as") == NULL || keep_lease(r, json_string(json_get(step, "as")), decision.lease);
}

static int configure(replay *r, const json *step, const char *document, size_t length)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_status status = grate_engine_configure_json(r->engine, document, length, &err);
    return settled(r, step, status, &err);
}

static int provider_state(replay *r, const json *step, grate_provider_state *out)
{
    grate_error err = GRATE_ERROR_INIT;
    const char *provider;
    return text(r, step, "provider", &provider) &&
           status_is(r, NULL, grate_engine_provider_state(r->engine, provider, out, &err), &err);
}

static int check_metrics(replay *r, const json *step)
{
    grate_provider_state p = GRATE_PROVIDER_STATE_INIT;
    grate_metrics m = GRATE_METRICS_INIT;
    grate_error err = GRATE_ERROR_INIT;
    const json *member;
    int one = json_get(step, "provider") != NULL;
    size_t i;
    if (one ? !provider_state(r, step, &p) : !status_is(r, NULL, grate_engine_metrics(r->engine, &m, &err), &err)) {
        return 0;
    }
    for (member = step->child; member != NULL; member = member->next) {
        const struct {
            const char *name;
            uint64_t value;
            int known;
        } counters[] = {
            {"selects", one ? p.selects : m.selects, 1},
            {"acquires", one ? p.acquires : m.acquires, 1},
            {"completions", one ? p.completions : m.completions, 1},
            {"cancellations", one ? p.cancellations : m.cancellations, 1},
            {"expired_leases", one ? p.expired_leases : m.expired_leases, 1},
            {"observations", one ? p.observations : m.observations, 1},
            {"cooldowns_triggered", one ? p.cooldowns_triggered : m.cooldowns_triggered, 1},
            {"rate_limited_responses", one ? p.rate_limited_responses : m.rate_limited_responses, 1},
            {"leases_in_flight", one ? p.leases_in_flight : m.leases_in_flight, 1},
            {"none_available", m.none_available, !one},
            {"consecutive_failures", p.consecutive_failures, one},
        };
        if (strcmp(member->key, "provider") == 0) {
            continue;
        }
        for (i = 0; i < LENGTH(counters) && (strcmp(counters[i].name, member->key) != 0 || !counters[i].known); i++) {
        }
        if (i == LENGTH(counters)) {
            return fail(r, "unknown counter '%s'", member->key);
        }
        if (!same_u64(r, member->key, member, counters[i].value)) {
            return 0;
        }
    }
    return 1;
}

static int advance(replay *r, const json *step)
{
    const json *unit;
    uint64_t n;
    if (!only(r, step, "secs ms ns ")) {
        return 0;
    }
    for (unit = step->child; unit != NULL; unit = unit->next) {
        grate_status status;
        if (!json_u64(unit, &n)) {
            return fail(r, "'%s' is not a whole number", unit->key);
        }
        if (strcmp(unit->key, "secs") == 0) {
            status = grate_clock_advance_secs(r->clock, n);
        } else if (strcmp(unit->key, "ms") == 0) {
            status = grate_clock_advance_ms(r->clock, n);
        } else {
            status = grate_clock_set_ns(r->clock, grate_clock_now_ns(r->clock) + n);
        }
        if (status != GRATE_OK) {
            return fail(r, "the clock: %s", grate_status_name(status));
        }
    }
    return 1;
}

static int run_steps(replay *r, const json *steps, const char *inside);

static int run_step(replay *r, const char *verb, const json *step)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    const char *name;
    uint64_t n, i;
    grate_status status;

    if (strcmp(verb, "advance") == 0) {
        return advance(r, step);
    }
    if (strcmp(verb, "set_ns") == 0) {
        return only(r, step, "ns ") && whole(r, step, "ns", 0, &n) &&
               (grate_clock_set_ns(r->clock, n) == GRATE_OK || fail(r, "the clock cannot be set"));
    }
    if (strcmp(verb, "select") == 0 || strcmp(verb, "acquire") == 0) {
        return route(r, verb[0] == 'a', step);
    }
    if (strcmp(verb, "complete") == 0) {
        if (!only(r, step, RESPONSE_KEYS "lease expect ") || !lease_of(r, step, &n) || !response_of(r, step, &response)) {
            return 0;
        }
        status = grate_engine_complete(r->engine, n, &response, &err);
        return settled(r, step, status, &err);
    }
    if (strcmp(verb, "cancel") == 0) {
        if (!only(r, step, "lease expect ") || !lease_of(r, step, &n)) {
            return 0;
        }
        status = grate_engine_cancel(r->engine, n, &err);
        return settled(r, step, status, &err);
    }
    if (strcmp(verb, "observe") == 0) {
        if (!only(r, step, RESPONSE_KEYS "provider expect ") || !text(r, step, "provider", &name) ||
            !response_of(r, step, &response)) {
            return 0;
        }
        status = grate_engine_observe(r->engine, name, &response, &err);
        return settled(r, step, status, &err);
    }
    if (strcmp(verb, "configure") == 0) {
        const json *config = json_get(step, "config");
        name = json_string(json_get(step, "text"));
        if (!only(r, step, "config text expect ") || (config == NULL && name == NULL && !fail(r, "'config' is missing"))) {
            return 0;
        }
        return name != NULL ? configure(r, step, name, strlen(name)) : configure(r, step, config->text, config->length);
    }
    if (strcmp(verb, "remove_provider") == 0 || strcmp(verb, "remove_capability") == 0) {
        if (!only(r, step, "name expect ") || !text(r, step, "name", &name)) {
            return 0;
        }
        status = (strcmp(verb, "remove_provider") == 0 ? grate_engine_remove_provider : grate_engine_remove_capability)(
            r->engine, name, &err);
        return settled(r, step, status, &err);
    }
    if (strcmp(verb, "check_health") == 0) {
        double health = NAN;
        const json *value = json_get(step, "value");
        if (!only(r, step, "provider value within error ") || !text(r, step, "provider", &name)) {
            return 0;
        }
        status = grate_engine_provider_health(r->engine, name, &health, &err);
        return status_is(r, json_get(step, "error"), status, &err) &&
               (status != GRATE_OK || (value != NULL ? same_double(r, "health", value, health, within_of(step))
                                                     : fail(r, "'value' is missing")));
    }
    if (strcmp(verb, "check_remaining") == 0) {
        const json *value = json_get(step, "value");
        int32_t dimension;
        if (!only(r, step, "provider dimension value error ") || !text(r, step, "provider", &name) ||
            !code_of(r, DIMENSIONS, json_get(step, "dimension"), &dimension)) {
            return 0;
        }
        status = grate_engine_remaining_quota(r->engine, name, dimension, &n, &err);
        return status_is(r, json_get(step, "error"), status, &err) &&
               (status != GRATE_OK ||
                (value != NULL ? same_u64(r, "remaining", value, n) : fail(r, "'value' is missing")));
    }
    if (strcmp(verb, "check_in_cooldown") == 0) {
        const json *value = json_get(step, "value");
        int32_t yes = -1;
        if (!only(r, step, "provider value ") || !text(r, step, "provider", &name) ||
            !status_is(r, NULL, grate_engine_provider_in_cooldown(r->engine, name, &yes, &err), &err)) {
            return 0;
        }
        return (value != NULL && yes == (value->type == JSON_TRUE)) || fail(r, "in cooldown: got %d", (int)yes);
    }
    if (strcmp(verb, "check_circuit") == 0) {
        grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
        int32_t want;
        if (!only(r, step, "provider value ") || !provider_state(r, step, &state) ||
            !code_of(r, CIRCUITS, json_get(step, "value"), &want)) {
            return 0;
        }
        return want == state.circuit ||
               fail(r, "circuit: expected %s, got %s", name_of(CIRCUITS, want), name_of(CIRCUITS, state.circuit));
    }
    if (strcmp(verb, "check_metrics") == 0) {
        return check_metrics(r, step);
    }
    if (strcmp(verb, "repeat") == 0) {
        char outside[sizeof r->where], inside[sizeof r->where + 32];
        if (!only(r, step, "times steps ") || !whole(r, step, "times", 0, &n)) {
            return 0;
        }
        snprintf(outside, sizeof outside, "%s", r->where);
        for (i = 1; i <= n; i++) {
            snprintf(inside, sizeof inside, "%s, round %" PRIu64 ", ", outside, i);
            if (!run_steps(r, json_get(step, "steps"), inside)) {
                return 0;
            }
        }
        return 1;
    }
    return fail(r, "unknown verb");
}

static int run_steps(replay *r, const json *steps, const char *inside)
{
    const json *step;
    int i = 1;
    if (steps == NULL || steps->type != JSON_ARRAY) {
        return fail(r, "'steps' is missing");
    }
    for (step = steps->child; step != NULL; step = step->next, i++) {
        if (step->type != JSON_OBJECT || step->child == NULL || step->child->next != NULL) {
            return fail(r, "step %d: a step has one verb", i);
        }
        snprintf(r->where, sizeof r->where, "%.200sstep %d (%.20s)", inside, i, step->child->key);
        if (!run_step(r, step->child->key, step->child)) {
            return 0;
        }
    }
    return 1;
}

/* Runs a scenario on an engine of its own. */
static int run_scenario(replay *r, const json *scenario)
{
    grate_engine_config settings = GRATE_ENGINE_CONFIG_INIT;
    const json *config = json_get(scenario, "config");
    uint64_t unix_ms;
    int passed;
    memset(r, 0, sizeof *r);
    snprintf(r->where, sizeof r->where, "config");
    if (!only(r, scenario, "name about unix_ms config steps ") ||
        !whole(r, scenario, "unix_ms", DEFAULT_UNIX_MS, &unix_ms) || (config == NULL && !fail(r, "'config' is missing"))) {
        return 0;
    }
    r->clock = grate_clock_mock_new(unix_ms);
    settings.clock = r->clock;
    passed = grate_engine_new(&settings, &r->engine, NULL) == GRATE_OK ? 1 : fail(r, "no engine");
    passed = passed && configure(r, NULL, config->text, config->length) && run_steps(r, json_get(scenario, "steps"), "");
    grate_engine_free(r->engine);
    grate_clock_free(r->clock);
    return passed;
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *content = NULL;
    long size;
    if (file != NULL && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0) {
        rewind(file);
        content = malloc((size_t)size + 1);
        if (content != NULL) {
            content[fread(content, 1, (size_t)size, file)] = '\0';
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return content;
}

int main(int argc, char **argv)
{
    static replay first, second;
    unsigned long passed = 0, failed = 0;
    int i;
    for (i = 1; i < argc; i++) {
        char *document = read_file(argv[i]);
        const char *error = "";
        json *file = document != NULL ? json_parse(document, &error) : NULL;
        const json *scenario;
        if (file == NULL || file->type != JSON_ARRAY) {
            fprintf(stderr, "%s: cannot be read as an array of scenarios, at '%.40s'\n", argv[i], error);
            failed++;
        }
        for (scenario = file != NULL ? file->child : NULL; scenario != NULL; scenario = scenario->next) {
            const char *name = json_string(json_get(scenario, "name"));
            if (!run_scenario(&first, scenario)) {
                fprintf(stderr, "%s: '%s', %s: %s\n", argv[i], name != NULL ? name : "?", first.where, first.why);
                failed++;
            } else if (!run_scenario(&second, scenario) || first.trace != second.trace) {
                fprintf(stderr, "%s: '%s': a second replay gave other decisions\n", argv[i], name != NULL ? name : "?");
                failed++;
            } else {
                passed++;
            }
        }
        json_free(file);
        free(document);
    }
    printf("conformance: %lu passed, %lu failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
