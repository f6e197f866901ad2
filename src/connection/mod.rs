//! One registry outside: its client, its credentials, its moods.

mod breaker;
mod client;
mod credential;
mod error;
mod forward;
mod throttle;

pub use client::{Ask, Connection, DECIDER, Opened};
pub use error::Error;
pub use forward::{CREDENTIALS, Forward, ForwardBody, answered, passed_on};
