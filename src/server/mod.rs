//! HTTP: sockets in, answers out. The only room, beside `/v1`, that knows statuses and headers.

mod handle;
mod health;
mod listener;
mod reply;
mod route;
mod tls;

pub use listener::{ListenError, Listener};
