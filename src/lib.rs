//! libgrate picks, in-process, which upstream provider gets the next request, so that `429 Too Many Requests` is predicted
//! and not received.
//!
//! Rust programs use [`Engine`]; everyone else uses the C API in [`capi`], which is what this crate exists for. The README
//! explains the concepts.
//!
//! # Map
//!
//! * [`engine`]: choosing, reserving, settling. `choice` finds the best with few looks, `judge` tells who can take a request,
//!   and [`score`] has the one formula.
//! * `estimate` learns what requests use, where callers do not say.
//! * [`config`] is what users say, with its rules (JSON in `json`); `registry` is the configuration in force.
//! * `provider` is a provider's record and its lock; `quota` has a file for each strategy, and the forecast; [`health`]
//!   has health, cooldown and recovery; [`lease`] the checked handles.
//! * Records lie in `table`s, each under the `lock` of its provider or pool; the configuration is read through a `gate`.
//! * [`capi`] converts between C and all this. Unsafe code is there, and in `table`, which hands out pointers to records.

mod book;
pub mod capi;
mod cell;
mod choice;
pub mod clock;
pub mod config;
mod decay;
mod decision;
pub mod engine;
pub mod error;
mod estimate;
#[cfg(feature = "fault-injection")]
mod fault;
pub mod feedback;
mod gate;
pub mod health;
mod inspect;
mod journal;
mod json;
mod judge;
pub mod lease;
mod lock;
mod memory;
mod metrics;
mod names;
mod per_process;
pub mod provider;
mod quota;
mod registry;
pub mod score;
pub mod shared;
mod state;
mod sync;
mod table;
pub mod usage;

pub use engine::Engine;
pub use error::Error;
