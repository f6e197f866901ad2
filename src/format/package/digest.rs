use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

/// Digest algorithms that registries use, weakest first, so that the order is their strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    /// Lower case without a dash: Maven's file endings and PyPI's hash names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| {
            let name = algorithm.as_str();
            word.eq_ignore_ascii_case(name)
                || word
                    .split_once('-')
                    .is_some_and(|(a, b)| format!("{a}{b}").eq_ignore_ascii_case(name))
        })
    }

    fn bytes_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A digest that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no {} digest", algorithm.as_str())]
pub struct DigestError {
    algorithm: Algorithm,
    text: String,
}

/// An algorithm and its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    value: Box<[u8]>,
}

impl Digest {
    /// # Errors
    /// Where `text` is not hexadecimal of the algorithm's length.
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Result<Self, DigestError> {
        Self::checked(algorithm, hex::decode(text).ok(), text)
    }

    /// # Errors
    /// Where `text` is not padded base64 of the algorithm's length.
    pub fn from_base64(algorithm: Algorithm, text: &str) -> Result<Self, DigestError> {
        Self::checked(algorithm, STANDARD.decode(text).ok(), text)
    }

    fn checked(
        algorithm: Algorithm,
        value: Option<Vec<u8>>,
        text: &str,
    ) -> Result<Self, DigestError> {
        value
            .filter(|value| value.len() == algorithm.bytes_len())
            .map(|value| Self {
                algorithm,
                value: value.into(),
            })
            .ok_or_else(|| DigestError {
                algorithm,
                text: text.chars().take(200).collect(),
            })
    }

    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(&self.value)
    }

    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.value)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.to_hex())
    }
}

/// The digests that a registry promises for a file. The file must match all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected(Vec<Digest>);

impl Expected {
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads Subresource Integrity as npm writes it: digests separated by white space, of which
    /// those of the strongest algorithm are alternatives (W3C SRI §3.3). Larder demands the
    /// strongest one that it can read; unknown algorithms are passed over.
    #[must_use]
    pub fn from_integrity(text: &str) -> Self {
        let mut found: Vec<Digest> = text
            .split_ascii_whitespace()
            .filter_map(|entry| {
                let (algorithm, rest) = entry.split_once('-')?;
                let value = rest.split('?').next()?;
                Digest::from_base64(Algorithm::parse(algorithm)?, value).ok()
            })
            .collect();
        found.sort_by_key(|digest| std::cmp::Reverse(digest.algorithm));
        found.truncate(1);
        Self(found)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn strongest(&self) -> Option<&Digest> {
        self.0.iter().max_by_key(|digest| digest.algorithm)
    }

    pub fn push(&mut self, digest: Digest) {
        self.0.push(digest);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Digest> {
        self.0.iter()
    }

    /// The first promise that these digests break, with what was there instead. A promise whose
    /// algorithm was not computed counts as broken: nothing passes unchecked.
    #[must_use]
    pub fn broken_by(&self, actual: &Digests) -> Option<(Digest, Option<Digest>)> {
        self.0.iter().find_map(|promised| {
            let found = actual.get(promised.algorithm);
            (found.as_ref() != Some(promised)).then(|| (promised.clone(), found))
        })
    }
}

impl FromIterator<Digest> for Expected {
    fn from_iter<I: IntoIterator<Item = Digest>>(digests: I) -> Self {
        Self(digests.into_iter().collect())
    }
}

/// The SHA-256 that a blob is named by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId([u8; 32]);

impl BlobId {
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({})", hex::encode(self.0))
    }
}

/// Digests that were computed over the same bytes.
#[derive(Clone, Debug)]
pub struct Digests {
    pub blob: BlobId,
    others: Vec<Digest>,
}

impl Digests {
    #[must_use]
    pub fn get(&self, algorithm: Algorithm) -> Option<Digest> {
        if algorithm == Algorithm::Sha256 {
            return Some(Digest {
                algorithm,
                value: self.blob.0.into(),
            });
        }
        self.others
            .iter()
            .find(|digest| digest.algorithm == algorithm)
            .cloned()
    }
}

/// Computes several digests in one pass over the bytes; SHA-256 always, since it names the blob.
#[derive(Clone)]
pub struct Digester {
    sha256: Sha256,
    others: Others,
}

/// The digests beside SHA-256.
#[derive(Clone, Default)]
pub struct Others {
    md5: Option<Md5>,
    sha1: Option<Sha1>,
    sha512: Option<Sha512>,
}

impl Digester {
    #[must_use]
    pub fn new(algorithms: &[Algorithm]) -> Self {
        Self {
            sha256: Sha256::new(),
            others: Others {
                md5: algorithms.contains(&Algorithm::Md5).then(Md5::new),
                sha1: algorithms.contains(&Algorithm::Sha1).then(Sha1::new),
                sha512: algorithms.contains(&Algorithm::Sha512).then(Sha512::new),
            },
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.others.update(bytes);
    }

    /// Takes the digests beside SHA-256 out, to be computed on another thread; none where there are
    /// none.
    pub fn part(&mut self) -> Option<Others> {
        let others = std::mem::take(&mut self.others);
        let has_any = others.md5.is_some() || others.sha1.is_some() || others.sha512.is_some();
        has_any.then_some(others)
    }

    /// Puts them back, computed over the same bytes.
    pub fn join(&mut self, others: Others) {
        self.others = others;
    }

    #[must_use]
    pub fn finish(self) -> Digests {
        let Others { md5, sha1, sha512 } = self.others;
        let digest = |algorithm, value: &[u8]| Digest {
            algorithm,
            value: value.into(),
        };
        let others = [
            md5.map(|md5| digest(Algorithm::Md5, &md5.finalize()[..])),
            sha1.map(|sha1| digest(Algorithm::Sha1, &sha1.finalize()[..])),
            sha512.map(|sha512| digest(Algorithm::Sha512, &sha512.finalize()[..])),
        ];
        Digests {
            blob: BlobId(self.sha256.finalize().into()),
            others: others.into_iter().flatten().collect(),
        }
    }
}

impl Others {
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(bytes: &[u8]) -> Digests {
        let mut digester = Digester::new(&Algorithm::ALL);
        digester.update(bytes);
        digester.finish()
    }

    #[test]
    fn every_promise_has_to_be_met() {
        let actual = digests(b"abc");
        let sha1 =
            Digest::from_hex(Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d").unwrap();
        let wrong_md5 =
            Digest::from_hex(Algorithm::Md5, "00000000000000000000000000000000").unwrap();
        assert_eq!(Expected::from_iter([sha1.clone()]).broken_by(&actual), None);
        let broken = Expected::from_iter([sha1, wrong_md5.clone()])
            .broken_by(&actual)
            .unwrap();
        assert_eq!(broken.0, wrong_md5);
    }

    #[test]
    fn a_promise_that_was_not_computed_counts_as_broken() {
        let actual = Digester::new(&[]).finish();
        let md5 = Digest::from_hex(Algorithm::Md5, "d41d8cd98f00b204e9800998ecf8427e").unwrap();
        assert!(Expected::from_iter([md5]).broken_by(&actual).is_some());
    }

    #[test]
    fn integrity_yields_its_strongest_digest() {
        let text = "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0= md9-x \
            sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==?opt";
        let expected = Expected::from_integrity(text);
        assert_eq!(expected.strongest().unwrap().algorithm(), Algorithm::Sha512);
        assert_eq!(expected.broken_by(&digests(b"abc")), None);
        assert!(Expected::from_integrity("sha512-tooshort").is_empty());
    }

    #[test]
    fn algorithm_names_are_read_in_the_registries_spellings() {
        for (word, algorithm) in [
            ("SHA512", Some(Algorithm::Sha512)),
            ("sha-256", Some(Algorithm::Sha256)),
            ("md5", Some(Algorithm::Md5)),
            ("crc32", None),
        ] {
            assert_eq!(Algorithm::parse(word), algorithm, "{word}");
        }
    }
}
