//! HTTP: sockets in, answers out. The only room, beside `/v1`, that knows statuses and headers.

mod account;
mod api;
mod control;
mod credential;
mod exchange;
mod handle;
mod health;
mod host;
mod listener;
mod peer;
mod ready;
mod reply;
mod route;
mod tls;
mod workers;

pub use listener::{ListenError, Listener};
