//! Carries packages over an air gap: fetches what lists need, and moves it in signed bundles.

pub mod bundle;
mod command;
mod export;
mod import;
pub mod lockfile;
pub mod maven;
pub mod platform;
mod resolve;
mod sbom;
mod seal;
mod signature;
mod want;
mod warm;

pub use command::{AirgapCommand, AirgapOutcome, execute};
pub use export::{Export, Order, export, exported};
pub use import::{ImportReport, Importer};
pub use resolve::resolve;
pub use want::{Want, WantedFile};
pub use warm::{Failure, FailureKind, WarmOptions, Warmed, Warmer};
