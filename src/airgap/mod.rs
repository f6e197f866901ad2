//! Behind the air gap: what lists need is fetched where there is a line, carried over in a bundle
//! that proves itself, and served where there is none.

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
