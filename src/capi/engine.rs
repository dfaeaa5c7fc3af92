//! `grate_engine`: construction and settings.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::sync::Arc;

use super::abi::{self, structs};
use super::clock::grate_clock;
use super::config::GRATE_ZERO;
#[cfg(not(unix))]
use super::error::GRATE_ERR_STATE_FILE;
use super::error::{Failure, GRATE_ERR_INVALID_CONFIG, grate_error, grate_status, guard, guard_free};
use crate::clock::{Clock, SystemClock};
use crate::config::{Settings, Weights};
use crate::engine::Engine;
use crate::shared::StateFile;

/// An engine: providers, capabilities, quotas, health and leases. Every function may be called with it on any thread at
/// any time; only `grate_engine_free` must not run while another call does. It starts no threads, reads no environment
/// variables and prints nothing (but for a bug: then Rust's panic handler, if the process has no other, writes to standard error).
/// No function may be called in a signal handler: it may have interrupted one that holds a lock.
///
/// In a forked child, an engine is to be used only if no other thread of the parent was in a call at the moment of the fork: its
/// lock would stay taken. With a state file the child goes on with it in any case, as a user of its own.
pub struct grate_engine {
    pub(super) inner: Engine,
}

/// Settings of an engine. Zero is the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_engine_config {
    /// `sizeof(grate_engine_config)`.
    pub struct_size: u32,
    /// Consecutive failures that start a cooldown. 0 is 3.
    pub cooldown_trigger_count: u32,
    /// The time source; NULL is the system's. The engine keeps what it needs of it.
    pub clock: *const grate_clock,
    /// Weight of the quota component in the score. Weights are finite, >= 0, and used relative to their sum, which must
    /// not be 0; all four 0 is 0.40, 0.35, 0.20, 0.05.
    pub weight_quota: f64,
    /// Weight of the health component.
    pub weight_health: f64,
    /// Weight of the priority component.
    pub weight_priority: f64,
    /// Weight of the latency component.
    pub weight_latency: f64,
    /// Providers with less health are not chosen. 0 is 0.2; at most 1. In JSON 0 is 0; here 1e-9 is as good.
    pub min_health_for_selection: f64,
    /// Share of a new outcome in the health average, > 0, at most 1. 0 is 0.25.
    pub ewma_alpha: f64,
    /// Seconds in which the health that is missing halves. 0 is 30; at most 31622400.
    pub recovery_half_life_secs: f64,
    /// A failure that leaves less health than this starts a cooldown. 0 is 0.2; at most 1. In JSON 0 is 0; here 1e-9 is as good.
    pub cooldown_threshold: f64,
    /// Each cooldown in a row is this times longer, >= 1. 0 is 2.
    pub cooldown_multiplier: f64,
    /// The longest computed cooldown, in seconds. 0 is 600; at most 31622400. A provider's Retry-After may be longer.
    pub max_cooldown_secs: f64,
    /// A lease that is not settled in less than so many nanoseconds expires. 0 is 10 minutes; at most 366 days.
    pub lease_ttl_ns: u64,
    /// The longest time a request spends on the wire before the provider counts it, in nanoseconds: so much longer do the
    /// units of a lease stay in their window; so long before the end of a calendar window they count in the next, too; so much
    /// later they begin to come back to a bucket that is full again when they arrive. 0 is 50 ms; `GRATE_ZERO` is none; at
    /// most one hour.
    pub skew_ns: u64,
    /// Which quantile of past usage, >= 0 and < 1, stands for an estimate that a request does not give. 0 is the mean.
    pub estimate_quantile: f64,
    /// The longest wait that is believed when a provider tells one (Retry-After), in nanoseconds; longer ones are cut to it
    /// and counted as `capped_waits`. 0 is one day; at most 366 days.
    pub max_retry_after_ns: u64,
    /// Path of the file in which the state lives, shared by all processes of this host that give the same path: what one
    /// counts, all count. Made (readable by its owner only) if it is not there; what it counted before goes on, also after a
    /// restart of the host. All processes must use the same clock. Copied. NULL: the state is this engine's own.
    /// If all settings above are 0, those in force stay, else they are replaced.
    /// A file belongs to one host, and on it to one container at a time. It is best in a directory where only its user can write:
    /// whoever writes to it changes what is counted, or stops those who use it. It must not be cut off while it is used, and who
    /// removes or renames it parts those who use it from those who come. A process that is stopped (SIGSTOP, a debugger, a frozen
    /// container) in the middle of a call holds up the calls of others on the same provider until it goes on or is killed. Unix
    /// only.
    pub state_path: *const c_char,
    /// Size of the file in bytes if it is made, 1 MiB to 64 GiB: about 5 KiB for a provider, 3 KiB for each of its quotas and
    /// 128 bytes for a lease in flight. 0 is 16 MiB. Its space is set aside at once, and never grows. Must be 0 without
    /// `state_path`.
    pub state_size: u64,
    /// `GRATE_STATE_` flags, or 0; must be 0 without `state_path`.
    pub state_flags: u64,
}

/// State flag: a state file that cannot be used, as it is damaged, of another version, or no state file at all, is replaced by a
/// new one. Without it, `grate_engine_new` fails. Never replaced is what is no regular file, and a file that processes use, here
/// or in another container; of another version's, this cannot be told.
pub const GRATE_STATE_REPLACE_UNUSABLE: u64 = 1;

structs! { grate_engine_config = 128, }

/// Initialises the first `size` bytes of `config` (pass `sizeof *config`). Does nothing for NULL.
///
/// # Safety
/// `config` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_config_init(config: *mut grate_engine_config, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(config, size) }
}

impl grate_engine_config {
    /// The file that it names, if any.
    ///
    /// # Safety
    /// The path must be NULL or a NUL-terminated string.
    unsafe fn state_file(&self) -> Result<Option<StateFile>, Failure> {
        if self.state_flags & !GRATE_STATE_REPLACE_UNUSABLE != 0 {
            return Err(Failure::invalid(format_args!("state_flags has a flag that this library does not know")));
        }
        if self.state_path.is_null() {
            if self.state_size != 0 || self.state_flags != 0 {
                return Err(Failure::new(
                    GRATE_ERR_INVALID_CONFIG,
                    format_args!("state_size and state_flags are of a state file, and state_path is NULL"),
                ));
            }
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        let path = unsafe { CStr::from_ptr(self.state_path) };
        if path.is_empty() {
            return Err(Failure::invalid(format_args!("state_path is empty; NULL is no file")));
        }
        let replace_unusable = self.state_flags & GRATE_STATE_REPLACE_UNUSABLE != 0;
        Ok(Some(StateFile { path: path_of(path)?, size: self.state_size, replace_unusable }))
    }

    fn settings(&self) -> Settings {
        let default = Settings::default();
        let or = |value: f64, default: f64| if value == 0.0 { default } else { value };
        let weights = Weights {
            quota: self.weight_quota,
            health: self.weight_health,
            priority: self.weight_priority,
            latency: self.weight_latency,
        };
        Settings {
            weights: if weights == Weights::ZERO { default.weights } else { weights },
            min_health_for_selection: or(self.min_health_for_selection, default.min_health_for_selection),
            ewma_alpha: or(self.ewma_alpha, default.ewma_alpha),
            recovery_half_life_secs: or(self.recovery_half_life_secs, default.recovery_half_life_secs),
            cooldown_trigger_count: match self.cooldown_trigger_count {
                0 => default.cooldown_trigger_count,
                n => n,
            },
            cooldown_threshold: or(self.cooldown_threshold, default.cooldown_threshold),
            cooldown_multiplier: or(self.cooldown_multiplier, default.cooldown_multiplier),
            max_cooldown_secs: or(self.max_cooldown_secs, default.max_cooldown_secs),
            lease_ttl_ns: match self.lease_ttl_ns {
                0 => default.lease_ttl_ns,
                n => n,
            },
            skew_ns: match self.skew_ns {
                0 => default.skew_ns,
                GRATE_ZERO => 0,
                n => n,
            },
            estimate_quantile: self.estimate_quantile,
            max_retry_after_ns: match self.max_retry_after_ns {
                0 => default.max_retry_after_ns,
                n => n,
            },
        }
    }
}

#[cfg(unix)]
fn path_of(path: &CStr) -> Result<PathBuf, Failure> {
    Ok(std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes())).map(|path: &std::ffi::OsStr| path.into())
}

#[cfg(not(unix))]
fn path_of(_: &CStr) -> Result<PathBuf, Failure> {
    Err(Failure::new(GRATE_ERR_STATE_FILE, format_args!("state_path: this system has no shared state")))
}

/// Makes an engine. `config` may be NULL for all defaults. On success `*out` is an engine to free with
/// `grate_engine_free`; otherwise it is untouched. Fails with `GRATE_ERR_NULL_POINTER`, `GRATE_ERR_STRUCT_SIZE`,
/// `GRATE_ERR_INVALID_CONFIG`, `GRATE_ERR_INVALID_ARGUMENT`; with a state file also with `GRATE_ERR_STATE_FILE`, or with
/// `GRATE_ERR_CAPACITY` if it is too small or 256 engines use it, forked children included. Safe on any thread.
///
/// # Safety
/// `config` must be NULL or valid, its clock NULL or alive; `out` NULL or writable; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_new(
    config: *const grate_engine_config,
    out: *mut *mut grate_engine,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            abi::out(out, "out")?;
            let c = abi::read_or_default(config)?;
            let clock: Arc<dyn Clock> = match c.clock.as_ref() {
                Some(clock) => clock.clock(),
                None => Arc::new(SystemClock),
            };
            let inner = match c.state_file()? {
                Some(file) => Engine::open(c.settings(), clock, &file)?,
                None => Engine::new(c.settings(), clock)?,
            };
            abi::write_value(out, Box::into_raw(Box::new(grate_engine { inner })))
        })
    }
}

/// Frees an engine with everything in it; names that it handed out are gone too. Leases need not be settled before.
/// Does nothing for NULL. No other call may use the engine at the same time or afterwards.
///
/// # Safety
/// `engine` must be NULL or come from `grate_engine_new`, and not be used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_free(engine: *mut grate_engine) {
    if !engine.is_null() {
        // SAFETY: made by Box::into_raw, freed once.
        guard_free(|| drop(unsafe { Box::from_raw(engine) }));
    }
}
