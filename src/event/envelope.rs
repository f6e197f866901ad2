//! The envelope (EventBridge user guide, "Events"), and the details of a package version's change
//! (CodeArtifact user guide, "CodeArtifact event format and example").

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

/// An event as it is sent.
#[derive(Clone, Debug, Serialize)]
pub struct Envelope {
    pub version: &'static str,
    pub id: String,
    #[serde(rename = "detail-type")]
    pub detail_type: &'static str,
    pub source: String,
    pub account: String,
    /// Whole seconds.
    pub time: String,
    pub region: String,
    /// ARNs.
    pub resources: Vec<String>,
    pub detail: Value,
}

impl Envelope {
    /// A point in time as EventBridge writes it.
    #[must_use]
    pub fn time_of(now: Timestamp) -> String {
        now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// The envelope as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// How much of a version changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    pub assets_added: usize,
    pub assets_removed: usize,
    pub assets_updated: usize,
    pub metadata_updated: bool,
    pub status_changed: bool,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Created,
    Updated,
    Deleted,
}

impl Operation {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Updated => "Updated",
            Self::Deleted => "Deleted",
        }
    }
}

/// A change of one package version.
#[derive(Clone, Debug)]
pub struct VersionChange<'a> {
    pub domain: &'a str,
    pub owner: &'a str,
    pub repository: &'a str,
    pub format: &'a str,
    pub namespace: Option<&'a str>,
    pub name: &'a str,
    pub version: &'a str,
    /// Its status after the change; `Deleted` where it is gone.
    pub state: &'a str,
    pub revision: &'a str,
    pub operation: Operation,
    pub changes: Changes,
    /// Sequence number of events per package, from 1.
    pub sequence: i64,
}

impl VersionChange<'_> {
    pub const DETAIL_TYPE: &'static str = "CodeArtifact Package Version State Change";

    /// The `detail`; `id` tells deliveries of the same event apart from other events.
    #[must_use]
    pub fn detail(&self, id: &str) -> Value {
        json!({
            "domainName": self.domain,
            "domainOwner": self.owner,
            "repositoryName": self.repository,
            "repositoryAdministrator": self.owner,
            "packageFormat": self.format,
            "packageNamespace": self.namespace,
            "packageName": self.name,
            "packageVersion": self.version,
            "packageVersionState": self.state,
            "packageVersionRevision": self.revision,
            "changes": self.changes,
            "operationType": self.operation.as_str(),
            "sequenceNumber": self.sequence,
            "eventDeduplicationId": id,
        })
    }
}
