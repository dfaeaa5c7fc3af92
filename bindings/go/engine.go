package grate

// #include "native.h"
// #include <stdlib.h>
import "C"

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Engine holds providers, capabilities, quotas, health and leases. Make it with [New] or [NewJSON]; a process should have
// one per set of keys. All methods may be called from any goroutine at any time, Close too; after Close all return
// [ErrClosed].
type Engine struct {
	pointer *C.grate_engine
	users   atomic.Int64              // calls under way, and the two bits below
	names   sync.Map                  // *C.char to *known: the library's names stay where they are as long as the engine
	recent  [16]atomic.Pointer[known] // some of them
}

// known is a name of the library as a string.
type known struct {
	at   *C.char
	name string
}

// In Engine.users. The engine is freed by whoever turns a closed one without users into a freed one.
const (
	closed int64 = 1 << 62
	freed  int64 = 1<<61 | closed
)

// Option changes how an engine is made.
type Option func(*options)

type options struct {
	clock *MockClock
	state *StateFile
}

// WithClock makes the engine live by a mock clock instead of the system's.
func WithClock(clock *MockClock) Option {
	return func(o *options) { o.clock = clock }
}

// StateFile is where the state of an engine lives if other processes are to share it: what one counts, all count.
type StateFile struct {
	// Path of the file, the same in all processes. It is made if it is not there; what it counted before goes on.
	Path string
	// Size in bytes if it is made; 0 is 16 MiB.
	Size uint64
	// ReplaceUnusable replaces a file that cannot be used by a new one. Without it, that is ErrStateFile.
	ReplaceUnusable bool
}

// WithStateFile makes the engine keep its state in a file, which the processes of a host share.
func WithStateFile(file StateFile) Option {
	return func(o *options) { o.state = &file }
}

// New makes an engine and applies the configuration; that may be empty, and come later with [Engine.Configure].
// Errors are those of Configure, and those of the state file, if there is one: ErrStateFile, ErrInvalidArgument.
func New(config Config, opts ...Option) (*Engine, error) {
	document, err := config.document()
	if err != nil {
		return nil, err
	}
	return NewJSON(document, opts...)
}

// NewJSON makes an engine and applies a configuration in JSON. Errors are as for [New].
func NewJSON(document []byte, opts ...Option) (*Engine, error) {
	if err := checkVersion(LibraryVersion()); err != nil {
		return nil, err
	}
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	var config C.grate_engine_config
	C.grate_engine_config_init(&config, C.sizeof_grate_engine_config)
	if o.clock != nil {
		config.clock = o.clock.pointer
	}
	if o.state != nil {
		path, err := o.state.apply(&config)
		if err != nil {
			return nil, err
		}
		defer C.free(path)
	}
	c := newCall()
	defer c.release()
	var pointer *C.grate_engine
	status := C.grate_engine_new(&config, &pointer, &c.m.error)
	runtime.KeepAlive(o.clock)
	if err := c.failure(status); err != nil {
		return nil, err
	}
	e := &Engine{pointer: pointer}
	runtime.SetFinalizer(e, (*Engine).Close)
	if err := e.ConfigureJSON(document); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// apply writes the file into the settings. The path that it returns must stay as long as these.
func (f *StateFile) apply(config *C.grate_engine_config) (unsafe.Pointer, error) {
	if strings.IndexByte(f.Path, 0) >= 0 {
		return nil, &Error{Code: ErrInvalidArgument, Message: "the path of the state file contains a NUL"}
	}
	config.state_path = C.CString(f.Path)
	config.state_size = C.uint64_t(f.Size)
	if f.ReplaceUnusable {
		config.state_flags = C.GRATE_STATE_REPLACE_UNUSABLE
	}
	return unsafe.Pointer(config.state_path), nil
}

// Close frees the engine once the calls that are under way have returned. Leases need not be settled before; they cannot be
// afterwards. An engine that is not closed is freed by the garbage collector. The error is always nil.
func (e *Engine) Close() error {
	for {
		users := e.users.Load()
		if users&closed != 0 {
			return nil
		}
		if e.users.CompareAndSwap(users, users|closed) {
			break
		}
	}
	e.free()
	return nil
}

// enter begins a call: until leave, the engine is not freed. False says that it is closed, and needs no leave.
func (e *Engine) enter() bool {
	return e.users.Add(1)&closed == 0 || e.refuse()
}

//go:noinline
func (e *Engine) refuse() bool { // apart, so that enter is inlined
	e.leave()
	return false
}

func (e *Engine) leave() {
	if e.users.Add(-1) == closed {
		e.free()
	}
}

// free frees the engine if it is closed, not in use and not freed yet.
func (e *Engine) free() {
	if e.users.CompareAndSwap(closed, freed) {
		C.grate_engine_free(e.pointer)
	}
}

// name is a name of the library as a string, made once.
func (e *Engine) name(text *C.char) string {
	// Each has one place of few among those that were asked for last: a map of interfaces takes longer.
	recent := &e.recent[(uintptr(unsafe.Pointer(text))>>4^uintptr(unsafe.Pointer(text))>>8)%uintptr(len(e.recent))]
	if k := recent.Load(); k != nil && k.at == text {
		return k.name
	}
	return e.lookUp(text, recent)
}

func (e *Engine) lookUp(text *C.char, recent *atomic.Pointer[known]) string {
	if text == nil {
		return ""
	}
	found, ok := e.names.Load(text)
	if !ok {
		found, _ = e.names.LoadOrStore(text, &known{text, C.GoString(text)})
	}
	k := found.(*known)
	recent.Store(k)
	return k.name
}

// address is the engine as C functions of the hot path take it.
func (e *Engine) address() C.uintptr_t {
	return C.uintptr_t(uintptr(unsafe.Pointer(e.pointer)))
}

// begin is enter for calls that need not be fast; it comes with the memory for one. The caller defers end.
func (e *Engine) begin() (*call, error) {
	if !e.enter() {
		return nil, ErrClosed
	}
	return newCall(), nil
}

func (e *Engine) end(c *call) {
	c.release()
	e.leave()
}

// Configure applies a configuration, whole or not at all, at any time. It registers or changes what it names and leaves the
// rest, or, with Replace, removes what it does not name. Usage, health and leases are kept.
//
// Errors: ErrInvalidConfig, ErrInvalidName, ErrInvalidJSON, ErrUnknownProvider, ErrCapacity.
func (e *Engine) Configure(config Config) error {
	document, err := config.document()
	if err != nil {
		return err
	}
	return e.ConfigureJSON(document)
}

// ConfigureJSON is Configure with a document in the format that the README of libgrate describes, UTF-8.
func (e *Engine) ConfigureJSON(document []byte) error {
	c, err := e.begin()
	if err != nil {
		return err
	}
	defer e.end(c)
	if document == nil {
		document = []byte{} // an empty document, too; NULL would be another error
	}
	text := (*C.char)(unsafe.Pointer(unsafe.SliceData(document)))
	return c.failure(C.grate_engine_configure_json(e.pointer, text, C.uint64_t(len(document)), &c.m.error))
}

// RemoveProvider removes a provider, also from every capability. Its leases can still be settled.
// Errors: ErrUnknownProvider, ErrInvalidName.
func (e *Engine) RemoveProvider(name string) error {
	c, err := e.begin()
	if err != nil {
		return err
	}
	defer e.end(c)
	return c.failure(C.grate_engine_remove_provider(e.pointer, c.named(name), &c.m.error))
}

// RemoveCapability removes a capability; its providers and leases stay. Errors: ErrUnknownCapability, ErrInvalidName.
func (e *Engine) RemoveCapability(name string) error {
	c, err := e.begin()
	if err != nil {
		return err
	}
	defer e.end(c)
	return c.failure(C.grate_engine_remove_capability(e.pointer, c.named(name), &c.m.error))
}
