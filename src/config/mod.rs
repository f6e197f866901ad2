//! Reads the configuration, and names every mistake with its line.

mod access;
mod aws;
mod bundle;
mod connection;
mod document;
mod encryption;
mod event;
mod load;
mod oidc;
mod publish;
mod report;
mod repository;
mod scope;
mod settings;
#[cfg(test)]
mod tests;

pub use access::Access;
pub use connection::{Auth, CodeArtifact, Connection, basic, bearer};
pub use document::{Fault, Faults, nearest};
pub use encryption::{Encryption, MasterKey};
pub use event::{Destination, EventBus, Events, Target, Topic};
pub use load::{Learned, Source, load};
pub use oidc::{Oidc, Reach};
pub use publish::{Packages, Publish, Retention, Upload};
pub use report::Report;
pub use repository::{
    Repository, Source as RepositorySource, is_name as is_repository_name, resolved,
};
pub use scope::CredentialScope;
pub use settings::{Ahead, Cache, Config, Domain, Fetch, Log, LogFormat, Server, Tls};
