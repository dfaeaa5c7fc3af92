package grate

// #include <stdlib.h>
// #include "native.h"
import "C"

import (
	"math"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// call is the memory of one call of the library, which C owns. Whoever takes one from the pool has it alone until it puts
// it back.
type call struct {
	m      *C.grate_go_call
	length int            // of the name in m
	buffer unsafe.Pointer // of C's, for what has no fixed size
	size   int
}

var calls = sync.Pool{New: func() any {
	c := &call{m: (*C.grate_go_call)(C.malloc(C.sizeof_grate_go_call))}
	C.grate_go_call_init(c.m)
	runtime.SetFinalizer(c, (*call).free)
	return c
}}

func (c *call) free() {
	C.free(unsafe.Pointer(c.m))
	C.free(c.buffer)
}

// maxKept is the largest buffer to keep: the headers of any usual response fit many times over.
const maxKept = 64 << 10

func newCall() *call {
	return calls.Get().(*call)
}

func (c *call) release() {
	if c.size > maxKept {
		C.free(c.buffer)
		c.buffer, c.size = nil, 0
	}
	calls.Put(c)
}

// address is the call as C functions of the hot path take it.
func (c *call) address() C.uintptr_t {
	return C.uintptr_t(uintptr(unsafe.Pointer(c.m)))
}

// reserve is a buffer of that many bytes.
func (c *call) reserve(size int) unsafe.Pointer {
	if size > c.size {
		C.free(c.buffer)
		c.buffer, c.size = C.malloc(C.size_t(size)), size
	}
	return c.buffer
}

// result is room for one in the buffer.
func result[T any](c *call) *T {
	return (*T)(c.reserve(int(unsafe.Sizeof(*new(T)))))
}

// named sets the name, unless it is there already, and returns it. Most calls are about the same one, and C reads it faster
// if it was not written a moment ago.
func (c *call) named(name string) *C.char {
	if at := (*byte)(unsafe.Pointer(&c.m.name)); name != unsafe.String(at, c.length) {
		c.length = putName(unsafe.Slice(at, C.GRATE_GO_NAME_SIZE), name) - 1
	}
	return &c.m.name[0]
}

// putName writes a name as C wants it and returns how many bytes that took. What is too long is cut where the library still
// sees that it is, and a NUL becomes another control character: neither is the name of anything.
func putName(to []byte, name string) int {
	n := copy(to[:min(len(to), C.GRATE_GO_NAME_SIZE)-1], name)
	if strings.IndexByte(name, 0) >= 0 {
		for i := range to[:n] {
			to[i] = max(to[i], 1)
		}
	}
	to[n] = 0
	return n + 1
}

func (c *call) setRequest(r *Request) {
	q := &c.m.request
	q.tokens = C.uint64_t(r.Tokens)
	q.input_tokens = C.uint64_t(r.InputTokens)
	q.output_tokens = C.uint64_t(r.OutputTokens)
	q.bytes = C.uint64_t(r.Bytes)
	q.cost_micro_usd = C.uint64_t(r.CostMicroUSD)
	q.headroom = C.double(r.Headroom)
	q.exclude, q.exclude_len = nil, C.uint64_t(len(r.Exclude))
	if len(r.Exclude) > 0 {
		q.exclude = c.names(r.Exclude)
	}
}

func (c *call) setResponse(r *Response) {
	p := &c.m.response
	p.outcome = C.int32_t(r.Outcome)
	p.http_status = C.int32_t(max(math.MinInt32, min(r.HTTPStatus, math.MaxInt32))) // not another status by overflow
	p.latency_ns = nanoseconds(r.Latency)
	p.retry_after_ns = nanoseconds(r.RetryAfter)
	p.requests = C.uint64_t(r.Requests)
	p.tokens = C.uint64_t(r.Tokens)
	p.input_tokens = C.uint64_t(r.InputTokens)
	p.output_tokens = C.uint64_t(r.OutputTokens)
	p.bytes = C.uint64_t(r.Bytes)
	p.cost_micro_usd = C.uint64_t(r.CostMicroUSD)
	p.headers, p.headers_len = nil, 0
	if len(r.Header) > 0 {
		p.headers, p.headers_len = c.headers(r.Header)
	}
}

// names puts names into the buffer, pointers first.
func (c *call) names(names []string) **C.char {
	room := 0
	for _, name := range names {
		room += min(len(name)+1, C.GRATE_GO_NAME_SIZE)
	}
	rows, bytes := split[*C.char](c, len(names), room)
	for i, name := range names {
		rows[i] = (*C.char)(unsafe.Pointer(&bytes[0]))
		bytes = bytes[putName(bytes, name):]
	}
	return &rows[0]
}

// headers puts header fields into the buffer, rows first. Should someone change them meanwhile, they are cut.
func (c *call) headers(header map[string][]string) (*C.grate_header, C.uint64_t) {
	fields, room := 0, 0
	for name, values := range header {
		fields += len(values)
		for _, value := range values {
			room += len(name) + len(value)
		}
	}
	if fields == 0 {
		return nil, 0
	}
	rows, bytes := split[C.grate_header](c, fields, room)
	put := func(text string) (*C.char, C.uint64_t) {
		at := (*C.char)(unsafe.Pointer(unsafe.SliceData(bytes)))
		n := copy(bytes, text)
		bytes = bytes[n:]
		return at, C.uint64_t(n)
	}
	at := 0
	for name, values := range header {
		for _, value := range values {
			if at == fields {
				break
			}
			row := &rows[at]
			row.name, row.name_len = put(name)
			row.value, row.value_len = put(value)
			at++
		}
	}
	return &rows[0], C.uint64_t(at)
}

// split divides the buffer into rows and room for bytes.
func split[Row any](c *call, rows, room int) ([]Row, []byte) {
	size := rows * int(unsafe.Sizeof(*new(Row)))
	buffer := c.reserve(size + room)
	return unsafe.Slice((*Row)(buffer), rows), unsafe.Slice((*byte)(unsafe.Add(buffer, size)), room)
}

// failure makes the error of a status that the call returned.
func (c *call) failure(status C.int32_t) error {
	if status == C.GRATE_OK {
		return nil
	}
	return &Error{Code: Code(status), Message: C.GoString(&c.m.error.message[0])}
}
