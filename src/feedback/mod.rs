//! What a response says about its provider.

mod outcome;

pub mod headers;

pub use outcome::Outcome;
