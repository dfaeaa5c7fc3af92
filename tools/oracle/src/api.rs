//! The C functions, called as a careful C program would. Whatever a call answers, its error must make sense.
#![allow(unsafe_code, reason = "these are C functions")]

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use grate::capi::*;

/// More than any capability or provider here has.
const MOST: usize = 16;

/// A struct as its `_init` function leaves it.
pub(crate) fn new<T>(init: unsafe extern "C" fn(*mut T, u32)) -> T {
    let mut value = MaybeUninit::uninit();
    // SAFETY: the function writes the whole struct, and any bytes are a valid one.
    unsafe {
        init(value.as_mut_ptr(), size_of::<T>() as u32);
        value.assume_init()
    }
}

/// Calls with an error struct, and checks what is in it.
pub(crate) fn call(function: impl FnOnce(*mut grate_error) -> grate_status) -> grate_status {
    let mut error = new(grate_error_init);
    let size = error.message.len();
    // SAFETY: these are bytes, and stay so.
    let (status, bytes) = unsafe {
        // So that a missing NUL shows.
        error.message.as_mut_ptr().write_bytes(b'x', size);
        let status = function(&raw mut error);
        (status, std::slice::from_raw_parts(error.message.as_ptr().cast(), size))
    };
    let message = CStr::from_bytes_until_nul(bytes).expect("the message has a NUL").to_str().expect("it is UTF-8");
    assert!((GRATE_OK..GRATE_ERR_PANIC).contains(&status), "status {status}: {message}");
    assert_eq!(error.code, status, "{message}");
    assert_eq!(message.is_empty(), status == GRATE_OK, "status {status}: '{message}'");
    status
}

/// A name that the library handed out.
pub(crate) fn text<'a>(name: *const c_char) -> Option<&'a str> {
    // SAFETY: the library's names are NUL-terminated, and live as long as the engine, which its user outlives.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().expect("names are UTF-8"))
}

/// A quota as a caller configures it. The names are the caller's.
#[derive(Clone, Debug)]
pub(crate) struct QuotaConfig {
    pub(crate) dimension: i32,
    pub(crate) limit: u64,
    pub(crate) window_ns: u64,
    pub(crate) strategy: i32,
    pub(crate) burst: u64,
    pub(crate) phase_ns: i64,
    pub(crate) pool: Option<&'static CStr>,
}

/// A header field, and a response with fields.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

pub(crate) fn fields(lines: &[Field]) -> Vec<grate_header> {
    let field = |(name, value): &Field| grate_header {
        name: name.as_ptr().cast(),
        name_len: name.len() as u64,
        value: value.as_ptr().cast(),
        value_len: value.len() as u64,
    };
    lines.iter().map(field).collect()
}

/// A decision with its candidates.
pub(crate) struct Decision {
    pub(crate) status: grate_status,
    pub(crate) best: grate_decision,
    pub(crate) candidates: Vec<grate_candidate>,
}

/// A provider's state with its quotas.
pub(crate) struct State {
    pub(crate) provider: grate_provider_state,
    pub(crate) quotas: Vec<grate_quota_state>,
}

/// An engine on a mock clock.
pub(crate) struct Engine {
    raw: *mut grate_engine,
    clock: *mut grate_clock,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: both are freed once. The engine goes on without its clock.
        unsafe {
            grate_clock_free(self.clock);
            grate_engine_free(self.raw);
        }
    }
}

impl Engine {
    /// `config` needs no clock.
    pub(crate) fn new(mut config: grate_engine_config, unix_ms: u64) -> Self {
        let clock = grate_clock_mock_new(unix_ms);
        config.clock = clock;
        let mut raw = ptr::null_mut();
        // SAFETY: valid structs.
        assert_eq!(call(|err| unsafe { grate_engine_new(&raw const config, &raw mut raw, err) }), GRATE_OK);
        Self { raw, clock }
    }

    pub(crate) fn set_clock(&self, ns: u64) {
        // SAFETY: the clock lives as long as the engine.
        unsafe {
            assert_eq!(grate_clock_set_ns(self.clock, ns), GRATE_OK);
            assert_eq!(grate_clock_now_ns(self.clock), ns);
        }
    }

    pub(crate) fn configure(&self, json: &[u8]) -> grate_status {
        // SAFETY: so many bytes; an empty slice's pointer is not NULL.
        call(|err| unsafe { grate_engine_configure_json(self.raw, json.as_ptr().cast(), json.len() as u64, err) })
    }

    pub(crate) fn upsert_provider(
        &self,
        name: &CStr,
        priority: u32,
        weight: f64,
        cooldown_seconds: f64,
        quotas: &[QuotaConfig],
    ) -> grate_status {
        let quotas: Vec<_> = quotas.iter().map(quota).collect();
        let mut config = new(grate_provider_config_init);
        config.name = name.as_ptr();
        config.priority = priority;
        config.weight = weight;
        config.cooldown_seconds = cooldown_seconds;
        config.quotas = quotas.as_ptr();
        config.quotas_len = quotas.len() as u64;
        // SAFETY: valid with all that it points to.
        call(|err| unsafe { grate_engine_upsert_provider(self.raw, &raw const config, err) })
    }

    pub(crate) fn upsert_capability(&self, name: &CStr, providers: &[(&CStr, u32)]) -> grate_status {
        let provider = |(name, priority): &(&CStr, u32)| {
            let mut provider = new(grate_capability_provider_init);
            provider.provider = name.as_ptr();
            provider.priority = *priority;
            provider
        };
        let providers: Vec<_> = providers.iter().map(provider).collect();
        let mut config = new(grate_capability_config_init);
        config.name = name.as_ptr();
        config.providers = providers.as_ptr();
        config.providers_len = providers.len() as u64;
        // SAFETY: valid with all that it points to.
        call(|err| unsafe { grate_engine_upsert_capability(self.raw, &raw const config, err) })
    }

    pub(crate) fn remove_provider(&self, name: &CStr) -> grate_status {
        // SAFETY: a valid name.
        call(|err| unsafe { grate_engine_remove_provider(self.raw, name.as_ptr(), err) })
    }

    pub(crate) fn remove_capability(&self, name: &CStr) -> grate_status {
        // SAFETY: a valid name.
        call(|err| unsafe { grate_engine_remove_capability(self.raw, name.as_ptr(), err) })
    }

    /// Selects, or acquires, with room for so many candidates.
    pub(crate) fn decide(
        &self,
        acquire: bool,
        capability: &CStr,
        request: &grate_request,
        exclude: &[CString],
        room: usize,
    ) -> Decision {
        let exclude: Vec<_> = exclude.iter().map(|name| name.as_ptr()).collect();
        let mut request = *request;
        request.exclude = exclude.as_ptr();
        request.exclude_len = exclude.len() as u64;
        let mut candidates = vec![new(grate_candidate_init); room];
        let mut best = new(grate_decision_init);
        best.candidates = candidates.as_mut_ptr();
        best.candidates_capacity = room as u64;
        let function = if acquire { grate_engine_acquire } else { grate_engine_select };
        // SAFETY: valid with all that they point to.
        let status =
            call(|err| unsafe { function(self.raw, capability.as_ptr(), &raw const request, &raw mut best, err) });
        assert_eq!(best.candidates_len, best.candidates_total.min(room as u64));
        candidates.truncate(best.candidates_len as usize);
        Decision { status, best, candidates }
    }

    pub(crate) fn complete(&self, lease: u64, response: &grate_response, headers: &[Field]) -> grate_status {
        let fields = fields(headers);
        let response = with_headers(response, &fields);
        // SAFETY: valid with all that it points to; any number may stand for a lease.
        call(|err| unsafe { grate_engine_complete(self.raw, lease, &raw const response, err) })
    }

    pub(crate) fn cancel(&self, lease: u64) -> grate_status {
        // SAFETY: any number may stand for a lease.
        call(|err| unsafe { grate_engine_cancel(self.raw, lease, err) })
    }

    pub(crate) fn observe(&self, provider: &CStr, response: &grate_response, headers: &[Field]) -> grate_status {
        let fields = fields(headers);
        let response = with_headers(response, &fields);
        // SAFETY: valid with all that it points to.
        call(|err| unsafe { grate_engine_observe(self.raw, provider.as_ptr(), &raw const response, err) })
    }

    pub(crate) fn metrics(&self) -> grate_metrics {
        let mut metrics = new(grate_metrics_init);
        // SAFETY: a valid struct.
        assert_eq!(call(|err| unsafe { grate_engine_metrics(self.raw, &raw mut metrics, err) }), GRATE_OK);
        metrics
    }

    /// `None` if there is no such provider.
    pub(crate) fn state(&self, provider: &CStr) -> Option<State> {
        let mut quotas = vec![new(grate_quota_state_init); MOST];
        let mut state = new(grate_provider_state_init);
        state.quotas = quotas.as_mut_ptr();
        state.quotas_capacity = MOST as u64;
        // SAFETY: valid with its array.
        let status =
            call(|err| unsafe { grate_engine_provider_state(self.raw, provider.as_ptr(), &raw mut state, err) });
        if status == GRATE_ERR_UNKNOWN_PROVIDER {
            return None;
        }
        assert_eq!(status, GRATE_OK);
        assert_eq!(state.quotas_len, state.quotas_total);
        quotas.truncate(state.quotas_len as usize);
        Some(State { provider: state, quotas })
    }

    pub(crate) fn health(&self, provider: &CStr) -> f64 {
        let mut health = f64::NAN;
        // SAFETY: a valid name, and room for a number.
        let status =
            call(|err| unsafe { grate_engine_provider_health(self.raw, provider.as_ptr(), &raw mut health, err) });
        assert_eq!(status, GRATE_OK);
        health
    }

    pub(crate) fn in_cooldown(&self, provider: &CStr) -> bool {
        let mut cooling = -1;
        // SAFETY: a valid name, and room for a number.
        let status = call(|err| unsafe {
            grate_engine_provider_in_cooldown(self.raw, provider.as_ptr(), &raw mut cooling, err)
        });
        assert_eq!(status, GRATE_OK);
        assert!(cooling == 0 || cooling == 1);
        cooling == 1
    }

    pub(crate) fn remaining(&self, provider: &CStr, dimension: i32) -> u64 {
        let mut remaining = 0;
        // SAFETY: a valid name, and room for a number.
        let status = call(|err| unsafe {
            grate_engine_remaining_quota(self.raw, provider.as_ptr(), dimension, &raw mut remaining, err)
        });
        assert_eq!(status, GRATE_OK);
        remaining
    }

    /// The metrics as text, and a byte for the NUL.
    fn read_metrics(&self, buffer: &mut [u8]) -> (grate_status, usize) {
        let (at, room, mut len) = (buffer.as_mut_ptr().cast(), buffer.len() as u64, 0);
        // SAFETY: so many bytes.
        let status = call(|err| unsafe { grate_engine_prometheus(self.raw, at, room, &raw mut len, err) });
        (status, len as usize)
    }

    pub(crate) fn prometheus(&self) -> String {
        let mut buffer = vec![b'x'; 1 << 16];
        let (status, len) = self.read_metrics(&mut buffer);
        assert_eq!(status, GRATE_OK);
        let text = CStr::from_bytes_until_nul(&buffer).expect("it has a NUL").to_str().expect("metrics are UTF-8");
        assert_eq!(text.len(), len);
        text.to_owned()
    }

    /// A buffer for the metrics that is a byte too small is left alone.
    pub(crate) fn check_small_buffer(&self) {
        let (status, len) = self.read_metrics(&mut []);
        let mut buffer = vec![b'x'; len];
        assert_eq!((status, self.read_metrics(&mut buffer)), (GRATE_ERR_BUFFER_TOO_SMALL, (status, len)));
        assert!(buffer.iter().all(|byte| *byte == b'x'), "a buffer that is too small was written to");
        buffer.push(b'x');
        assert_eq!((self.read_metrics(&mut buffer), buffer[len]), ((GRATE_OK, len), 0));
    }
}

fn quota(config: &QuotaConfig) -> grate_quota_config {
    let mut quota = new(grate_quota_config_init);
    quota.dimension = config.dimension;
    quota.limit = config.limit;
    quota.window_ns = config.window_ns;
    quota.strategy = config.strategy;
    quota.burst = config.burst;
    quota.phase_ns = config.phase_ns;
    quota.pool = config.pool.map_or(ptr::null(), CStr::as_ptr);
    quota
}

fn with_headers(response: &grate_response, fields: &[grate_header]) -> grate_response {
    grate_response { headers: fields.as_ptr(), headers_len: fields.len() as u64, ..*response }
}

/// What the reader of header fields says of them.
pub(crate) fn read_headers(
    lines: &[Field],
    unix_ms: u64,
    room: usize,
) -> (grate_header_report, Vec<grate_header_quota>) {
    let fields = fields(lines);
    let mut quotas = vec![new(grate_header_quota_init); room];
    let mut report = new(grate_header_report_init);
    report.quotas = quotas.as_mut_ptr();
    report.quotas_capacity = room as u64;
    // SAFETY: valid with all that they point to.
    let status =
        call(|err| unsafe { grate_parse_headers(fields.as_ptr(), fields.len() as u64, unix_ms, &raw mut report, err) });
    assert_eq!(status, GRATE_OK);
    assert_eq!(report.quotas_len, report.quotas_total.min(room as u64));
    quotas.truncate(report.quotas_len as usize);
    (report, quotas)
}
