//! The hot path does not allocate.
#![allow(unsafe_code, reason = "an allocator that counts, and the C functions")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "every pointer here is to a live local")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_char;
use std::mem::size_of;
use std::ptr;

use common::*;
use grate::capi::*;
use grate::config::{Dimension, Settings, Strategy};
use grate::engine::{Candidates, Estimate, Ranked};
use grate::feedback::Outcome;
use grate::lease::LeaseId;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may allocate after its locals are gone.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn assert_no_allocation<R>(what: &str, work: impl FnOnce() -> R) -> R {
    let before = ALLOCATIONS.get();
    let result = work();
    assert_eq!(ALLOCATIONS.get() - before, 0, "{what} allocates");
    result
}

/// Takes candidates without a vector.
struct Few {
    all: [Option<Ranked>; 8],
    len: usize,
}

impl Candidates for Few {
    fn clear(&mut self) {
        self.len = 0;
    }

    fn push(&mut self, ranked: &Ranked) {
        self.all[self.len] = Some(*ranked);
        self.len += 1;
    }
}

const OUTCOMES: [Outcome; 9] = [
    Outcome::Success,
    Outcome::RateLimited,
    Outcome::QuotaExhausted,
    Outcome::Forbidden,
    Outcome::ServerError,
    Outcome::Overloaded,
    Outcome::Timeout,
    Outcome::ClientError,
    Outcome::Cancelled,
];

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(Box::new(7));
    assert!(ALLOCATIONS.get() > before);
}

#[test]
fn the_engine_does_not_allocate() {
    let (engine, clock) = engine(Settings { lease_ttl_ns: 5 * SEC, ..Settings::default() });
    let quotas = |limit| {
        vec![
            requests(limit, SEC),
            with(Strategy::TokenBucket, quota(Dimension::Tokens, limit * 10, SEC)),
            with(Strategy::FixedWindow, quota(Dimension::Requests, limit * 20, MINUTE)),
            quota(Dimension::Tokens, limit * 1000, MINUTE),
            concurrency(5),
            pooled("p", requests(9, SEC)),
        ]
    };
    serve(&engine, ["a", "b", "c"].iter().zip([3, 5, 60]).map(|(name, limit)| provider(name, quotas(limit))).collect());
    let excluded = [engine.provider_id("a").unwrap()];
    let mut few = Few { all: [None; 8], len: 0 };
    let mut leases: [Option<LeaseId>; 64] = [None; 64];
    let (mut available, mut none) = (0, 0);
    // The table of leases has its first chunk after one lease.
    engine.cancel(acquire(&engine).lease.unwrap()).unwrap();

    for round in 0..3000usize {
        clock.advance_ns(230 * MS);
        let estimate = Estimate { headroom: if round % 3 == 0 { 0.2 } else { 0.0 }, ..tokens(round as u64 % 9) };
        let estimate = if round % 5 == 0 { Estimate { excluded: &excluded, ..estimate } } else { estimate };
        let routed = assert_no_allocation("select", || engine.select("api", &estimate, None).unwrap());
        *if routed.available() { &mut available } else { &mut none } += 1;
        assert_no_allocation("select with candidates", || engine.select("api", &estimate, Some(&mut few)).unwrap());
        for _ in 0..3 {
            let routed = assert_no_allocation("acquire", || engine.acquire("api", &estimate, Some(&mut few)).unwrap());
            let slot = leases.iter_mut().find(|slot| slot.is_none()).unwrap();
            *slot = routed.lease;
        }
        let mut told = reported_tokens(OUTCOMES[(round / 7) % 9], round as u64 % 12);
        if round % 50 != 0 {
            told.outcome = Outcome::Success;
        }
        for (i, slot) in leases.iter_mut().enumerate().filter(|(i, _)| i % 3 == round % 3) {
            let Some(lease) = slot.take() else { continue };
            // Some are left to expire.
            match (i + round) % 4 {
                0 => assert_no_allocation("cancel", || engine.cancel(lease)).is_ok(),
                1 | 2 => assert_no_allocation("complete", || engine.complete(lease, &told)).is_ok(),
                _ => false,
            };
        }
        let (name, also) = (["a", "b", "c"][round % 3], reported_tokens(Outcome::ServerError, 2));
        assert_no_allocation("observe", || engine.observe(name, if round % 400 < 5 { &also } else { &told })).unwrap();
        let stale = LeaseId::from_raw(round as u64 * 12345);
        assert!(assert_no_allocation("a stale lease", || engine.cancel(stale)).is_err());
        assert_no_allocation("unknown", || {
            assert!(engine.select("nothing", &estimate, None).is_err());
            assert!(engine.observe("nobody", &told).is_err());
            assert_eq!(engine.remaining("nobody", Dimension::Tokens).ok(), None);
        });
    }
    assert!(available > 100 && none > 100, "{available} available, {none} not");
    assert!(engine.metrics().counters.expired_leases > 10);
}

fn header(name: &'static str, value: &'static str) -> grate_header {
    grate_header {
        name: name.as_ptr().cast(),
        name_len: name.len() as u64,
        value: value.as_ptr().cast(),
        value_len: value.len() as u64,
    }
}

#[test]
fn the_c_functions_do_not_allocate() {
    let clock = grate_clock_mock_new(UNIX_MS);
    let mut engine = ptr::null_mut();
    unsafe {
        let mut config = std::mem::zeroed::<grate_engine_config>();
        config.struct_size = size_of::<grate_engine_config>() as u32;
        config.clock = clock;
        assert_eq!(grate_engine_new(&raw const config, &raw mut engine, ptr::null_mut()), GRATE_OK);
        let json = r#"{
            "providers": [
                {"name": "a", "quotas": [
                    {"dimension": "requests", "limit": 3, "window": "second"},
                    {"dimension": "concurrency", "limit": 4}]},
                {"name": "b", "quotas": [
                    {"dimension": "requests", "limit": 100, "window": "minute", "strategy": "fixed_window"},
                    {"dimension": "tokens", "limit": 500, "window": "minute", "strategy": "token_bucket"}]}
            ],
            "capabilities": [{"name": "api", "providers": [{"provider": "a"}, {"provider": "b"}]}]
        }"#;
        let status =
            grate_engine_configure_json(engine, json.as_ptr().cast::<c_char>(), json.len() as u64, ptr::null_mut());
        assert_eq!(status, GRATE_OK);

        let mut error = std::mem::zeroed::<grate_error>();
        error.struct_size = size_of::<grate_error>() as u32;
        let mut row = std::mem::zeroed::<grate_candidate>();
        row.struct_size = size_of::<grate_candidate>() as u32;
        let mut rows = [row; 2];
        let mut decision = std::mem::zeroed::<grate_decision>();
        decision.struct_size = size_of::<grate_decision>() as u32;
        let mut request = std::mem::zeroed::<grate_request>();
        request.struct_size = size_of::<grate_request>() as u32;
        let excluded = [c"b".as_ptr(), c"nobody".as_ptr()];
        let headers = [
            header("X-RateLimit-Limit", "100"),
            header("x-ratelimit-remaining", "7"),
            header("x-ratelimit-reset", "12"),
            header("anthropic-ratelimit-tokens-remaining", "12000"),
            header("anthropic-ratelimit-tokens-reset", "2026-01-01T00:01:00Z"),
            header("RateLimit", "\"default\";r=50;t=30"),
            header("retry-after", "Fri, 02 Jan 2026 00:00:10 GMT"),
            header("content-type", "text/plain"),
        ];
        let mut response = std::mem::zeroed::<grate_response>();
        response.struct_size = size_of::<grate_response>() as u32;

        let (mut none, mut health) = (0, 0.0);
        for round in 0..2000u64 {
            grate_clock_advance_ms(clock, 41);
            request.tokens = round % 50;
            let with_list = round % 4 == 0;
            (request.exclude, request.exclude_len) = if with_list { (excluded.as_ptr(), 2) } else { (ptr::null(), 0) };
            decision.candidates = if round % 2 == 0 { rows.as_mut_ptr() } else { ptr::null_mut() };
            decision.candidates_capacity = 1 + round % 2;
            let warm = round > 0;
            let hot = |what: &str, work: &mut dyn FnMut() -> i32| {
                if warm { assert_no_allocation(what, work) } else { work() }
            };
            hot("grate_engine_select", &mut || {
                grate_engine_select(engine, c"api".as_ptr(), &raw const request, &raw mut decision, &raw mut error)
            });
            hot("grate_engine_provider_health", &mut || {
                grate_engine_provider_health(engine, c"a".as_ptr(), &raw mut health, &raw mut error)
            });
            let status = hot("grate_engine_acquire", &mut || {
                grate_engine_acquire(engine, c"api".as_ptr(), &raw const request, &raw mut decision, &raw mut error)
            });
            none += u64::from(status == GRATE_ERR_NO_PROVIDER_AVAILABLE);
            response.http_status = if round % 60 == 59 { 429 } else { 200 };
            response.tokens = round % 30;
            let with_headers = round % 7 == 0;
            (response.headers, response.headers_len) =
                if with_headers { (headers.as_ptr(), headers.len() as u64) } else { (ptr::null(), 0) };
            let lease = decision.lease;
            if round % 3 == 0 {
                hot("grate_engine_cancel", &mut || grate_engine_cancel(engine, lease, &raw mut error));
            } else {
                hot("grate_engine_complete", &mut || {
                    grate_engine_complete(engine, lease, &raw const response, &raw mut error)
                });
            }
            let status = hot("grate_engine_complete, stale", &mut || {
                grate_engine_complete(engine, lease, &raw const response, &raw mut error)
            });
            assert_eq!(status, GRATE_ERR_STALE_LEASE);
            let status = hot("grate_engine_observe", &mut || {
                grate_engine_observe(engine, c"b".as_ptr(), &raw const response, &raw mut error)
            });
            assert_eq!(status, GRATE_OK);
            for name in [c"", c"\xff", c"\n"] {
                let status = hot("grate_engine_acquire, no name", &mut || {
                    grate_engine_acquire(engine, name.as_ptr(), ptr::null(), &raw mut decision, &raw mut error)
                });
                assert_eq!(status, GRATE_ERR_INVALID_NAME);
            }
            let status = hot("grate_engine_select, unknown", &mut || {
                grate_engine_select(engine, c"x".as_ptr(), ptr::null(), &raw mut decision, &raw mut error)
            });
            assert_eq!(status, GRATE_ERR_UNKNOWN_CAPABILITY);
        }
        assert!(none > 20, "{none}");
        grate_engine_free(engine);
        grate_clock_free(clock);
    }
}
