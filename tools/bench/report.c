/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L

#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "grate.h"

static FILE *json;
static int has_sections, has_rows;

/* One row of the section, as the fields of a JSON object. */
static void json_row(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void json_row(const char *format, ...)
{
    va_list arguments;

    fprintf(json, "%s\n    {", has_rows ? "," : "");
    va_start(arguments, format);
    vfprintf(json, format, arguments);
    va_end(arguments);
    fputc('}', json);
    has_rows = 1;
    fflush(stdout);
}

/* The processor, as far as the system tells. */
static void read_cpu(char *model, size_t size)
{
    FILE *info = fopen("/proc/cpuinfo", "r");
    char line[256];

    snprintf(model, size, "unknown CPU");
    while (info != NULL && fgets(line, sizeof line, info) != NULL)
        if (strncmp(line, "model name", strlen("model name")) == 0) {
            char *name = strchr(line, ':');
            if (name != NULL && strcspn(name, "\"\\") == strlen(name))
                snprintf(model, size, "%.*s", (int)strcspn(name + 2, "\n"), name + 2);
            break;
        }
    if (info != NULL)
        fclose(info);
}

void report_open(const char *json_path, int is_quick)
{
    char cpu[128];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    json = fopen(json_path, "w");
    if (json == NULL) {
        perror(json_path);
        exit(EXIT_FAILURE);
    }
    read_cpu(cpu, sizeof cpu);
    fprintf(json, "{\n  \"libgrate\": \"%s\",\n  \"cpu\": \"%s\",\n  \"cores\": %ld,\n  \"quick\": %s",
            grate_version_string(), cpu, cores, is_quick ? "true" : "false");
    printf("libgrate %s through its C ABI, on %s, %ld cores%s\n", grate_version_string(), cpu, cores,
           is_quick ? "; quick: take no figure for granted" : "");
}

static void end_section(void)
{
    fputs(has_sections ? "\n  ]" : "", json);
    has_sections = 1;
    has_rows = 0;
}

void report_section(const char *name, const char *heading)
{
    end_section();
    fprintf(json, ",\n  \"%s\": [", name);
    printf("\n%s\n", heading);
}

void report_comparison(const comparison *c)
{
    printf("%-19s%-8s%9" PRIu32 "%8" PRIu32 "%13.1f   %-23s%11.1f%8.3f\n", operation_name(c->operation),
           clock_name(c->work.clock), c->work.providers, c->work.quotas, c->ours, c->rival, c->theirs,
           c->ours / c->theirs);
    json_row("\"operation\": \"%s\", \"clock\": \"%s\", \"providers\": %" PRIu32 ", \"quotas\": %" PRIu32
             ", \"libgrate_ns\": %.2f, \"rival\": \"%s\", \"rival_ns\": %.2f, \"ratio\": %.4f",
             operation_name(c->operation), clock_name(c->work.clock), c->work.providers, c->work.quotas, c->ours,
             c->rival, c->theirs, c->ours / c->theirs);
}

void report_threads(const threads *t)
{
    const char *where = t->work.apart ? "different providers" : "one provider";
    printf("%-21s%-8s%-24s%10.1f%12.1f%8.2f\n", where, clock_name(t->work.clock), t->side, t->one, t->two,
           t->one / t->two);
    json_row("\"where\": \"%s\", \"clock\": \"%s\", \"side\": \"%s\", \"one_thread_ns\": %.2f, \"two_threads_ns\": %.2f"
             ", \"throughput\": %.4f",
             where, clock_name(t->work.clock), t->side, t->one, t->two, t->one / t->two);
}

void report_growth(const growth *g)
{
    printf("%-19s%6" PRIu32 "%15.1f%16.1f%8.2f\n", operation_name(g->operation), g->quotas, g->with_few, g->with_many,
           g->with_many / g->with_few);
    json_row("\"operation\": \"%s\", \"quotas\": %" PRIu32 ", \"providers\": [%" PRIu32 ", %" PRIu32
             "], \"ns\": [%.2f, %.2f], \"factor\": %.4f",
             operation_name(g->operation), g->quotas, g->few, g->many, g->with_few, g->with_many,
             g->with_many / g->with_few);
}

void report_single(const workload *work, const percentiles *p)
{
    printf("%-10s%-8s%9" PRIu32 "%8" PRIu32 "%10.1f%10.1f%10.1f%12.1f\n", p->call, clock_name(work->clock),
           work->providers, work->quotas, p->p50, p->p99, p->p999, p->p999 / p->p50);
    json_row("\"call\": \"%s\", \"clock\": \"%s\", \"providers\": %" PRIu32 ", \"quotas\": %" PRIu32
             ", \"p50_ns\": %.1f, \"p99_ns\": %.1f, \"p99.9_ns\": %.1f, \"p99.9/p50\": %.2f",
             p->call, clock_name(work->clock), work->providers, work->quotas, p->p50, p->p99, p->p999,
             p->p999 / p->p50);
}

void report_bytes(uint32_t quotas, double bytes_per_provider)
{
    printf("%6" PRIu32 "%20.0f\n", quotas, bytes_per_provider);
    json_row("\"quotas\": %" PRIu32 ", \"bytes_per_provider\": %.1f", quotas, bytes_per_provider);
}

void report_target(const target *t)
{
    const char *sign = t->at_least ? ">=" : "<=";
    int is_met = t->at_least ? t->measured >= t->wanted : t->measured <= t->wanted;
    printf("%-72s%9.2f   %s %-8g%s\n", t->text, t->measured, sign, t->wanted, is_met ? "yes" : "no");
    json_row("\"target\": \"%s\", \"measured\": %.4f, \"wanted\": \"%s %g\", \"met\": %s", t->text, t->measured, sign,
             t->wanted, is_met ? "true" : "false");
}

void report_close(void)
{
    end_section();
    fputs("\n}\n", json);
    if (fclose(json) != 0) {
        perror("bench: writing the JSON");
        exit(EXIT_FAILURE);
    }
}
