/*
 * The two calls of every request, acquire and complete, without what ffi costs.
 *
 * Their keywords are read by methods in Ruby, which hand them over in a fixed order: for a method in C the interpreter would
 * make a Hash of them, which costs more. Only the common form of the calls is here: a capability and numbers in, a lease
 * out. Whatever is unusual (values that do not fit, a closed engine, an error) is left to Ruby, so that each rule is written
 * once. A call that fails in the library has changed nothing, so it can be made again there for its message.
 *
 * Ruby tells at load where the functions are and how the structs are laid out: nothing of grate.h is repeated here, and
 * nothing is linked. The interpreter lock is held throughout, and nothing of Ruby runs between the look whether an engine
 * is open and the call: so these calls need no permit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <ruby.h>
#include <ruby/encoding.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { STRUCT_MAX = 160, RAW_MAX = 104, STATUS_LIMIT = 1000, AMOUNTS_MAX = 6, SPARE_MAX = 16384, NAMES_MAX = 8 };

typedef int32_t (*acquire_function)(void *engine, const char *name, const void *request, void *decision, void *error);
typedef int32_t (*complete_function)(void *engine, uint64_t lease, const void *response, void *error);
typedef uint32_t (*version_function)(void);

/*
 * A struct of the library's, and where in it the amounts are that a call can give. One of each serves all calls: nothing of
 * Ruby runs between the writing and the reading of one.
 */
typedef struct {
    char memory[STRUCT_MAX];
    size_t amounts[AMOUNTS_MAX]; /* offsets */
    long amounts_len;
} structure;

static structure request, response, decision;

/* An object's struct. The first line is what rb_check_typeddata does for the right one. */
static inline void *struct_of(VALUE object, const rb_data_type_t *type)
{
    if (RB_TYPE_P(object, T_DATA) && RTYPEDDATA_P(object) && RTYPEDDATA_TYPE(object) == type)
        return RTYPEDDATA_DATA(object);
    return rb_check_typeddata(object, type);
}

/* What Ruby tells, in the order of `bind`'s list. */
static struct {
    uint64_t acquire, complete, version;
    uint64_t response_status, decision_lease, decision_provider; /* offsets */
    uint64_t raw_size; /* bytes of a decision that are kept: all but the array of candidates */
    uint64_t none_available;
} told;

static VALUE lease_class;
static ID id_none_available, id_handle, id_candidates;
static int utf8, us_ascii; /* encodings */

/* ---- The address of an engine, as long as it may be called ---- */

typedef struct {
    void *engine;    /* NULL: closed, or made before a fork */
    VALUE providers; /* a Hash of names by address, which the engine shares */
    struct {
        uint64_t address;
        VALUE name;
    } names[NAMES_MAX]; /* some of them, which are found sooner here: each has one place where it can be */
} handle;

static void handle_mark(void *memory)
{
    handle *h = memory;
    int i;
    rb_gc_mark(h->providers);
    for (i = 0; i < NAMES_MAX; i++)
        rb_gc_mark(h->names[i].name);
}

static size_t handle_size(const void *memory)
{
    (void)memory;
    return sizeof(handle);
}

static const rb_data_type_t handle_type = {
    .wrap_struct_name = "Grate::Fast::Handle",
    .function = {.dmark = handle_mark, .dfree = RUBY_DEFAULT_FREE, .dsize = handle_size},
    .flags = RUBY_TYPED_FREE_IMMEDIATELY | RUBY_TYPED_WB_PROTECTED,
};

static VALUE handle_alloc(VALUE class)
{
    handle *h;
    VALUE self = TypedData_Make_Struct(class, handle, &handle_type, h);
    int i;
    h->providers = Qnil;
    for (i = 0; i < NAMES_MAX; i++)
        h->names[i].name = Qnil; /* which is the name at address 0 */
    return self;
}

static handle *handle_of(VALUE object)
{
    return struct_of(object, &handle_type);
}

/* new(address, providers) */
static VALUE handle_initialize(VALUE self, VALUE address, VALUE providers)
{
    handle *h = handle_of(self);
    Check_Type(providers, T_HASH);
    RB_OBJ_WRITE(self, &h->providers, providers);
    h->engine = (void *)(uintptr_t)NUM2ULL(address);
    return self;
}

static VALUE handle_close(VALUE self)
{
    handle_of(self)->engine = NULL;
    return Qnil;
}

/* ---- The fields of Grate::Lease ---- */

typedef struct lease {
    VALUE engine, handle, provider;
    char raw[RAW_MAX]; /* the decision, which has the lease's number */
    bool settled;
} lease;

/*
 * Memory of leases that are gone, for the next ones: malloc and free would cost as much as the calls to here. As much as one
 * run of the garbage collector frees.
 */
static void *spare[SPARE_MAX];
static size_t spare_len;

static void lease_mark(void *memory)
{
    lease *l = memory;
    rb_gc_mark(l->engine);
    rb_gc_mark(l->handle);
    rb_gc_mark(l->provider);
}

static void lease_free(void *memory)
{
    if (spare_len < SPARE_MAX)
        spare[spare_len++] = memory;
    else
        xfree(memory);
}

static size_t lease_size(const void *memory)
{
    (void)memory;
    return sizeof(lease);
}

static const rb_data_type_t lease_type = {
    .wrap_struct_name = "Grate::Lease",
    .function = {.dmark = lease_mark, .dfree = lease_free, .dsize = lease_size},
    .flags = RUBY_TYPED_FREE_IMMEDIATELY | RUBY_TYPED_WB_PROTECTED,
};

static lease *lease_of(VALUE object)
{
    return struct_of(object, &lease_type);
}

static uint64_t lease_number(const lease *l)
{
    uint64_t number;
    memcpy(&number, l->raw + told.decision_lease, sizeof number);
    return number;
}

/* A lease of this engine, whose decision is not filled in. */
static VALUE lease_make(VALUE class, VALUE engine, VALUE handle)
{
    lease *l = spare_len > 0 ? spare[--spare_len] : xmalloc(sizeof *l);
    l->engine = engine;
    l->handle = handle;
    l->provider = Qnil;
    l->settled = false;
    return TypedData_Wrap_Struct(class, &lease_type, l);
}

static VALUE lease_alloc(VALUE class)
{
    VALUE self = lease_make(class, Qnil, Qnil);
    memset(lease_of(self)->raw, 0, RAW_MAX);
    return self;
}

static void lease_write(VALUE self, VALUE engine, VALUE handle, VALUE provider)
{
    lease *l = lease_of(self);
    RB_OBJ_WRITE(self, &l->engine, engine);
    RB_OBJ_WRITE(self, &l->handle, handle);
    RB_OBJ_WRITE(self, &l->provider, provider);
}

/* new(engine, id, provider, raw, candidates): how the methods in Ruby make one. The id is in raw. */
static VALUE lease_initialize(VALUE self, VALUE engine, VALUE id, VALUE provider, VALUE raw, VALUE candidates)
{
    lease *l = lease_of(self);
    (void)id;
    StringValue(raw);
    if ((uint64_t)RSTRING_LEN(raw) != told.raw_size)
        rb_raise(rb_eArgError, "this is not the memory of a decision");
    memcpy(l->raw, RSTRING_PTR(raw), told.raw_size);
    lease_write(self, engine, rb_ivar_get(engine, id_handle), provider);
    if (!NIL_P(candidates))
        rb_ivar_set(self, id_candidates, candidates);
    return self;
}

static VALUE lease_initialize_copy(VALUE self, VALUE other)
{
    lease *l = lease_of(self);
    const lease *o = lease_of(other);
    l->settled = o->settled;
    memcpy(l->raw, o->raw, RAW_MAX);
    lease_write(self, o->engine, o->handle, o->provider);
    return self;
}

static VALUE lease_engine(VALUE self)
{
    return lease_of(self)->engine;
}

static VALUE lease_id(VALUE self)
{
    return ULL2NUM(lease_number(lease_of(self)));
}

static VALUE lease_provider(VALUE self)
{
    return lease_of(self)->provider;
}

static VALUE lease_raw(VALUE self)
{
    return rb_str_new(lease_of(self)->raw, (long)told.raw_size);
}

static VALUE lease_is_settled(VALUE self)
{
    return lease_of(self)->settled ? Qtrue : Qfalse;
}

static VALUE lease_set_settled(VALUE self)
{
    lease_of(self)->settled = true;
    return Qtrue;
}

/* ---- The calls ---- */

/* Writes amounts into a struct. Not those that are unusual, which includes 0, as it is GRATE_ZERO there: false. */
static bool fill(structure *out, const VALUE *amounts)
{
    long i;
    for (i = 0; i < out->amounts_len; i++) {
        uint64_t units = 0;
        if (!NIL_P(amounts[i])) {
            if (!FIXNUM_P(amounts[i]) || FIX2LONG(amounts[i]) <= 0)
                return false;
            units = (uint64_t)FIX2LONG(amounts[i]);
        }
        memcpy(out->memory + out->amounts[i], &units, sizeof units);
    }
    return true;
}

/* The text of a name that need not be encoded; else NULL. Strings end with a NUL here, unless they are part of a longer one. */
static const char *text_of(VALUE name)
{
    int encoding;
    const char *text;
    size_t length;
    if (SYMBOL_P(name))
        name = rb_sym2str(name);
    else if (!RB_TYPE_P(name, T_STRING))
        return NULL;
    encoding = RB_ENCODING_GET(name);
    if (encoding != utf8 && !(encoding == us_ascii && rb_enc_str_asciionly_p(name)))
        return NULL;
    text = RSTRING_PTR(name);
    length = (size_t)RSTRING_LEN(name);
    return memchr(text, 0, length + 1) == text + length ? text : NULL;
}

/* The name at the address in a decision. No method in Ruby is called: in it another thread might close the engine. */
static VALUE provider_name(VALUE self, handle *h, const char *raw)
{
    uint64_t address;
    size_t place;
    memcpy(&address, raw + told.decision_provider, sizeof address);
    place = (size_t)(address / 16 % NAMES_MAX); /* malloc gives out multiples of 16 */
    if (address != h->names[place].address) {
        VALUE key = ULL2NUM(address), name = rb_hash_lookup2(h->providers, key, Qundef);
        if (name == Qundef) {
            name = rb_obj_freeze(rb_utf8_str_new_cstr((const char *)(uintptr_t)address));
            rb_hash_aset(h->providers, key, name);
        }
        h->names[place].address = address;
        RB_OBJ_WRITE(self, &h->names[place].name, name);
    }
    return h->names[place].name;
}

/*
 * Handle#acquire(engine, capability, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom, explain):
 * a lease; nil if something is unusual, and nothing was done.
 */
static VALUE handle_acquire(int argc, VALUE *argv, VALUE self)
{
    handle *h = handle_of(self);
    VALUE object;
    lease *l;
    const char *name;
    int32_t code;
    rb_check_arity(argc, 10, 10);
    if (!NIL_P(argv[7]) || !NIL_P(argv[8]) || RTEST(argv[9]))
        return Qnil;
    object = lease_make(lease_class, argv[0], self);
    l = RTYPEDDATA_DATA(object);
    name = text_of(argv[1]);
    if (h->engine == NULL || name == NULL || !fill(&request, argv + 2))
        return Qnil;
    code = ((acquire_function)(uintptr_t)told.acquire)(h->engine, name, request.memory, decision.memory, NULL);
    if (code != 0 && code != (int32_t)told.none_available)
        return Qnil;
    memcpy(l->raw, decision.memory, RAW_MAX);
    RB_OBJ_WRITE(object, &l->provider, provider_name(self, h, l->raw));
    if (code != 0)
        return rb_funcall(argv[0], id_none_available, 3, l->provider, lease_raw(object), Qnil); /* raises */
    RB_GC_GUARD(object);
    return object;
}

/*
 * Lease#settle(outcome, http_status, latency_ms, retry_after_ms, requests, tokens, input_tokens, output_tokens, bytes,
 * cost_micro_usd, headers)
 */
static VALUE lease_settle(int argc, VALUE *argv, VALUE self)
{
    lease *l = lease_of(self);
    const handle *h = NIL_P(l->handle) ? NULL : handle_of(l->handle);
    int32_t status;
    rb_check_arity(argc, 11, 11);
    if (h == NULL || h->engine == NULL || !NIL_P(argv[0]) || !NIL_P(argv[2]) || !NIL_P(argv[3]) || !NIL_P(argv[10]) ||
        !FIXNUM_P(argv[1]) || FIX2LONG(argv[1]) < 0 || FIX2LONG(argv[1]) >= STATUS_LIMIT || !fill(&response, argv + 4))
        return rb_call_super(argc, argv);
    status = (int32_t)FIX2LONG(argv[1]);
    memcpy(response.memory + told.response_status, &status, sizeof status);
    if (((complete_function)(uintptr_t)told.complete)(h->engine, lease_number(l), response.memory, NULL) != 0)
        return rb_call_super(argc, argv);
    l->settled = true;
    return Qnil;
}

/* The cheapest call, to measure the others by. */
static VALUE fast_version(VALUE self)
{
    (void)self;
    return UINT2NUM(((version_function)(uintptr_t)told.version)());
}

/* ---- The module ---- */

static void read_structure(structure *out, VALUE memory, VALUE amounts, long count)
{
    long i;
    StringValue(memory);
    Check_Type(amounts, T_ARRAY);
    if (RSTRING_LEN(memory) > STRUCT_MAX || RARRAY_LEN(amounts) != count)
        rb_raise(rb_eArgError, "this struct is another");
    memcpy(out->memory, RSTRING_PTR(memory), (size_t)RSTRING_LEN(memory));
    out->amounts_len = count;
    for (i = 0; i < count; i++) {
        out->amounts[i] = NUM2SIZET(rb_ary_entry(amounts, i));
        if (out->amounts[i] + sizeof(uint64_t) > (size_t)RSTRING_LEN(memory))
            rb_raise(rb_eArgError, "this amount is outside");
    }
}

/*
 * bind(Lease, request, response, decision, numbers): puts the methods over those of Lease. A struct is its memory when
 * nothing is given, and the offsets of the amounts in the order of the calls; the numbers are `told`.
 */
static VALUE fast_bind(VALUE self, VALUE leases, VALUE requests, VALUE responses, VALUE decisions, VALUE numbers)
{
    uint64_t *out = &told.acquire;
    long i, count = (long)(sizeof told / sizeof *out);
    if (RARRAY_LEN(numbers) != count)
        rb_raise(rb_eArgError, "%ld numbers are expected", count);
    for (i = 0; i < count; i++)
        out[i] = NUM2ULL(rb_ary_entry(numbers, i));
    if (told.raw_size > RAW_MAX)
        rb_raise(rb_eArgError, "this decision is too large");
    read_structure(&request, rb_ary_entry(requests, 0), rb_ary_entry(requests, 1), 5);
    read_structure(&response, rb_ary_entry(responses, 0), rb_ary_entry(responses, 1), 6);
    read_structure(&decision, rb_ary_entry(decisions, 0), rb_ary_entry(decisions, 1), 0);
    lease_class = leases;
    rb_global_variable(&lease_class);
    rb_define_alloc_func(leases, lease_alloc);
    rb_prepend_module(leases, rb_const_get(self, rb_intern("LeaseMethods")));
    return Qnil;
}

void Init_grate_fast(void)
{
    VALUE fast = rb_define_module_under(rb_define_module("Grate"), "Fast");
    VALUE handles = rb_define_class_under(fast, "Handle", rb_cObject);
    VALUE leases = rb_define_module_under(fast, "LeaseMethods");
    id_none_available = rb_intern("none_available");
    id_handle = rb_intern("@handle");
    id_candidates = rb_intern("@candidates");
    utf8 = rb_utf8_encindex();
    us_ascii = rb_usascii_encindex();

    rb_define_singleton_method(fast, "bind", fast_bind, 5);
    rb_define_singleton_method(fast, "grate_version", fast_version, 0);

    rb_define_alloc_func(handles, handle_alloc);
    rb_define_method(handles, "initialize", handle_initialize, 2);
    rb_undef_method(handles, "initialize_copy");
    rb_define_method(handles, "close", handle_close, 0);
    rb_define_method(handles, "acquire", handle_acquire, -1);

    rb_define_private_method(leases, "initialize", lease_initialize, 5);
    rb_define_private_method(leases, "initialize_copy", lease_initialize_copy, 1);
    rb_define_method(leases, "engine", lease_engine, 0);
    rb_define_method(leases, "id", lease_id, 0);
    rb_define_method(leases, "provider", lease_provider, 0);
    rb_define_method(leases, "settled?", lease_is_settled, 0);
    rb_define_private_method(leases, "settle", lease_settle, -1);
    rb_define_private_method(leases, "settled!", lease_set_settled, 0);
    rb_define_private_method(leases, "raw", lease_raw, 0);
}
