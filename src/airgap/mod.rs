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

pub use command::{Command, Outcome, execute};
pub use export::{Export, Order, export, exported};
pub use import::{Importer, Report};
pub use resolve::resolve;
pub use want::{File, Want};
pub use warm::{Manner, Trouble, TroubleKind, Warmed, Warmer};
