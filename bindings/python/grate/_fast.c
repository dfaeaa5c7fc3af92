/*
 * The three calls of every request, acquire, complete and select, without what ctypes costs.
 *
 * Only their common form is here: a capability and numbers in, a decision out. Whatever is unusual (other arguments, values
 * that do not fit, a closed engine, an error) is left to the method of the same name in pure Python, so that each rule
 * is written once. A call that fails in the library has changed nothing, so it can be made again there for its message.
 *
 * Python tells at import where the functions are and how the structs are laid out: nothing of grate.h is repeated here,
 * and nothing is linked. The interpreter lock is held throughout, as in the pure form; buffers are the call's own,
 * because the lock may change hands while a clock of the caller's is asked.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { STRUCT_MAX = 192, FIELDS_MAX = 8 };

typedef int32_t (*route_function)(void *engine, const char *capability, const void *request, void *decision, void *error);
typedef int32_t (*complete_function)(void *engine, uint64_t lease, const void *response, void *error);

/* A struct as it is when nothing is given, and the numbers that can be given. */
typedef struct {
    char initial[STRUCT_MAX];
    Py_ssize_t size;
    struct {
        PyObject *name;
        Py_ssize_t offset;
        int is_status; /* 32 bits, and required; the others are 64 bits, and their 0 is GRATE_ZERO */
    } fields[FIELDS_MAX];
    Py_ssize_t fields_len;
} layout;

static layout request_layout, response_layout, decision_layout;
static Py_ssize_t lease_offset, provider_offset;
static route_function select_call, acquire_call;
static complete_function complete_call;
static int none_available_code;
static PyObject *decision_type, *engine_type, *raise_none_available;
static PyObject *slow_select, *slow_acquire, *slow_complete, *slow_decision_complete;
static PyObject *name_handle, *name_address, *name_providers;

/* ---- The base of grate.Decision ---- */

typedef struct {
    PyObject_HEAD
    PyObject *engine, *provider, *candidates;
    uint64_t lease;
    char settled;
    char raw[STRUCT_MAX];
} decision;

static int decision_traverse(PyObject *self, visitproc visit, void *arg)
{
    decision *d = (decision *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(d->engine);
    Py_VISIT(d->candidates);
    return 0;
}

static int decision_clear(PyObject *self)
{
    decision *d = (decision *)self;
    Py_CLEAR(d->engine);
    Py_CLEAR(d->candidates);
    return 0;
}

static void decision_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    decision_clear(self);
    Py_CLEAR(((decision *)self)->provider);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static decision *decision_alloc(PyTypeObject *type)
{
    return (decision *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

/* Decision(engine, provider, raw, candidates): how the pure methods make one. */
static PyObject *decision_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *engine, *provider, *candidates;
    const char *raw;
    Py_ssize_t size;
    decision *d;
    if (kwargs != NULL && PyDict_Size(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "Decision takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OUy#O", &engine, &provider, &raw, &size, &candidates))
        return NULL;
    if (size != decision_layout.size) {
        PyErr_SetString(PyExc_ValueError, "this is not the memory of a decision");
        return NULL;
    }
    d = decision_alloc(type);
    if (d == NULL)
        return NULL;
    Py_INCREF(engine);
    d->engine = engine;
    Py_INCREF(provider);
    d->provider = provider;
    Py_INCREF(candidates);
    d->candidates = candidates;
    memcpy(d->raw, raw, (size_t)size);
    memcpy(&d->lease, d->raw + lease_offset, sizeof d->lease);
    return (PyObject *)d;
}

static PyObject *decision_raw(PyObject *self, void *closure)
{
    (void)closure;
    return PyBytes_FromStringAndSize(((decision *)self)->raw, decision_layout.size);
}

static PyMemberDef decision_members[] = {
    {"provider", T_OBJECT_EX, offsetof(decision, provider), READONLY, "The chosen provider."},
    {"lease", T_ULONGLONG, offsetof(decision, lease), READONLY,
     "What `complete` and `cancel` settle; 0 from `select`, which reserves nothing."},
    {"_engine", T_OBJECT_EX, offsetof(decision, engine), READONLY, NULL},
    {"_candidates", T_OBJECT, offsetof(decision, candidates), READONLY, NULL},
    {"_settled", T_BOOL, offsetof(decision, settled), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef decision_getset[] = {
    {"_raw", decision_raw, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot decision_slots[] = {
    {Py_tp_new, decision_new},         {Py_tp_dealloc, decision_dealloc}, {Py_tp_traverse, decision_traverse},
    {Py_tp_clear, decision_clear},     {Py_tp_members, decision_members}, {Py_tp_getset, decision_getset},
    {0, NULL},
};

static PyType_Spec decision_spec = {
    "grate._fast.Decision", sizeof(decision), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    decision_slots,
};

/* ---- Arguments ---- */

/* Writes the keyword arguments into a struct. 0: something is unusual. */
static int fill(char *out, const layout *l, PyObject *const *values, PyObject *names)
{
    Py_ssize_t i, k, n = names == NULL ? 0 : PyTuple_Size(names);
    memcpy(out, l->initial, (size_t)l->size);
    for (i = 0; i < n; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        uint64_t number;
        /* Names of keywords are interned wherever they stand in source code. */
        for (k = 0; k < l->fields_len && l->fields[k].name != name; k++) {
        }
        if (k == l->fields_len)
            return 0;
        if (values[i] == Py_None)
            continue;
        if (!PyLong_CheckExact(values[i]))
            return 0;
        number = PyLong_AsUnsignedLongLong(values[i]);
        if (number == UINT64_MAX)
            return 0; /* too large or negative */
        if (l->fields[k].is_status) {
            int32_t status = (int32_t)number;
            if (number > INT32_MAX)
                return 0;
            memcpy(out + l->fields[k].offset, &status, sizeof status);
        } else {
            number = number == 0 ? UINT64_MAX : number;
            memcpy(out + l->fields[k].offset, &number, sizeof number);
        }
    }
    return 1;
}

static int has_status(const char *response)
{
    Py_ssize_t k;
    for (k = 0; k < response_layout.fields_len; k++) {
        int32_t status;
        memcpy(&status, response + response_layout.fields[k].offset, sizeof status);
        if (response_layout.fields[k].is_status)
            return status != 0;
    }
    return 0;
}

/* The engine's handle, which keeps it open during a call, and the address in it; NULL if it is closed or forked. */
static PyObject *open_handle(PyObject *engine, void **address)
{
    PyObject *number, *handle = PyObject_GetAttr(engine, name_handle);
    *address = NULL;
    if (handle == NULL || handle == Py_None) {
        Py_XDECREF(handle);
        return NULL;
    }
    number = PyObject_GetAttr(handle, name_address);
    if (number != NULL) {
        *address = PyLong_AsVoidPtr(number);
        Py_DECREF(number);
    }
    if (*address == NULL)
        Py_CLEAR(handle);
    return handle;
}

/* The name of the provider at an address: remembered by the handle, as it stays where it is. NULL: not seen before. */
static PyObject *provider_name(PyObject *handle, const char *raw)
{
    PyObject *providers, *number, *name = NULL;
    void *address;
    memcpy(&address, raw + provider_offset, sizeof address);
    providers = PyObject_GetAttr(handle, name_providers);
    number = PyLong_FromVoidPtr(address);
    if (providers != NULL && number != NULL) {
        name = PyDict_GetItemWithError(providers, number);
        if (name == NULL && !PyErr_Occurred() && address != NULL) {
            name = PyUnicode_FromString(address);
            if (name != NULL && PyDict_SetItem(providers, number, name) != 0)
                Py_CLEAR(name);
        } else {
            Py_XINCREF(name);
        }
    }
    Py_XDECREF(providers);
    Py_XDECREF(number);
    return name;
}

/* ---- The methods ---- */

/* The call as it came, made of the pure method. */
static PyObject *leave_to(PyObject *method, PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    Py_ssize_t i, n = names == NULL ? 0 : PyTuple_Size(names);
    PyObject *result = NULL, *keywords = NULL, *all = PyTuple_New(nargs + 1);
    PyErr_Clear();
    if (all == NULL)
        return NULL;
    Py_INCREF(self);
    PyTuple_SetItem(all, 0, self);
    for (i = 0; i < nargs; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(all, i + 1, args[i]);
    }
    if (n > 0) {
        keywords = PyDict_New();
        for (i = 0; keywords != NULL && i < n; i++) {
            if (PyDict_SetItem(keywords, PyTuple_GetItem(names, i), args[nargs + i]) != 0)
                Py_CLEAR(keywords);
        }
    }
    if (n == 0 || keywords != NULL)
        result = PyObject_Call(method, all, keywords);
    Py_XDECREF(keywords);
    Py_DECREF(all);
    return result;
}

static PyObject *route(route_function call, PyObject *slow, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *names)
{
    char request[STRUCT_MAX];
    const char *capability;
    Py_ssize_t length;
    PyObject *handle;
    decision *d;
    void *engine;
    int32_t code;
    if (nargs != 1 || !PyUnicode_Check(args[0]) || !fill(request, &request_layout, args + nargs, names))
        return leave_to(slow, self, args, nargs, names);
    capability = PyUnicode_AsUTF8AndSize(args[0], &length);
    if (capability == NULL || strlen(capability) != (size_t)length)
        return leave_to(slow, self, args, nargs, names);
    handle = open_handle(self, &engine);
    if (handle == NULL)
        return leave_to(slow, self, args, nargs, names);
    d = decision_alloc((PyTypeObject *)decision_type);
    if (d == NULL) {
        Py_DECREF(handle);
        return NULL;
    }
    memcpy(d->raw, decision_layout.initial, (size_t)decision_layout.size);
    code = call(engine, capability, request, d->raw, NULL);
    if (code != 0 && code != none_available_code) {
        Py_DECREF(handle);
        Py_DECREF(d);
        return leave_to(slow, self, args, nargs, names);
    }
    memcpy(&d->lease, d->raw + lease_offset, sizeof d->lease);
    Py_INCREF(self);
    d->engine = self;
    d->provider = provider_name(handle, d->raw);
    Py_DECREF(handle);
    if (d->provider == NULL) { /* out of memory: the lease will expire */
        Py_DECREF(d);
        return NULL;
    }
    if (code == none_available_code) {
        PyObject *never = PyObject_CallFunctionObjArgs(raise_none_available, (PyObject *)d, NULL);
        Py_DECREF(d);
        return never;
    }
    return (PyObject *)d;
}

static PyObject *fast_select(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    return route(select_call, slow_select, self, args, nargs, names);
}

static PyObject *fast_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    return route(acquire_call, slow_acquire, self, args, nargs, names);
}

/* Settles a decision. 0: something is unusual, and nothing was done. */
static int settle(PyObject *engine, decision *d, PyObject *const *values, PyObject *names)
{
    char response[STRUCT_MAX];
    PyObject *handle;
    void *address;
    int32_t code;
    if (d->engine != engine || !fill(response, &response_layout, values, names) || !has_status(response))
        return 0;
    handle = open_handle(engine, &address);
    if (handle == NULL)
        return 0;
    code = complete_call(address, d->lease, response, NULL);
    Py_DECREF(handle);
    if (code != 0)
        return 0;
    d->settled = 1;
    return 1;
}

static PyObject *fast_complete(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    if (nargs == 1 && PyObject_TypeCheck(args[0], (PyTypeObject *)decision_type) &&
        settle(self, (decision *)args[0], args + nargs, names))
        Py_RETURN_NONE;
    return leave_to(slow_complete, self, args, nargs, names);
}

static PyObject *fast_decision_complete(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    PyObject *engine = ((decision *)self)->engine;
    /* A class of the caller's may have a `complete` of its own. */
    if (nargs == 0 && engine != NULL && (PyObject *)Py_TYPE(engine) == engine_type &&
        settle(engine, (decision *)self, args, names))
        Py_RETURN_NONE;
    return leave_to(slow_decision_complete, self, args, nargs, names);
}

/* ---- The module ---- */

#define METHOD(name, function) {name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, NULL}

static struct {
    PyMethodDef method;
    PyObject **slow;
} methods[] = {
    {METHOD("select", fast_select), &slow_select},
    {METHOD("acquire", fast_acquire), &slow_acquire},
    {METHOD("complete", fast_complete), &slow_complete},
    {METHOD("complete", fast_decision_complete), &slow_decision_complete},
};

/* replace(i, type, slow, doc): puts method i over that of the type, which becomes the slow one. */
static PyObject *replace(PyObject *module, PyObject *args)
{
    PyObject *type, *slow, *doc, *made;
    Py_ssize_t i;
    int done;
    (void)module;
    if (!PyArg_ParseTuple(args, "nO!OO!", &i, &PyType_Type, &type, &slow, &PyBytes_Type, &doc))
        return NULL;
    if (i < 0 || (size_t)i >= sizeof methods / sizeof methods[0] || *methods[i].slow != NULL) {
        PyErr_SetString(PyExc_ValueError, "no such method, or replaced before");
        return NULL;
    }
    Py_INCREF(doc); /* both stay as long as the process */
    methods[i].method.ml_doc = PyBytes_AsString(doc);
    Py_INCREF(slow);
    *methods[i].slow = slow;
    made = PyDescr_NewMethod((PyTypeObject *)type, &methods[i].method);
    if (made == NULL)
        return NULL;
    done = PyObject_SetAttrString(type, methods[i].method.ml_name, made);
    Py_DECREF(made);
    if (done != 0)
        return NULL;
    Py_RETURN_NONE;
}

static int read_layout(layout *l, const char *initial, Py_ssize_t size, PyObject *fields)
{
    Py_ssize_t i;
    l->fields_len = PyTuple_Size(fields);
    if (size > STRUCT_MAX || l->fields_len > FIELDS_MAX) {
        PyErr_SetString(PyExc_ImportError, "a struct is larger than this module was made for");
        return 0;
    }
    memcpy(l->initial, initial, (size_t)size);
    l->size = size;
    for (i = 0; i < l->fields_len; i++) {
        const char *name;
        if (!PyArg_ParseTuple(PyTuple_GetItem(fields, i), "snp", &name, &l->fields[i].offset, &l->fields[i].is_status))
            return 0;
        l->fields[i].name = PyUnicode_InternFromString(name);
        if (l->fields[i].name == NULL)
            return 0;
    }
    return 1;
}

/* claim(): whether the caller may bind. Only the first may: functions and layouts are those of one import of grate, and
 * another, in this interpreter or a second one, uses the pure form. */
static PyObject *claim(PyObject *module, PyObject *nothing)
{
    static int claimed;
    int first = !claimed;
    (void)module;
    (void)nothing;
    claimed = 1;
    return PyBool_FromLong(first);
}

/* bind(functions, request, request_fields, response, response_fields, decision, lease_offset, provider_offset,
 *      code of "none available", what raises it, classes of decisions and engines) */
static PyObject *bind(PyObject *module, PyObject *args)
{
    PyObject *request_fields, *response_fields, *none = PyTuple_New(0);
    unsigned long long select_at, acquire_at, complete_at;
    const char *request, *response, *initial;
    Py_ssize_t request_size, response_size, initial_size;
    (void)module;
    if (name_handle != NULL) {
        PyErr_SetString(PyExc_ImportError, "bound before");
        Py_XDECREF(none);
        return NULL;
    }
    name_handle = PyUnicode_InternFromString("_handle");
    name_address = PyUnicode_InternFromString("address");
    name_providers = PyUnicode_InternFromString("providers");
    if (none == NULL || name_handle == NULL || name_address == NULL || name_providers == NULL ||
        !PyArg_ParseTuple(args, "(KKK)y#O!y#O!y#nniOO!O!", &select_at, &acquire_at, &complete_at, &request, &request_size,
                          &PyTuple_Type, &request_fields, &response, &response_size, &PyTuple_Type, &response_fields,
                          &initial, &initial_size, &lease_offset, &provider_offset, &none_available_code,
                          &raise_none_available, &PyType_Type, &decision_type, &PyType_Type, &engine_type) ||
        !read_layout(&request_layout, request, request_size, request_fields) ||
        !read_layout(&response_layout, response, response_size, response_fields) ||
        !read_layout(&decision_layout, initial, initial_size, none)) {
        Py_XDECREF(none);
        return NULL;
    }
    Py_DECREF(none);
    Py_INCREF(raise_none_available);
    Py_INCREF(decision_type);
    Py_INCREF(engine_type);
    select_call = (route_function)(uintptr_t)select_at;
    acquire_call = (route_function)(uintptr_t)acquire_at;
    complete_call = (complete_function)(uintptr_t)complete_at;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"claim", claim, METH_NOARGS, NULL},
    {"bind", bind, METH_VARARGS, NULL},
    {"replace", replace, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int add_types(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&decision_spec);
    if (type == NULL || PyModule_AddObject(module, "Decision", type) != 0) {
        Py_XDECREF(type);
        return -1;
    }
    return 0;
}

/* In two phases, so that no object of one interpreter gets into another. */
static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)add_types},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "grate._fast", NULL, 0, functions, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModuleDef_Init(&definition);
}
