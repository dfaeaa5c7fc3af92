//! libgrate as its users call it: functions of the shared library, through the C ABI.
#![allow(unsafe_code, reason = "calls foreign functions; the only module that does")]

use std::error::Error;
use std::ffi::{CStr, CString, OsStr, c_char};
use std::hint::black_box;
use std::mem::{size_of, zeroed};
use std::ptr;
use std::rc::Rc;

use grate::capi::*;
use libloading::Library;

use crate::sample::Side;
use crate::workload::{CONCURRENCY, COOLDOWN_SECS, LATENCY_MS, Operation, Quotas, TOKENS, WARM_UP, Workload};

const CAPABILITY: &CStr = c"bench-cap";

/// Declares the functions that are looked up in the library.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            /// Keeps the functions loaded.
            _library: Library,
        }

        impl Functions {
            /// # Safety
            /// The library is libgrate, in the version whose types are used here.
            unsafe fn load(library: Library) -> Result<Self, libloading::Error> {
                // SAFETY: the caller's promise; the types are compared with the sources below.
                Ok(unsafe { Self { $($name: *library.get(stringify!($name))?,)* _library: library } })
            }
        }

        // The sources have the same types: otherwise this does not compile.
        $(const _: unsafe extern "C" fn($($argument),*) $(-> $result)? = $name;)*
    };
}

functions! {
    grate_clock_mock_new: fn(u64) -> *mut grate_clock;
    grate_clock_advance_ms: fn(*mut grate_clock, u64) -> grate_status;
    grate_clock_free: fn(*mut grate_clock);
    grate_engine_new: fn(*const grate_engine_config, *mut *mut grate_engine, *mut grate_error) -> grate_status;
    grate_engine_free: fn(*mut grate_engine);
    grate_engine_upsert_provider: fn(*mut grate_engine, *const grate_provider_config, *mut grate_error) -> grate_status;
    grate_engine_upsert_capability:
        fn(*mut grate_engine, *const grate_capability_config, *mut grate_error) -> grate_status;
    grate_engine_select:
        fn(*mut grate_engine, *const c_char, *const grate_request, *mut grate_decision, *mut grate_error)
        -> grate_status;
    grate_engine_acquire:
        fn(*mut grate_engine, *const c_char, *const grate_request, *mut grate_decision, *mut grate_error)
        -> grate_status;
    grate_engine_complete: fn(*mut grate_engine, u64, *const grate_response, *mut grate_error) -> grate_status;
    grate_engine_observe:
        fn(*mut grate_engine, *const c_char, *const grate_response, *mut grate_error) -> grate_status;
}

/// The loaded library.
pub struct Libgrate {
    functions: Rc<Functions>,
    pub version: String,
}

impl Libgrate {
    /// Loads the library from a path, or from the search path of the system if it is only a name.
    pub fn load(path: &OsStr) -> Result<Self, Box<dyn Error>> {
        // SAFETY: loading libgrate runs no code of its own; another library would be the caller's mistake.
        let library = unsafe { Library::new(path) }?;
        // SAFETY: these have the same type in every version.
        let (number, text) = unsafe {
            let number = library.get::<unsafe extern "C" fn() -> u32>("grate_version")?;
            let text = library.get::<unsafe extern "C" fn() -> *const c_char>("grate_version_string")?;
            (number(), CStr::from_ptr(text()))
        };
        if number != GRATE_VERSION {
            return Err(format!("the library has version {number}, this program was built for {GRATE_VERSION}").into());
        }
        let version = text.to_str()?.to_owned();
        // SAFETY: the version was just checked.
        Ok(Self { functions: Rc::new(unsafe { Functions::load(library) }?), version })
    }

    /// A warm engine that runs the operation.
    pub fn side(&self, workload: &Workload) -> Result<Side, Box<dyn Error>> {
        let mut engine = Engine::new(self.functions.clone(), workload)?;
        for _ in 0..WARM_UP {
            engine.observe();
        }
        let run: fn(&mut Engine) = match workload.operation {
            Operation::Select => Engine::select,
            Operation::SelectRanked => Engine::select_ranked,
            Operation::Observe => Engine::observe,
            Operation::Cycle => Engine::cycle,
        };
        Ok(Box::new(move |n| (0..n).for_each(|_| run(&mut engine))))
    }
}

/// A structure of the C API with its defaults: what its `_INIT` macro makes of it.
macro_rules! init {
    ($type:ident) => {
        // SAFETY: integers, doubles and pointers, for which all zeroes are valid.
        $type { struct_size: size_of::<$type>() as u32, ..unsafe { zeroed() } }
    };
}

/// An engine on a mock clock, with all that its callers keep between calls.
struct Engine {
    functions: Rc<Functions>,
    clock: *mut grate_clock,
    engine: *mut grate_engine,
    names: Vec<CString>,
    /// Whose turn it is to be observed.
    turn: usize,
    request: grate_request,
    response: grate_response,
    candidates: Vec<grate_candidate>,
    /// Bindings and careful programs always pass one.
    error: grate_error,
}

impl Engine {
    fn new(functions: Rc<Functions>, workload: &Workload) -> Result<Self, Box<dyn Error>> {
        let mut request = init!(grate_request);
        let mut response = init!(grate_response);
        response.outcome = GRATE_OUTCOME_SUCCESS;
        response.latency_ns = LATENCY_MS * 1_000_000;
        if workload.quotas == Quotas::Three {
            request.tokens = TOKENS;
            response.tokens = TOKENS;
        }
        // SAFETY: takes nothing but a number.
        let clock = unsafe { (functions.grate_clock_mock_new)(0) };
        let mut this = Self {
            functions,
            clock,
            engine: ptr::null_mut(),
            names: Vec::new(),
            turn: 0,
            request,
            response,
            candidates: vec![init!(grate_candidate); workload.providers],
            error: init!(grate_error),
        };
        let config = grate_engine_config { clock, ..init!(grate_engine_config) };
        // SAFETY: all pointers are to live structures of the right type.
        let status = unsafe { (this.functions.grate_engine_new)(&config, &mut this.engine, &mut this.error) };
        this.check(status)?;
        this.configure(workload)?;
        Ok(this)
    }

    fn configure(&mut self, workload: &Workload) -> Result<(), Box<dyn Error>> {
        let requests = workload.requests_per_minute();
        let quota = |dimension, limit, window_ns| grate_quota_config {
            dimension,
            limit,
            window_ns,
            ..init!(grate_quota_config)
        };
        let mut quotas = vec![quota(GRATE_DIMENSION_REQUESTS, requests, GRATE_WINDOW_MINUTE)];
        if workload.quotas == Quotas::Three {
            quotas.push(quota(GRATE_DIMENSION_TOKENS, requests * TOKENS, GRATE_WINDOW_MINUTE));
            quotas.push(quota(GRATE_DIMENSION_CONCURRENCY, CONCURRENCY, 0));
        }
        let mut rows = Vec::new();
        for (name, priority) in workload.named() {
            let name = CString::new(name)?;
            let config = grate_provider_config {
                name: name.as_ptr(),
                priority: priority.into(),
                cooldown_seconds: COOLDOWN_SECS.into(),
                quotas: quotas.as_ptr(),
                quotas_len: quotas.len() as u64,
                ..init!(grate_provider_config)
            };
            // SAFETY: the engine is alive and everything pointed to outlives the call.
            let status =
                unsafe { (self.functions.grate_engine_upsert_provider)(self.engine, &config, &mut self.error) };
            self.check(status)?;
            rows.push(grate_capability_provider { provider: name.as_ptr(), ..init!(grate_capability_provider) });
            self.names.push(name);
        }
        let config = grate_capability_config {
            name: CAPABILITY.as_ptr(),
            providers: rows.as_ptr(),
            providers_len: rows.len() as u64,
            ..init!(grate_capability_config)
        };
        // SAFETY: likewise.
        let status = unsafe { (self.functions.grate_engine_upsert_capability)(self.engine, &config, &mut self.error) };
        self.check(status)
    }

    fn check(&self, status: grate_status) -> Result<(), Box<dyn Error>> {
        if status == GRATE_OK {
            return Ok(());
        }
        // SAFETY: the library ends every message with a NUL.
        let message = unsafe { CStr::from_ptr(self.error.message.as_ptr()) };
        Err(format!("libgrate: {}", message.to_string_lossy()).into())
    }

    fn select(&mut self) {
        let mut decision = init!(grate_decision);
        self.route(self.functions.grate_engine_select, &mut decision);
    }

    fn select_ranked(&mut self) {
        let mut decision = grate_decision {
            candidates: self.candidates.as_mut_ptr(),
            candidates_capacity: self.candidates.len() as u64,
            ..init!(grate_decision)
        };
        self.route(self.functions.grate_engine_select, &mut decision);
    }

    fn observe(&mut self) {
        self.advance();
        self.turn = if self.turn + 1 < self.names.len() { self.turn + 1 } else { 0 };
        let Some(name) = self.names.get(self.turn) else { return };
        // SAFETY: the engine is alive and everything pointed to outlives the call.
        let status = unsafe {
            (self.functions.grate_engine_observe)(self.engine, name.as_ptr(), &self.response, &mut self.error)
        };
        assert_eq!(status, GRATE_OK, "libgrate: observe failed");
    }

    fn cycle(&mut self) {
        let mut decision = init!(grate_decision);
        self.route(self.functions.grate_engine_acquire, &mut decision);
        self.advance();
        // SAFETY: likewise.
        let status = unsafe {
            (self.functions.grate_engine_complete)(self.engine, decision.lease, &self.response, &mut self.error)
        };
        assert_eq!(status, GRATE_OK, "libgrate: complete failed");
    }

    fn route(
        &mut self,
        call: unsafe extern "C" fn(
            *mut grate_engine,
            *const c_char,
            *const grate_request,
            *mut grate_decision,
            *mut grate_error,
        ) -> grate_status,
        decision: &mut grate_decision,
    ) {
        // SAFETY: likewise.
        let status = unsafe { call(self.engine, CAPABILITY.as_ptr(), &self.request, decision, &mut self.error) };
        assert_eq!(status, GRATE_OK, "libgrate: nothing was available");
        black_box(decision);
    }

    /// Within what is timed, on both sides: the time of two requests is never the same.
    fn advance(&self) {
        // SAFETY: the clock is alive.
        unsafe { (self.functions.grate_clock_advance_ms)(self.clock, 1) };
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: both come from the library, or are NULL, and are freed once.
        unsafe {
            (self.functions.grate_engine_free)(self.engine);
            (self.functions.grate_clock_free)(self.clock);
        }
    }
}
