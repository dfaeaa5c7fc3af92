/*
 * What Go calls on the hot path. All that a call needs is in memory of C's, which is used again and again: then nothing
 * is allocated, no Go pointer crosses, and addresses can go as numbers, so that cgo has nothing to check.
 */
#ifndef GRATE_GO_NATIVE_H
#define GRATE_GO_NATIVE_H

#include <grate.h>

/* Room for a name of the 128 bytes that are allowed, one more by which the library sees that it is too long, and a NUL. */
#define GRATE_GO_NAME_SIZE 130

/* The arguments and results of one call. */
typedef struct {
    char name[GRATE_GO_NAME_SIZE];
    grate_request request;
    grate_decision decision;
    grate_response response;
    grate_error error;
} grate_go_call;

static inline void grate_go_call_init(grate_go_call *call)
{
    call->name[0] = '\0';
    grate_request_init(&call->request, sizeof call->request);
    grate_decision_init(&call->decision, sizeof call->decision);
    grate_response_init(&call->response, sizeof call->response);
    grate_error_init(&call->error, sizeof call->error);
}

/* None of these returns its status, which is in call->error: cgo takes a longer way with a result. */

static inline void grate_go_select(uintptr_t engine, uintptr_t address)
{
    grate_go_call *call = (grate_go_call *)address;

    grate_engine_select((grate_engine *)engine, call->name, &call->request, &call->decision, &call->error);
}

static inline void grate_go_acquire(uintptr_t engine, uintptr_t address)
{
    grate_go_call *call = (grate_go_call *)address;

    grate_engine_acquire((grate_engine *)engine, call->name, &call->request, &call->decision, &call->error);
}

static inline void grate_go_complete(uintptr_t engine, uint64_t lease, uintptr_t address)
{
    grate_go_call *call = (grate_go_call *)address;

    grate_engine_complete((grate_engine *)engine, lease, &call->response, &call->error);
}

static inline void grate_go_cancel(uintptr_t engine, uint64_t lease, uintptr_t address)
{
    grate_go_call *call = (grate_go_call *)address;

    grate_engine_cancel((grate_engine *)engine, lease, &call->error);
}

static inline void grate_go_observe(uintptr_t engine, uintptr_t address)
{
    grate_go_call *call = (grate_go_call *)address;

    grate_engine_observe((grate_engine *)engine, call->name, &call->response, &call->error);
}

#endif
