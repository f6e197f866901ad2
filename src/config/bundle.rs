//! `[bundle]`: who signs what goes over the air gap, and whose signature counts.

use super::document::Section;
use crate::secret::Secret;

/// Keys of bundles.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// An Ed25519 key as PKCS #8 in PEM; none: one in the data directory, made when it is needed.
    pub key: Option<Secret>,
    /// Public keys, `ed25519:` and base64, whose bundles are taken in.
    pub trusted: Vec<String>,
}

impl Bundle {
    pub(super) fn read(section: Section<'_>) -> Self {
        let trusted = section.take_placed::<Vec<String>>("trusted");
        if let Some((keys, place)) = &trusted {
            for key in keys.iter().filter(|key| !key.starts_with("ed25519:")) {
                section.fault(
                    place,
                    format!("`{key}` is no public key of a bundle, as `larder export` prints it: ed25519:…"),
                );
            }
        }
        let bundle = Self {
            key: section.take("key"),
            trusted: trusted.map(|(keys, _)| keys).unwrap_or_default(),
        };
        section.finish();
        bundle
    }
}
