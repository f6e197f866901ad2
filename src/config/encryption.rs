//! `[encryption]`: blobs sealed on the disk.

use super::document::Section;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// 32 bytes that wrap the data key, read as base64 or hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; 32]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = hex::decode(text).or_else(|_| STANDARD.decode(text)).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The only word that lets the key out.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// The key that wraps the data key, and the one that did before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    pub key: MasterKey,
    /// Opens the data directory once more, to be wrapped by `key` from then on.
    pub previous_key: Option<MasterKey>,
}

impl Encryption {
    /// Read where the table is there: with one but no key, blobs would lie plain, unsaid.
    pub(super) fn read(section: Section<'_>) -> Option<Self> {
        let read = |name: &'static str, secret: Option<(Secret, String)>| {
            let (secret, place) = secret?;
            let key = MasterKey::parse(secret.expose());
            if key.is_none() {
                section.fault(
                    &place,
                    format!("`encryption.{name}` has to be 32 random bytes in base64 or hexadecimal (`openssl rand -base64 32`)"),
                );
            }
            key
        };
        let key = read("key", section.require("key"));
        let previous_key = read("previous_key", section.take_placed("previous_key"));
        section.finish();
        Some(Self {
            key: key?,
            previous_key,
        })
    }
}
