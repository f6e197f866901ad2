//! Larder as its users meet it: invariants under load and faults, and the real clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on says so by panicking"
)]

mod access;
mod airgap;
mod clients;
mod command;
mod docs;
mod faults;
mod invariants;
mod publish;
mod support;
mod tidy;
