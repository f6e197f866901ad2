//! What the operator wrote, and what it means: every mistake at once, each with its line.

mod connection;
mod document;
mod load;
mod repository;
mod settings;

pub use connection::{Auth, Connection};
pub use document::{Fault, Faults};
pub use load::{Learned, Source, load};
pub use repository::{Publish, Repository};
pub use settings::{Ahead, Cache, Config, Domain, Fetch, Log, LogFormat, Server, Tls};
