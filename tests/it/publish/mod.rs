//! Packages of our own: published with the clients that there are, merged with what lies outside,
//! passed on, copied, and not lost.

mod backup;
mod behind;
mod confusion;
mod durable;
mod early;
mod forward;
mod manage;
mod maven;
mod merged;
mod moving;
mod npm;
mod nuget;
mod packed;
pub mod python;

use bytes::Bytes;
use serde_json::Value;

pub use crate::support::npm::npm_document;
use crate::support::{TestLarder, Upstream};

/// A repository of a team's own before the public one.
pub const TEAM: &str = "[[repository]]\nname = \"public\"\nexternal_connections = [\"up:npm\", \"up:pypi\", \"up:maven\", \"up:nuget\"]\n[[repository]]\nname = \"team\"\nupstreams = [\"public\"]\npublish = \"local\"\n";

pub async fn team() -> (Upstream, TestLarder) {
    let upstream = Upstream::start().await;
    crate::support::nuget::serve(&upstream);
    let larder = TestLarder::start_and(&upstream, TEAM).await;
    (upstream, larder)
}

pub async fn npm_put(
    larder: &TestLarder,
    name: &str,
    document: Bytes,
) -> crate::support::larder::Answer {
    let path = format!("/npm/team/{}", name.replace('/', "%2f"));
    let headers = [("content-type", "application/json")];
    larder
        .send(reqwest::Method::PUT, &path, &headers, Some(document))
        .await
}

/// Versions that the packument lists.
pub async fn npm_versions(larder: &TestLarder, name: &str) -> Vec<String> {
    let answer = larder.get(&format!("/npm/team/{name}")).await;
    if answer.status == 404 {
        return Vec::new();
    }
    let document: Value = answer.expect(200).json();
    document["versions"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}
