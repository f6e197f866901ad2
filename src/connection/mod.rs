//! Talks to one registry outside: its client, its credentials, and how it is doing.

mod breaker;
mod cdn_loop;
mod client;
mod credential;
mod error;
mod forward;
mod hearing;
mod opened;
mod proxy;
mod reach;
mod request;
mod sending;
mod silence;
mod throttle;

pub use cdn_loop::{LoopId, hops};
pub use client::{Connection, DECIDER, certificates};
pub use error::Error;
pub use forward::{Forward, ForwardBody, Outbound, answered};
pub use opened::Opened;
pub use proxy::Proxies;
pub use reach::{Reach, is_inside};
pub use request::{Refusals, UpstreamRequest};
pub use sending::ForwardAnswer;
