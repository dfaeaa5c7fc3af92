/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE

#include "trap.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define FILES 8

static struct {
    char *at;
    size_t len;
} files[FILES];
static size_t files_len;
static int is_on;
static trap_kind kind;
static uint64_t counted, kill_at;

static void protect(int protection)
{
    size_t i;
    for (i = 0; i < files_len; i++) {
        mprotect(files[i].at, files[i].len, protection);
    }
}

/* In place of the system's, for the library too: notes which files are mapped. */
void *mmap(void *at, size_t len, int protection, int flags, int file, off_t offset)
{
    void *mapped = (void *)syscall(SYS_mmap, at, len, protection, flags, file, offset);
    if (mapped != MAP_FAILED && (flags & MAP_SHARED) && file >= 0 && files_len < FILES) {
        files[files_len].at = mapped;
        files[files_len++].len = len;
        if (is_on && kind == AT_STORES) {
            mprotect(mapped, len, PROT_READ);
        }
    }
    return mapped;
}

int munmap(void *at, size_t len)
{
    size_t i;
    for (i = 0; i < files_len; i++) {
        if (files[i].at == at) {
            files[i] = files[--files_len];
        }
    }
    return (int)syscall(SYS_munmap, at, len);
}

#if defined(__x86_64__)
#define TRAP_FLAG 0x100 /* has the processor stop behind each instruction */

static void step(void *context, int on)
{
    ucontext_t *interrupted = context;
    if (on) {
        interrupted->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
    } else {
        interrupted->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    }
}

static void on_store(int number, siginfo_t *fault, void *context)
{
    size_t i;
    (void)number;
    for (i = 0; i < files_len && is_on && kind == AT_STORES; i++) {
        if ((char *)fault->si_addr >= files[i].at && (char *)fault->si_addr < files[i].at + files[i].len) {
            protect(PROT_READ | PROT_WRITE);
            step(context, 1);
            return;
        }
    }
    signal(SIGSEGV, SIG_DFL);
}

static void on_step(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    if (is_on && ++counted == kill_at) {
        kill(getpid(), SIGKILL);
    }
    if (is_on && kind == AT_STORES) {
        protect(PROT_READ);
    }
    step(context, is_on && kind == AT_INSTRUCTIONS);
}

const char *trap_missing(void)
{
    return NULL;
}

void trap_begin(trap_kind what, uint64_t at)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = on_store;
    sigaction(SIGSEGV, &action, NULL);
    action.sa_sigaction = on_step;
    sigaction(SIGTRAP, &action, NULL);
    kind = what;
    kill_at = at;
    counted = 0;
    is_on = 1;
    if (kind == AT_STORES) {
        protect(PROT_READ);
    } else {
        raise(SIGTRAP);
        counted = 0;
    }
}

uint64_t trap_end(void)
{
    is_on = 0;
    protect(PROT_READ | PROT_WRITE);
    return counted;
}
#else
const char *trap_missing(void)
{
    return "single steps are taken on x86-64 only";
}

void trap_begin(trap_kind what, uint64_t at)
{
    (void)what;
    (void)at;
}

uint64_t trap_end(void)
{
    return 0;
}
#endif
