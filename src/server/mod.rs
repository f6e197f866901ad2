//! Serves HTTP: finds a request's route, lets it in, and sends the answer. Beside
//! `codeartifact`, it is the only room that knows statuses and headers.

mod account;
mod answer;
mod api;
mod audit;
mod control;
mod conversation;
mod credential;
mod exchange;
mod handle;
mod health;
mod host;
mod listener;
mod peer;
mod place;
mod publish;
mod read;
mod reply;
mod request_body;
mod response_cache;
mod route;
mod shared_body;
mod socket;
mod tls;
mod workers;

pub use listener::{ListenError, Listener};
pub use route::paths;
