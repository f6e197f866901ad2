//! What single steps cost: rewriting and filtering documents, hashing, routing, looking up,
//! sending a file, sealing one.
//!
//! `cargo bench --bench micro` prints times and bytes per second; nothing here needs a network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    unsafe_code,
    reason = "a bench that cannot go on says so by panicking, and maps files of its own"
)]

mod hash;
mod lookup;
mod render;
mod route;
mod sealed;
mod send;

fn main() {
    divan::main();
}
