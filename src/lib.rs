//! Larder: a pull-through artifact proxy and repository. ARCHITECTURE.md shows the rooms.

pub mod clock;
pub mod config;
pub mod format;
pub mod package;
pub mod problem;
pub mod rule;
pub mod secret;
pub mod task;
