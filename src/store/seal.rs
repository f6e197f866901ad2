//! Files sealed with AES-256-GCM, chunk by chunk, so that any place in them can be read alone.
//!
//! A file begins with a header: a word, a salt, and a tag that binds the file to its name. Its key
//! is derived from the data key and the salt (HKDF, RFC 5869). A chunk's nonce is its number, and
//! whether it is the last (the STREAM construction): none can be taken away, moved or brought from
//! another file. The data key lies beside the blobs, wrapped by a master key that does not.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{hkdf, hmac};

use super::{Error, private};
use crate::config::{Encryption, MasterKey};
use crate::package::BlobId;

/// Plain bytes in a chunk; the last one may have fewer.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// How many bytes a chunk takes on disk beside its content.
pub const TAG_BYTES: usize = 16;
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

const WORD: &[u8; 8] = b"LARDER\x00\x01";
const SALT_BYTES: usize = 16;
const NAME_TAG_AT: usize = WORD.len() + SALT_BYTES;
const NAME_TAG_BYTES: usize = 32;
pub const HEADER_BYTES: usize = NAME_TAG_AT + NAME_TAG_BYTES;

const KEY_BYTES: usize = 32;
/// The data key, wrapped.
const KEY_FILE: &str = "data.key";
const WRAPPED: &[u8] = b"larder data key";

/// Why bytes stay sealed.
fn altered() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        "a sealed file was altered, or sealed under another key",
    )
}

/// Bytes of a key; for HKDF, which asks for the length.
struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// Seals the files of one data directory.
pub struct Sealer {
    data_key: [u8; KEY_BYTES],
}

impl Sealer {
    /// Unwraps the directory's data key, or makes one where there is none.
    ///
    /// # Errors
    /// Where there is one and no master key opens it, or the directory cannot be written.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn open(directory: &Path, config: Option<&Encryption>) -> Result<Option<Self>, Error> {
        let file = directory.join(KEY_FILE);
        let wrapped = match std::fs::read_to_string(&file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let (config, wrapped) = match (config, wrapped) {
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                return Err(Error::Sealed(
                    "its blobs are sealed, and [encryption] in the configuration has no key",
                ));
            }
            (Some(config), wrapped) => (config, wrapped),
        };
        let Some(wrapped) = wrapped else {
            let data_key = random()?;
            keep(&file, &wrap(&config.key, &data_key)?)?;
            return Ok(Some(Self { data_key }));
        };
        if let Some(data_key) = unwrap(&config.key, &wrapped) {
            return Ok(Some(Self { data_key }));
        }
        let before = config.previous_key.as_ref();
        let Some(data_key) = before.and_then(|key| unwrap(key, &wrapped)) else {
            return Err(Error::Sealed(
                "its blobs are sealed under another key than [encryption] has",
            ));
        };
        keep(&file, &wrap(&config.key, &data_key)?)?;
        Ok(Some(Self { data_key }))
    }

    /// Forgets the data key, once nothing is sealed under it any more.
    ///
    /// # Errors
    /// Where the directory cannot be written.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn forget(directory: &Path) -> std::io::Result<()> {
        std::fs::remove_file(directory.join(KEY_FILE))
    }

    #[cfg(test)]
    pub(super) fn random() -> Self {
        Self {
            data_key: random().unwrap(),
        }
    }

    fn derive(&self, salt: &[u8]) -> std::io::Result<Seal> {
        let from = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.data_key);
        let key = |what: &'static [u8]| {
            let mut key = [0; KEY_BYTES];
            let what = [what];
            let derived = from.expand(&what, KeyLength);
            derived
                .and_then(|it| it.fill(&mut key))
                .map_err(|_| altered())?;
            Ok::<_, std::io::Error>(key)
        };
        let chunks = UnboundKey::new(&AES_256_GCM, &key(b"chunks")?).map_err(|_| altered())?;
        Ok(Seal {
            chunks: LessSafeKey::new(chunks),
            name: hmac::Key::new(hmac::HMAC_SHA256, &key(b"name")?),
        })
    }

    /// Begins a sealed file: its header, without a name yet.
    ///
    /// # Errors
    /// Where the system has no random bytes, or the file cannot be written.
    pub fn begin(&self, mut file: &File) -> std::io::Result<Arc<Seal>> {
        let salt: [u8; SALT_BYTES] = random()?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(WORD);
        header.extend_from_slice(&salt);
        header.resize(HEADER_BYTES, 0);
        file.write_all(&header)?;
        Ok(Arc::new(self.derive(&salt)?))
    }

    /// The seal of a file of that name, and how many plain bytes it has.
    ///
    /// # Errors
    /// Where it is none of ours, or has another name.
    pub fn seal_of(&self, file: &File, id: BlobId) -> std::io::Result<(Arc<Seal>, u64)> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => altered(),
                _ => error,
            })?;
        let (word, rest) = header.split_at(WORD.len());
        let (salt, name_tag) = rest.split_at(SALT_BYTES);
        if word != WORD {
            return Err(altered());
        }
        let seal = self.derive(salt)?;
        hmac::verify(&seal.name, id.as_bytes().as_slice(), name_tag).map_err(|_| altered())?;
        let sealed = file.metadata()?.len().saturating_sub(HEADER_BYTES as u64);
        let chunks = sealed.div_ceil(SEALED_CHUNK_BYTES as u64);
        let size = sealed
            .checked_sub(chunks * TAG_BYTES as u64)
            .filter(|_| chunks > 0)
            .ok_or_else(altered)?;
        Ok((Arc::new(seal), size))
    }
}

fn key_of(master: &MasterKey) -> std::io::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, master.expose()).map_err(|_| altered())?;
    Ok(LessSafeKey::new(key))
}

fn wrap(master: &MasterKey, data_key: &[u8; KEY_BYTES]) -> std::io::Result<String> {
    let nonce: [u8; NONCE_LEN] = random()?;
    let mut wrapped = data_key.to_vec();
    key_of(master)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(WRAPPED),
            &mut wrapped,
        )
        .map_err(|_| altered())?;
    Ok(STANDARD.encode([nonce.as_slice(), &wrapped].concat()))
}

fn unwrap(master: &MasterKey, wrapped: &str) -> Option<[u8; KEY_BYTES]> {
    let mut bytes = STANDARD.decode(wrapped.trim()).ok()?;
    let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let key = key_of(master).ok()?;
    let plain = key.open_in_place(nonce, Aad::from(WRAPPED), sealed).ok()?;
    (&*plain).try_into().ok()
}

/// Writes the wrapped key, for its owner's eyes alone: the old one is there until the new one is
/// safely on the disk.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn keep(file: &Path, wrapped: &str) -> std::io::Result<()> {
    let beside = file.with_extension("key.new");
    let mut new = private::create(&beside)?;
    new.write_all(wrapped.as_bytes())?;
    new.sync_all()?;
    std::fs::rename(&beside, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Seals and opens the chunks of one file.
pub struct Seal {
    chunks: LessSafeKey,
    name: hmac::Key,
}

fn nonce(index: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    let [.., last] = &mut nonce;
    *last = u8::from(is_last);
    for (into, byte) in nonce.iter_mut().zip(index.to_be_bytes()) {
        *into = byte;
    }
    Nonce::assume_unique_for_key(nonce)
}

impl Seal {
    /// Seals a chunk in its place.
    ///
    /// # Errors
    /// Where it is too long for the cipher, which no chunk is.
    pub fn seal(&self, index: u64, is_last: bool, chunk: &mut Vec<u8>) -> std::io::Result<()> {
        self.chunks
            .seal_in_place_append_tag(nonce(index, is_last), Aad::empty(), chunk)
            .map_err(|_| altered())
    }

    /// Opens a chunk in its place; says how many bytes it has.
    ///
    /// # Errors
    /// Where it is not what was sealed.
    pub fn open(&self, index: u64, is_last: bool, chunk: &mut [u8]) -> std::io::Result<usize> {
        self.chunks
            .open_in_place(nonce(index, is_last), Aad::empty(), chunk)
            .map(|plain| plain.len())
            .map_err(|_| altered())
    }

    /// Binds a whole file to its name.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn name(&self, file: &File, id: BlobId) -> std::io::Result<()> {
        let tag = hmac::sign(&self.name, id.as_bytes().as_slice());
        file.write_all_at(tag.as_ref(), NAME_TAG_AT as u64)
    }
}
