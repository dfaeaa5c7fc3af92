//! What can go wrong in the engine.

/// An error of the engine. Nothing has changed when one is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name is empty, too long or contains control characters.
    #[error("invalid name: {0}")]
    InvalidName(&'static str),
    /// An argument is out of its range.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// A configuration contradicts itself or the one in force.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),
    /// A JSON document is malformed.
    #[error("invalid JSON: {0}")]
    InvalidJson(String),
    /// No capability of that name is registered.
    #[error("unknown capability")]
    UnknownCapability,
    /// No provider of that name is registered.
    #[error("unknown provider")]
    UnknownProvider,
    /// A configuration names a provider that is not registered.
    #[error("unknown provider '{0}': register it before the capability that lists it")]
    UnregisteredProvider(String),
    /// The lease was settled already, has expired, or never existed.
    #[error("stale lease: it was settled already, has expired, or never existed")]
    StaleLease,
    /// A state file cannot be used.
    #[error("state file: {0}")]
    StateFile(String),
    /// A fixed bound of the engine is reached.
    #[error("too many {0}")]
    Capacity(&'static str),
}
