//! The end of a bundle: the signed digest of its compressed bytes, in a frame that decoders skip
//! (RFC 8878 §3.1.2).

use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::signature::{BundleSigningKey, is_signed};

const HEAD: [u8; 8] = [
    0x50,
    0x2a,
    0x4d,
    0x18,
    DIGEST_BYTES + SIGNATURE_BYTES,
    0,
    0,
    0,
];
const DIGEST_BYTES: u8 = 32;
const SIGNATURE_BYTES: u8 = 64;
const BYTES: usize = HEAD.len() + DIGEST_BYTES as usize + SIGNATURE_BYTES as usize;

/// The seal of bytes of this digest.
#[must_use]
pub fn seal(sha256: &[u8; 32], key: &BundleSigningKey) -> Vec<u8> {
    [HEAD.as_slice(), sha256, &key.sign(&signed(sha256))].concat()
}

/// The bytes that are signed.
fn signed(sha256: &[u8]) -> Vec<u8> {
    [b"larder-bundle sealed ".as_slice(), sha256].concat()
}

/// Reads what is sealed, and keeps the seal back.
pub struct Unsealing<R> {
    reader: R,
    /// Read, and not given: the last of them may be the seal.
    held: Vec<u8>,
    sha256: Sha256,
    is_at_end: bool,
}

/// How much is read at once.
const PIECE_BYTES: usize = 256 * 1024;

impl<R: Read> Unsealing<R> {
    #[must_use]
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            held: Vec::new(),
            sha256: Sha256::new(),
            is_at_end: false,
        }
    }

    /// Whether all that was read is what the key's seal says; to be asked at the end.
    #[must_use]
    pub fn verify(self, key: &str) -> bool {
        let Some(rest) = self.held.strip_prefix(HEAD.as_slice()) else {
            return false;
        };
        let Some((sha256, signature)) = rest.split_at_checked(DIGEST_BYTES.into()) else {
            return false;
        };
        self.is_at_end
            && self.sha256.finalize().as_slice() == sha256
            && is_signed(key, &signed(sha256), signature)
    }

    fn fill(&mut self) -> std::io::Result<()> {
        while !self.is_at_end && self.held.len() <= BYTES {
            let limit = PIECE_BYTES as u64;
            let count = self
                .reader
                .by_ref()
                .take(limit)
                .read_to_end(&mut self.held)?;
            self.is_at_end = count == 0;
        }
        Ok(())
    }
}

impl<R: Read> Read for Unsealing<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.fill()?;
        let count = self.held.len().saturating_sub(BYTES).min(into.len());
        if let (Some(into), Some(given)) = (into.get_mut(..count), self.held.get(..count)) {
            into.copy_from_slice(given);
            self.sha256.update(given);
        }
        self.held.drain(..count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(content: &[u8], key: &BundleSigningKey) -> Vec<u8> {
        [content, &seal(&Sha256::digest(content).into(), key)].concat()
    }

    #[test]
    fn each_bit_counts() {
        let key = BundleSigningKey::read(&BundleSigningKey::make().unwrap()).unwrap();
        let bytes = sealed(b"content", &key);
        let opened = |bytes: &[u8]| {
            let mut reader = Unsealing::new(bytes);
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            (content, reader.verify(&key.public()))
        };
        assert_eq!(opened(&bytes), (b"content".to_vec(), true));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!opened(&flipped).1, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(!opened(&bytes[..length]).1, "{length} bytes");
        }
    }

    #[test]
    fn large_content_is_given_as_it_comes() {
        let key = BundleSigningKey::read(&BundleSigningKey::make().unwrap()).unwrap();
        let content = vec![7; 3 * PIECE_BYTES + 5];
        let bytes = sealed(&content, &key);
        let mut reader = Unsealing::new(bytes.as_slice());
        let mut given = Vec::new();
        reader.read_to_end(&mut given).unwrap();
        assert_eq!(given, content);
        assert!(reader.verify(&key.public()));
    }
}
