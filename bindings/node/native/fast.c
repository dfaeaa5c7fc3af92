/*
 * The calls of every request, select, acquire and complete, without what koffi takes for their arguments.
 *
 * The arguments are in a block of memory that JavaScript has filled in (src/calls.ts): these functions take none, make the
 * call, and leave its status in the block. What arguments and statuses mean is written once, in TypeScript.
 *
 * Where the functions of the library are is in the block, too: no struct of grate.h is repeated here, and nothing is
 * linked. No state is static: each environment, such as that of a worker thread, has its own block.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <node_api.h>

#include <stdint.h>

typedef int32_t (*route_function)(void *engine, const char *capability, const void *request, void *decision, void *error);
typedef int32_t (*complete_function)(void *engine, uint64_t lease, const void *response, void *error);

typedef struct {
    double engine, name; /* addresses, as numbers of JavaScript: whole, and below 2^53 */
    uint64_t lease;
    int32_t status, reserved;
    const void *request, *response;
    void *decision, *error;
    uint32_t (*version)(void);
    route_function select, acquire;
    complete_function complete;
} block;

static block *block_of(napi_env env, napi_callback_info info)
{
    void *data = NULL;
    napi_get_cb_info(env, info, NULL, NULL, NULL, &data);
    return data;
}

static void *pointer(double address)
{
    return (void *)(uintptr_t)(int64_t)address;
}

static void route(block *b, route_function call)
{
    b->status = call(pointer(b->engine), pointer(b->name), b->request, b->decision, b->error);
}

static napi_value version(napi_env env, napi_callback_info info)
{
    napi_value result = NULL;
    napi_create_uint32(env, block_of(env, info)->version(), &result);
    return result;
}

static napi_value select_provider(napi_env env, napi_callback_info info)
{
    block *b = block_of(env, info);
    route(b, b->select);
    return NULL;
}

static napi_value acquire(napi_env env, napi_callback_info info)
{
    block *b = block_of(env, info);
    route(b, b->acquire);
    return NULL;
}

static napi_value complete(napi_env env, napi_callback_info info)
{
    block *b = block_of(env, info);
    b->status = b->complete(pointer(b->engine), b->lease, b->response, b->error);
    return NULL;
}

static const struct {
    const char *name;
    napi_callback function;
} functions[] = {{"version", version}, {"select", select_provider}, {"acquire", acquire}, {"complete", complete}};

/* bind(block): the functions that use this one. */
static napi_value bind(napi_env env, napi_callback_info info)
{
    napi_value buffer, function, result;
    napi_ref kept;
    size_t argc = 1, size, i;
    void *data;
    if (napi_get_cb_info(env, info, &argc, &buffer, NULL, NULL) != napi_ok ||
        napi_get_arraybuffer_info(env, buffer, &data, &size) != napi_ok || size != sizeof(block)) {
        napi_throw_type_error(env, NULL, "this is not the block of the calls");
        return NULL;
    }
    /* Kept until the environment ends, as the functions may be. */
    if (napi_create_reference(env, buffer, 1, &kept) != napi_ok || napi_create_object(env, &result) != napi_ok)
        return NULL;
    for (i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, data, &function) != napi_ok ||
            napi_set_named_property(env, result, functions[i].name, function) != napi_ok)
            return NULL;
    }
    return result;
}

NAPI_MODULE_INIT()
{
    napi_value function;
    if (napi_create_function(env, "bind", NAPI_AUTO_LENGTH, bind, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, "bind", function) != napi_ok)
        return NULL;
    return exports;
}
