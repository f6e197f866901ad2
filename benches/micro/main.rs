//! What single steps cost: rewriting and filtering documents, hashing, routing, looking up.
//!
//! `cargo bench --bench micro` prints times and bytes per second; nothing here needs a network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on says so by panicking"
)]

mod hash;
mod lookup;
mod render;
mod route;

fn main() {
    divan::main();
}
