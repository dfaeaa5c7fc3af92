/*
 * A small test harness, for C99 and C++17: include it in one file per program.
 *
 *   TEST(adds) { CHECK_EQ_I32(1 + 1, 2); }
 *   int main(void) { RUN(adds); return check_report("sums"); }
 *
 * A failed check is printed with its place and both values, and the test goes on: one run shows all that is wrong.
 * Checks are for one thread; others hand their findings to it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GRATE_CHECK_H
#define GRATE_CHECK_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Not every program uses every helper, and an unused static function would be a warning. */
#if defined(__GNUC__) || defined(__clang__)
#define CHECK_MAYBE_UNUSED __attribute__((unused))
#define CHECK_PRINTF __attribute__((format(printf, 3, 4)))
#else
#define CHECK_MAYBE_UNUSED
#define CHECK_PRINTF
#endif

static unsigned long check_passed_tests CHECK_MAYBE_UNUSED;
static unsigned long check_failed_tests CHECK_MAYBE_UNUSED;
static unsigned long check_failures CHECK_MAYBE_UNUSED; /* of the test that runs */

/* Prints a failure and counts it. */
static void check_fail(const char *file, int line, const char *format, ...) CHECK_PRINTF CHECK_MAYBE_UNUSED;
static void check_fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    check_failures++;
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

static int check_true(const char *file, int line, int is_true, const char *text) CHECK_MAYBE_UNUSED;
static int check_true(const char *file, int line, int is_true, const char *text)
{
    if (!is_true) {
        check_fail(file, line, "%s is false", text);
    }
    return is_true;
}

static int check_eq_u64(const char *file, int line, uint64_t a, uint64_t b, const char *ta, const char *tb)
    CHECK_MAYBE_UNUSED;
static int check_eq_u64(const char *file, int line, uint64_t a, uint64_t b, const char *ta, const char *tb)
{
    if (a != b) {
        check_fail(file, line, "%s is %" PRIu64 ", %s is %" PRIu64, ta, a, tb, b);
    }
    return a == b;
}

static int check_eq_i32(const char *file, int line, int32_t a, int32_t b, const char *ta, const char *tb)
    CHECK_MAYBE_UNUSED;
static int check_eq_i32(const char *file, int line, int32_t a, int32_t b, const char *ta, const char *tb)
{
    if (a != b) {
        check_fail(file, line, "%s is %" PRId32 ", %s is %" PRId32, ta, a, tb, b);
    }
    return a == b;
}

/* Two NULLs are equal, and NULL differs from every string. */
static int check_str(const char *file, int line, const char *a, const char *b, const char *ta, const char *tb)
    CHECK_MAYBE_UNUSED;
static int check_str(const char *file, int line, const char *a, const char *b, const char *ta, const char *tb)
{
    int same = a != NULL && b != NULL ? strcmp(a, b) == 0 : a == b;
    if (!same) {
        check_fail(file, line, "%s is \"%s\", %s is \"%s\"", ta, a != NULL ? a : "(NULL)", tb,
                   b != NULL ? b : "(NULL)");
    }
    return same;
}

/* Written so that NaN is near nothing; two infinities of one sign are near. */
static int check_near(const char *file, int line, double a, double b, double eps, const char *ta, const char *tb)
    CHECK_MAYBE_UNUSED;
static int check_near(const char *file, int line, double a, double b, double eps, const char *ta, const char *tb)
{
    double difference = a < b ? b - a : a - b;
    int near_enough = (a <= b && a >= b) || difference <= eps;
    if (!near_enough) {
        check_fail(file, line, "%s is %.17g, %s is %.17g, more than %g apart", ta, a, tb, b, eps);
    }
    return near_enough;
}

/* Each is an expression: 1 if the check holds, else 0. */
#define CHECK(cond) check_true(__FILE__, __LINE__, (cond) ? 1 : 0, #cond)
#define CHECK_EQ_U64(a, b) check_eq_u64(__FILE__, __LINE__, (a), (b), #a, #b)
#define CHECK_EQ_I32(a, b) check_eq_i32(__FILE__, __LINE__, (a), (b), #a, #b)
#define CHECK_STR(a, b) check_str(__FILE__, __LINE__, (a), (b), #a, #b)
#define CHECK_NEAR(a, b, eps) check_near(__FILE__, __LINE__, (a), (b), (eps), #a, #b)

#define TEST(name) static void test_##name(void)
#define RUN(name) check_run(#name, test_##name)

static void check_run(const char *name, void (*test)(void)) CHECK_MAYBE_UNUSED;
static void check_run(const char *name, void (*test)(void))
{
    check_failures = 0;
    test();
    if (check_failures == 0) {
        check_passed_tests++;
    } else {
        check_failed_tests++;
        fprintf(stderr, "test %s failed (checks: %lu)\n", name, check_failures);
    }
}

/* Prints the result; returns the exit code. */
static int check_report(const char *suite) CHECK_MAYBE_UNUSED;
static int check_report(const char *suite)
{
    printf("%s: %lu passed, %lu failed\n", suite, check_passed_tests, check_failed_tests);
    return check_failed_tests == 0 && check_passed_tests > 0 ? 0 : 1;
}

#endif /* GRATE_CHECK_H */
