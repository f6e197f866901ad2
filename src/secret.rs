//! Secrets have no `Display`, and their `Debug` shows nothing.

use std::fmt;

/// A password, token or header value that must not reach a log, an error or a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The only word that lets the secret out.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }
}
