package grate

// #include <stdlib.h>
// #include "native.h"
import "C"

import (
	"time"
	"unsafe"
)

// maxHeaderQuotas is the most that grate_header_report.quotas_total can be.
const maxHeaderQuotas = 16

// HeaderReport is what the headers of one response tell about rate limits.
type HeaderReport struct {
	// Cached: the response comes from a cache (Age above 0), so that its quotas are those of an earlier time.
	Cached bool
	// RetryAfter is the wait from receipt (Retry-After and its relatives); negative if the headers do not tell.
	RetryAfter time.Duration
	// Quotas that the headers tell of, at most 16.
	Quotas []HeaderQuota
}

// HeaderQuota is what headers tell of one quota.
type HeaderQuota struct {
	Dimension Dimension
	Limit     uint64        // the size of the quota, or Absent
	Remaining uint64        // what is left of it, or Absent
	ResetIn   time.Duration // from receipt until it is filled up, partly or wholly; negative if the headers do not tell
	Window    time.Duration // that the limit is for; negative if the headers do not tell
}

// ParseHeaders reads rate-limit headers without an engine, as Complete and Observe do: Retry-After, x-ratelimit-*,
// anthropic-ratelimit-*, all drafts of the IETF RateLimit fields, and the forms of single providers. What cannot be read is
// absent. Instants in the headers are made relative to receivedAt. header is an http.Header.
func ParseHeaders(header map[string][]string, receivedAt time.Time) (HeaderReport, error) {
	c := newCall()
	defer c.release()
	var fields *C.grate_header
	var n C.uint64_t
	if len(header) > 0 {
		fields, n = c.headers(header)
	}
	quotas := (*[maxHeaderQuotas]C.grate_header_quota)(C.malloc(maxHeaderQuotas * C.sizeof_grate_header_quota))
	defer C.free(unsafe.Pointer(quotas))
	C.grate_header_quota_init(&quotas[0], C.sizeof_grate_header_quota)
	var out C.grate_header_report
	C.grate_header_report_init(&out, C.sizeof_grate_header_report)
	out.quotas, out.quotas_capacity = &quotas[0], maxHeaderQuotas
	status := C.grate_parse_headers(fields, n, C.uint64_t(max(0, receivedAt.UnixMilli())), &out, &c.m.error)
	if err := c.failure(status); err != nil {
		return HeaderReport{}, err
	}
	report := HeaderReport{
		Cached:     out.cached != 0,
		RetryAfter: milliseconds(out.retry_after_ms),
	}
	for _, q := range quotas[:out.quotas_len] {
		report.Quotas = append(report.Quotas, HeaderQuota{
			Dimension: Dimension(q.dimension),
			Limit:     uint64(q.limit),
			Remaining: uint64(q.remaining),
			ResetIn:   milliseconds(q.reset_in_ms),
			Window:    milliseconds(q.window_ms),
		})
	}
	return report, nil
}

// milliseconds that headers tell; a time beyond what a Duration holds never comes.
func milliseconds(ms C.uint64_t) time.Duration {
	if ms == C.GRATE_ABSENT {
		return -1
	}
	if ms > C.uint64_t(Never/time.Millisecond) {
		return Never
	}
	return time.Duration(ms) * time.Millisecond
}
