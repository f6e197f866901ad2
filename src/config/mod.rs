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
mod proxy;
mod publish;
mod report;
mod repository;
mod scope;
mod scrub;
mod settings;
#[cfg(test)]
mod tests;

pub use access::AccessSettings;
pub use connection::{Auth, CodeArtifact, ConnectionSettings, basic, bearer};
pub use document::{Fault, Faults, nearest};
pub use encryption::{Encryption, MasterKey};
pub use event::{Destination, EventBus, EventTarget, Events, Topic};
pub use load::{ConfigSource, Learned, load};
pub use oidc::{IssuerReach, Oidc};
pub use proxy::ProxySetting;
pub use publish::{PackageCatalogSettings, PublishSetting, Retention, UploadSettings};
pub use report::ReportSettings;
pub use repository::{RepositorySettings, SourceSetting, is_name as is_repository_name, resolved};
pub use scope::CredentialScope;
pub use scrub::ScrubSettings;
pub use settings::{
    Cache, Config, Domain, Fetch, Log, LogFormat, PrefetchSettings, RuleExpiry, ServerSettings, Tls,
};
