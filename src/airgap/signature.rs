//! Signs and verifies bundles: Ed25519 (RFC 8032), keys as PKCS #8 in PEM (RFC 8410).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::secret::Secret;

const PREFIX: &str = "ed25519:";

/// A private key that signs bundles.
pub struct BundleSigningKey(Ed25519KeyPair);

impl BundleSigningKey {
    /// A new key, in PEM; none where the system gives no random bytes.
    #[must_use]
    pub fn make() -> Option<Secret> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok()?;
        let body = STANDARD.encode(document.as_ref());
        Some(Secret::new(&format!(
            "-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
        )))
    }

    /// Reads a key in PEM, as OpenSSL too writes it; none where it is no Ed25519 key.
    #[must_use]
    pub fn read(pem: &Secret) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes()).ok()?;
        // OpenSSL writes the first version of PKCS #8, without the public key.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()?;
        Some(Self(pair))
    }

    /// The public key as configurations write it: `ed25519:` and base64.
    #[must_use]
    pub fn public(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0.public_key()))
    }

    /// The message's signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

/// Whether the signature is the key's.
#[must_use]
pub fn is_signed(public: &str, message: &[u8], signature: &[u8]) -> bool {
    match public.strip_prefix(PREFIX).map(|key| STANDARD.decode(key)) {
        Some(Ok(key)) => UnparsedPublicKey::new(&ED25519, key)
            .verify(message, signature)
            .is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_key_and_one_message() {
        let key = BundleSigningKey::read(&BundleSigningKey::make().unwrap()).unwrap();
        let signature = key.sign(b"message");
        assert!(is_signed(&key.public(), b"message", &signature));
        assert!(!is_signed(&key.public(), b"messagf", &signature));
        let other = BundleSigningKey::read(&BundleSigningKey::make().unwrap()).unwrap();
        assert!(!is_signed(&other.public(), b"message", &signature));
        assert!(!is_signed("ed25519:zz", b"message", &signature));
        assert!(!is_signed(&key.public(), b"message", b"zz"));
    }

    /// RFC 8410 §10.3, where the key stands alone and with its public key.
    #[test]
    fn keys_of_the_standard_are_read() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let key = BundleSigningKey::read(&Secret::new(pem)).unwrap();
        assert_eq!(
            key.public(),
            "ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
        );
        assert!(BundleSigningKey::read(&Secret::new("no key")).is_none());
    }
}
