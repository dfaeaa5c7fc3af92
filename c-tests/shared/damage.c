/*
 * Thousands of damaged state files: flipped bits, words of all kinds, random bytes, swapped and zeroed blocks, cut off or
 * extended; of files that were left in order, and of such as a killed process left behind, in which no checksum helps. Each
 * is refused or put right, and then used with all calls: no crash, no call that never ends.
 *
 *   shared_damage [long]
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

#define BATCH 100       /* files that one child tries */
#define PATIENCE 20     /* seconds for one */
#define SIZE (1u << 20) /* of the file */
#define HEADS 16384     /* where most goes wrong: the first bytes */

#define PROVIDER(name, window) \
    "{\"name\": \"" name "\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 500, \"window\": \"" window "\"}," \
    " {\"dimension\": \"tokens\", \"limit\": 100000, \"window\": \"minute\", \"strategy\": \"token_bucket\"}," \
    " {\"dimension\": \"bytes\", \"limit\": 100000, \"window\": \"minute\", \"strategy\": \"fixed_window\"}," \
    " {\"dimension\": \"concurrency\", \"limit\": 50, \"pool\": \"slots\"}]}"
static const char JSON[] = "{\"providers\": [" PROVIDER("a", "second") ", " PROVIDER("b", "minute") "],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"a\"}, {\"provider\": \"b\"}]}]}";
static const char CHANGED[] = "{\"providers\": [" PROVIDER("a", "minute") ", " PROVIDER("c", "second") "],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"c\"}, {\"provider\": \"a\"}]}]}";

typedef struct {
    uint64_t refused, put_right;
    uint64_t seed; /* of the file that is tried */
} tally;

static const char *path;
static char *contents; /* of a file that is not damaged */
static size_t used;    /* how much of it is not zero */
static tally *tried;

/* Whatever a call says, but that it is broken. */
static void answers(grate_status status)
{
    if (status == GRATE_ERR_PANIC) {
        must(status, "a call");
    }
}

/* All kinds of calls. */
static void use(grate_engine *engine)
{
    static char text[65536];
    uint64_t leases[8], len;
    double health;
    int i;
    for (i = 0; i < 8; i++) {
        grate_decision decision = GRATE_DECISION_INIT;
        answers(grate_engine_acquire(engine, "api", NULL, &decision, NULL));
        leases[i] = decision.lease;
    }
    for (i = 0; i < 8; i++) {
        grate_response response = GRATE_RESPONSE_INIT;
        response.http_status = i == 3 ? 429 : i == 5 ? 500 : 200;
        response.tokens = 10;
        if (i == 7) {
            answers(grate_engine_cancel(engine, leases[i], NULL));
        } else {
            answers(grate_engine_complete(engine, leases[i], &response, NULL));
        }
        answers(grate_engine_observe(engine, i % 2 ? "a" : "b", &response, NULL));
    }
    for (i = 0; i < 2; i++) {
        grate_quota_state quotas[8] = {GRATE_QUOTA_STATE_INIT};
        grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
        state.quotas = quotas;
        state.quotas_capacity = 8;
        answers(grate_engine_provider_state(engine, i ? "a" : "b", &state, NULL));
        answers(grate_engine_provider_health(engine, i ? "a" : "b", &health, NULL));
        answers(grate_engine_remaining_quota(engine, i ? "a" : "b", GRATE_DIMENSION_REQUESTS, &len, NULL));
    }
    answers(grate_engine_prometheus(engine, text, sizeof text, &len, NULL));
}

/* Makes a file, and remembers what is in it: left in order, or as a killed process left it. */
static void make_contents(int in_order)
{
    struct stat found;
    pid_t child;
    int file;
    unlink(path);
    child = fork();
    if (child == 0) {
        grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
        grate_decision decision = GRATE_DECISION_INIT;
        grate_engine *engine;
        config.state_size = SIZE;
        engine = open_state(path, &config, JSON);
        use(engine);
        grate_engine_acquire(engine, "api", NULL, &decision, NULL);
        if (in_order) {
            grate_engine_free(engine);
        }
        _exit(0);
    }
    CHECK_EQ_I32(ended(child), 0);
    file = open(path, O_RDONLY);
    CHECK(fstat(file, &found) == 0 && found.st_size == SIZE && read(file, contents, SIZE) == SIZE);
    close(file);
    for (used = SIZE; used > 0 && contents[used - 1] == 0; used--) {
    }
}

/* A copy with something wrong; how long it is. */
static size_t damage(char *bytes, uint64_t *seed)
{
    static const uint64_t words[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 32, SIZE, SIZE - 8, 128, 4096};
    size_t n = next_random(seed) % 4 + 1, len = SIZE;
    memcpy(bytes, contents, SIZE);
    while (n-- > 0) {
        size_t within = next_random(seed) % 2 ? used : HEADS;
        size_t at = next_random(seed) % within, other = next_random(seed) % used, i;
        size_t block = 8u << next_random(seed) % 7;
        switch (next_random(seed) % 12) {
        case 0:
        case 1:
        case 2:
        case 3:
            bytes[at] = (char)(bytes[at] ^ 1 << next_random(seed) % 8);
            break;
        case 4:
        case 5:
            memcpy(bytes + at / 8 * 8, &words[next_random(seed) % (sizeof words / sizeof *words)], 8);
            break;
        case 6:
            memcpy(bytes + at / 8 * 8, contents + other / 8 * 8, 8);
            break;
        case 7:
            for (i = at; i < at + block; i++) {
                bytes[i] = (char)next_random(seed);
            }
            break;
        case 8:
            memcpy(bytes + at / block * block, contents + other / block * block, block);
            memcpy(bytes + other / block * block, contents + at / block * block, block);
            break;
        case 9:
            memset(bytes + at / block * block, 0, block);
            break;
        case 10: /* a word that is a little larger or smaller */
            bytes[at / 8 * 8] = (char)(bytes[at / 8 * 8] + (next_random(seed) % 2 ? 1 : -1));
            break;
        default:
            len = next_random(seed) % 4 ? SIZE : at;
        }
    }
    return len;
}

static void write_damaged(const char *to, char *bytes, uint64_t *seed)
{
    size_t len = damage(bytes, seed);
    int file = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (write(file, bytes, len < used ? len : used) < 0 || ftruncate(file, (off_t)len) != 0) {
        _exit(EXIT_FAILURE);
    }
    close(file);
}

/* A file that was not survived: what is in it is never quite the same again. */
static void keep(const char *what)
{
    char name[256], *bytes = malloc(2 * SIZE);
    uint64_t seed = tried->seed;
    snprintf(name, sizeof name, "%s-%" PRIu64, path, seed);
    if (bytes != NULL) {
        write_damaged(name, bytes, &seed);
        fprintf(stderr, "%s, kept as %s\n", what, name);
    }
    free(bytes);
}

static void try_one(char *bytes, uint64_t seed)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_engine *engine = NULL;
    grate_status status;
    write_damaged(path, bytes, &seed);
    config.state_path = path;
    config.state_size = SIZE;
    status = grate_engine_new(&config, &engine, NULL);
    if (status == GRATE_OK) {
        tried->put_right++;
    } else {
        tried->refused++;
        if (status != GRATE_ERR_STATE_FILE && status != GRATE_ERR_CAPACITY) {
            must(status, "new");
        }
        if (next_random(&seed) % 4 != 0 || status != GRATE_ERR_STATE_FILE) {
            return;
        }
        config.state_flags = GRATE_STATE_REPLACE_UNUSABLE;
        must(grate_engine_new(&config, &engine, NULL), "new, replacing");
    }
    use(engine);
    answers(grate_engine_configure_json(engine, CHANGED, sizeof CHANGED - 1, NULL));
    use(engine);
    grate_engine_free(engine);
}

static void try_many(const char *what, int in_order, uint64_t files)
{
    uint64_t seed = in_order ? 1000000 : 2000000, end = seed + files, since = now_ns();
    make_contents(in_order);
    memset(tried, 0, sizeof *tried);
    while (seed < end) {
        int how;
        pid_t child = fork();
        if (child == 0) {
            char *bytes = malloc(2 * SIZE);
            int i;
            for (i = 0; i < BATCH && bytes != NULL; i++) {
                alarm(PATIENCE);
                tried->seed = seed + (uint64_t)i;
                try_one(bytes, tried->seed);
            }
            free(bytes);
            _exit(0);
        }
        how = ended(child);
        if (!CHECK_EQ_I32(how, 0)) {
            keep(what);
        }
        seed += BATCH;
    }
    printf("%s: %" PRIu64 " damaged, of which %" PRIu64 " were refused and %" PRIu64 " used, in %.1f s\n", what, files,
           tried->refused, tried->put_right, (double)(now_ns() - since) / 1e9);
}

static uint64_t files;

TEST(files_left_in_order)
{
    try_many("files left in order", 1, files);
}

TEST(abandoned_files)
{
    try_many("abandoned files", 0, files);
}

int main(int argc, char **argv)
{
    files = argc > 1 && strcmp(argv[1], "long") == 0 ? 10000 : 5000;
    path = state_path("damage");
    contents = malloc(2 * SIZE);
    tried = shared_memory(sizeof *tried);
    RUN(files_left_in_order);
    RUN(abandoned_files);
    free(contents);
    return check_report("shared_damage");
}
