/*
 * The two calls of every request, acquire and complete, without what ffi costs.
 *
 * Only their common form is here: a capability and numbers in, a lease out. Whatever is unusual (values that do not fit, a
 * closed engine, an error) is left to the methods in Ruby, so that each rule is written once. A call that fails in the
 * library has changed nothing, so it can be made again there for its message.
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

enum { STRUCT_MAX = 160, NAME_BYTES = 128, STATUS_LIMIT = 1000, FIELDS_MAX = 8, SPARE_MAX = 1024 };

typedef int32_t (*acquire_function)(void *engine, const char *name, const void *request, void *decision, void *error);
typedef int32_t (*complete_function)(void *engine, uint64_t lease, const void *response, void *error);
typedef uint32_t (*version_function)(void);

/* A struct as it is when nothing is given, and the numbers of 64 bits that can be given, by keyword. */
typedef struct {
    char initial[STRUCT_MAX]; /* copied whole: copies of a known size are cheap */
    size_t size;
    struct {
        VALUE keyword;
        size_t offset;
    } fields[FIELDS_MAX];
    long fields_len;
} layout;

static layout request_layout, response_layout, decision_layout;

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
static VALUE http_status; /* the keyword */
static ID id_none_available, id_settling, id_handle, id_candidates;
static int utf8, us_ascii; /* encodings */

/* ---- The address of an engine, as long as it may be called ---- */

typedef struct {
    void *engine;    /* NULL: closed, or made before a fork */
    VALUE providers; /* a Hash of names by address, which the engine shares */
} handle;

static void handle_mark(void *memory)
{
    rb_gc_mark(((handle *)memory)->providers);
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
    h->providers = Qnil;
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
    uint64_t id;
    bool settled;
    char raw[STRUCT_MAX];
} lease;

/* Memory of leases that are gone, for the next ones: malloc and free would cost as much as the calls to here. */
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

/* A lease of this engine, with a decision to be filled in. */
static VALUE lease_make(VALUE class, VALUE engine, VALUE handle)
{
    lease *l = spare_len > 0 ? spare[--spare_len] : xmalloc(sizeof *l);
    l->engine = engine;
    l->handle = handle;
    l->provider = Qnil;
    l->id = 0;
    l->settled = false;
    memcpy(l->raw, decision_layout.initial, STRUCT_MAX);
    return TypedData_Wrap_Struct(class, &lease_type, l);
}

static VALUE lease_alloc(VALUE class)
{
    return lease_make(class, Qnil, Qnil);
}

static void lease_write(VALUE self, VALUE engine, VALUE handle, VALUE provider)
{
    lease *l = lease_of(self);
    RB_OBJ_WRITE(self, &l->engine, engine);
    RB_OBJ_WRITE(self, &l->handle, handle);
    RB_OBJ_WRITE(self, &l->provider, provider);
}

/* new(engine, id, provider, raw, candidates): how the methods in Ruby make one. */
static VALUE lease_initialize(VALUE self, VALUE engine, VALUE id, VALUE provider, VALUE raw, VALUE candidates)
{
    lease *l = lease_of(self);
    StringValue(raw);
    if ((uint64_t)RSTRING_LEN(raw) != told.raw_size)
        rb_raise(rb_eArgError, "this is not the memory of a decision");
    memcpy(l->raw, RSTRING_PTR(raw), told.raw_size);
    l->id = NUM2ULL(id);
    lease_write(self, engine, rb_ivar_get(engine, id_handle), provider);
    if (!NIL_P(candidates))
        rb_ivar_set(self, id_candidates, candidates);
    return self;
}

static VALUE lease_initialize_copy(VALUE self, VALUE other)
{
    lease *l = lease_of(self);
    const lease *o = lease_of(other);
    l->id = o->id;
    l->settled = o->settled;
    memcpy(l->raw, o->raw, STRUCT_MAX);
    lease_write(self, o->engine, o->handle, o->provider);
    return self;
}

static VALUE lease_engine(VALUE self)
{
    return lease_of(self)->engine;
}

static VALUE lease_id(VALUE self)
{
    return ULL2NUM(lease_of(self)->id);
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

/* The keywords of a call that was made with these arguments, the last of which they are; 0 without any. */
static VALUE keywords_of(int *argc, VALUE *argv)
{
    return rb_keyword_given_p() ? argv[--*argc] : 0;
}

/*
 * Writes what the keywords give, of which `found` are written already, into a struct. Not those that are unusual, which
 * includes 0, as it is GRATE_ZERO there: false.
 */
static bool fill(char *out, const layout *of, VALUE keywords, size_t found)
{
    size_t given = RHASH_SIZE(keywords);
    long i;
    for (i = 0; found < given; i++) {
        VALUE number;
        uint64_t units;
        if (i == of->fields_len)
            return false;
        number = rb_hash_lookup2(keywords, of->fields[i].keyword, Qundef);
        if (number == Qundef)
            continue;
        found++;
        if (NIL_P(number))
            continue;
        if (!FIXNUM_P(number) || FIX2LONG(number) <= 0)
            return false;
        units = (uint64_t)FIX2LONG(number);
        memcpy(out + of->fields[i].offset, &units, sizeof units);
    }
    return true;
}

/* Copies a name that need not be encoded. */
static bool copy_name(char *out, VALUE name)
{
    int encoding;
    size_t length;
    if (SYMBOL_P(name))
        name = rb_sym2str(name);
    else if (!RB_TYPE_P(name, T_STRING))
        return false;
    encoding = RB_ENCODING_GET(name);
    if (encoding != utf8 && !(encoding == us_ascii && rb_enc_str_asciionly_p(name)))
        return false;
    length = (size_t)RSTRING_LEN(name);
    if (length > NAME_BYTES || memchr(RSTRING_PTR(name), 0, length) != NULL)
        return false;
    memcpy(out, RSTRING_PTR(name), length);
    out[length] = '\0';
    return true;
}

/* The name at the address in a decision. No method in Ruby is called: in it another thread might close the engine. */
static VALUE provider_name(const handle *h, const char *raw)
{
    uint64_t address;
    VALUE key, name;
    memcpy(&address, raw + told.decision_provider, sizeof address);
    key = ULL2NUM(address);
    name = rb_hash_lookup2(h->providers, key, Qundef);
    if (name == Qundef) {
        name = rb_obj_freeze(rb_utf8_str_new_cstr((const char *)(uintptr_t)address));
        rb_hash_aset(h->providers, key, name);
    }
    return name;
}

/* Acquires a lease. nil: something is unusual, and nothing was done. */
static VALUE acquire(VALUE engine, int argc, VALUE *argv)
{
    VALUE object, handles = rb_ivar_get(engine, id_handle), keywords = keywords_of(&argc, argv);
    const handle *h;
    char request[STRUCT_MAX], name[NAME_BYTES + 1];
    lease *l;
    int32_t code;
    memcpy(request, request_layout.initial, STRUCT_MAX);
    if (argc != 1 || NIL_P(handles) || !copy_name(name, argv[0]) ||
        (keywords != 0 && !fill(request, &request_layout, keywords, 0)))
        return Qnil;
    h = handle_of(handles);
    object = lease_make(lease_class, engine, handles);
    l = RTYPEDDATA_DATA(object);
    if (h->engine == NULL)
        return Qnil;
    code = ((acquire_function)(uintptr_t)told.acquire)(h->engine, name, request, l->raw, NULL);
    if (code != 0 && code != (int32_t)told.none_available)
        return Qnil;
    RB_OBJ_WRITE(object, &l->provider, provider_name(h, l->raw));
    if (code != 0)
        return rb_funcall(engine, id_none_available, 3, l->provider, lease_raw(object), Qnil); /* raises */
    memcpy(&l->id, l->raw + told.decision_lease, sizeof l->id);
    RB_GC_GUARD(object);
    return object;
}

/* Completes a lease. false: something is unusual, and nothing was done. */
static bool complete(lease *l, int argc, VALUE *argv)
{
    VALUE status, keywords = keywords_of(&argc, argv);
    const handle *h = NIL_P(l->handle) ? NULL : handle_of(l->handle);
    char response[STRUCT_MAX];
    int32_t number;
    if (argc != 0 || keywords == 0 || h == NULL || h->engine == NULL)
        return false;
    status = rb_hash_lookup2(keywords, http_status, Qundef);
    if (!FIXNUM_P(status) || FIX2LONG(status) < 0 || FIX2LONG(status) >= STATUS_LIMIT)
        return false;
    number = (int32_t)FIX2LONG(status);
    memcpy(response, response_layout.initial, STRUCT_MAX);
    memcpy(response + told.response_status, &number, sizeof number);
    if (!fill(response, &response_layout, keywords, 1) ||
        ((complete_function)(uintptr_t)told.complete)(h->engine, l->id, response, NULL) != 0)
        return false;
    l->settled = true;
    return true;
}

/* Engine#acquire */
static VALUE engine_acquire(int argc, VALUE *argv, VALUE self)
{
    VALUE made = acquire(self, argc, argv);
    if (NIL_P(made))
        return rb_call_super_kw(argc, argv, rb_keyword_given_p());
    return rb_block_given_p() ? rb_funcall_passing_block(self, id_settling, 1, &made) : made;
}

/* Lease#complete */
static VALUE lease_complete(int argc, VALUE *argv, VALUE self)
{
    return complete(lease_of(self), argc, argv) ? Qnil : rb_call_super_kw(argc, argv, rb_keyword_given_p());
}

/* The cheapest call, to measure the others by. */
static VALUE fast_version(VALUE self)
{
    (void)self;
    return UINT2NUM(((version_function)(uintptr_t)told.version)());
}

/* ---- The module ---- */

static void read_layout(layout *out, VALUE initial, VALUE fields)
{
    long i;
    StringValue(initial);
    Check_Type(fields, T_ARRAY);
    if (RSTRING_LEN(initial) > STRUCT_MAX || RARRAY_LEN(fields) > FIELDS_MAX)
        rb_raise(rb_eArgError, "this struct is too large");
    out->size = (size_t)RSTRING_LEN(initial);
    memcpy(out->initial, RSTRING_PTR(initial), out->size);
    out->fields_len = RARRAY_LEN(fields);
    for (i = 0; i < out->fields_len; i++) {
        VALUE field = rb_ary_entry(fields, i);
        out->fields[i].keyword = ID2SYM(rb_sym2id(rb_ary_entry(field, 0))); /* which lives forever */
        out->fields[i].offset = NUM2SIZET(rb_ary_entry(field, 1));
        if (out->fields[i].offset + sizeof(uint64_t) > out->size)
            rb_raise(rb_eArgError, "this field is outside");
    }
}

/*
 * bind(Engine, Lease, request, response, decision, numbers): puts the methods over those of the classes. A struct is
 * the memory of one, and its fields as pairs of keyword and offset, the most frequent first; the numbers are `told`.
 */
static VALUE fast_bind(VALUE self, VALUE engines, VALUE leases, VALUE request, VALUE response, VALUE decision, VALUE numbers)
{
    uint64_t *out = &told.acquire;
    long i, count = (long)(sizeof told / sizeof *out);
    if (RARRAY_LEN(numbers) != count)
        rb_raise(rb_eArgError, "%ld numbers are expected", count);
    for (i = 0; i < count; i++)
        out[i] = NUM2ULL(rb_ary_entry(numbers, i));
    read_layout(&request_layout, rb_ary_entry(request, 0), rb_ary_entry(request, 1));
    read_layout(&response_layout, rb_ary_entry(response, 0), rb_ary_entry(response, 1));
    read_layout(&decision_layout, rb_ary_entry(decision, 0), rb_ary_entry(decision, 1));
    lease_class = leases;
    rb_global_variable(&lease_class);
    rb_define_alloc_func(leases, lease_alloc);
    rb_prepend_module(leases, rb_const_get(self, rb_intern("LeaseMethods")));
    rb_prepend_module(engines, rb_const_get(self, rb_intern("EngineMethods")));
    return Qnil;
}

void Init_grate_fast(void)
{
    VALUE fast = rb_define_module_under(rb_define_module("Grate"), "Fast");
    VALUE handles = rb_define_class_under(fast, "Handle", rb_cObject);
    VALUE engines = rb_define_module_under(fast, "EngineMethods");
    VALUE leases = rb_define_module_under(fast, "LeaseMethods");
    id_none_available = rb_intern("none_available");
    id_settling = rb_intern("settling");
    id_handle = rb_intern("@handle");
    id_candidates = rb_intern("@candidates");
    http_status = ID2SYM(rb_intern("http_status"));
    utf8 = rb_utf8_encindex();
    us_ascii = rb_usascii_encindex();

    rb_define_singleton_method(fast, "bind", fast_bind, 6);
    rb_define_singleton_method(fast, "grate_version", fast_version, 0);

    rb_define_alloc_func(handles, handle_alloc);
    rb_define_method(handles, "initialize", handle_initialize, 2);
    rb_undef_method(handles, "initialize_copy");
    rb_define_method(handles, "close", handle_close, 0);

    rb_define_private_method(leases, "initialize", lease_initialize, 5);
    rb_define_private_method(leases, "initialize_copy", lease_initialize_copy, 1);
    rb_define_method(engines, "acquire", engine_acquire, -1);
    rb_define_method(leases, "complete", lease_complete, -1);
    rb_define_method(leases, "engine", lease_engine, 0);
    rb_define_method(leases, "id", lease_id, 0);
    rb_define_method(leases, "provider", lease_provider, 0);
    rb_define_method(leases, "settled?", lease_is_settled, 0);
    rb_define_private_method(leases, "settled!", lease_set_settled, 0);
    rb_define_private_method(leases, "raw", lease_raw, 0);
}
