//! What is read in rooms that are in no crate of their own: lists, bundles, policies.

use larder::access::policy::Policy;
use larder::airgap::bundle::{BundleHead, ManifestLine};
use larder::airgap::lockfile;
use larder::airgap::platform::Platforms;

/// A list by each name that a client gives one.
pub fn lockfile(data: &[u8]) {
    const NAMES: [&str; 16] = [
        "package-lock.json",
        "pnpm-lock.yaml",
        "yarn.lock",
        "bun.lock",
        "uv.lock",
        "poetry.lock",
        "pdm.lock",
        "Pipfile.lock",
        "packages.lock.json",
        "project.assets.json",
        "packages.config",
        "verification-metadata.xml",
        "gradle.lockfile",
        "pylock.toml",
        "list",
        "requirements.txt",
    ];
    let Some((&choice, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let name = NAMES
        .get(usize::from(choice) % NAMES.len())
        .unwrap_or(&"list");
    if let Ok(needs) = lockfile::read(name, text, &Platforms::default()) {
        // Each is the size of what says it, at least.
        let count = needs.wants.len() + needs.elsewhere.len();
        assert!(count <= text.len() + 1, "{count} of {} bytes", text.len());
        let merged = needs.merged();
        assert_eq!(
            merged.clone().merged(),
            merged,
            "merging again changes something"
        );
    }
}

/// A bundle's head, and its manifest's entries.
pub fn bundle(data: &[u8]) {
    if let Ok(head) = serde_json::from_slice::<BundleHead>(data) {
        let again = serde_json::to_vec(&head).ok();
        let again = again.and_then(|bytes| serde_json::from_slice::<BundleHead>(&bytes).ok());
        assert_eq!(
            again,
            Some(head),
            "a head that is written reads differently"
        );
    }
    let Ok(entry) = serde_json::from_slice::<ManifestLine>(data) else {
        return;
    };
    let _ = entry.blobs();
    match entry {
        ManifestLine::Asset(asset) => drop(asset.row()),
        ManifestLine::Document(document) => drop(document.row()),
        ManifestLine::Release(release) => drop(release.new_release()),
        ManifestLine::Connection(_) | ManifestLine::Date(_) => {}
    }
}

/// A policy that is read needs no more than its text.
pub fn policy(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Policy::parse(text);
    }
}
