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

pub use command::{Command, Outcome, execute};
pub use export::{Export, Order, export, exported};
pub use import::{Importer, Report};
pub use resolve::resolve;
pub use want::{File, Want};
pub use warm::{Manner, Trouble, TroubleKind, Warmed, Warmer};
