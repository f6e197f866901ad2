//! The proxy by which a connection's registry is asked.

use toml::de::DeValue;
use url::Url;

use super::document::FromValue;
use crate::secret::Secret;

/// The proxy of a connection, where that is not for the environment to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxySetting {
    /// The registry is asked directly.
    None,
    /// The proxy's address; it may have a user and a password.
    At(Secret),
}

impl ProxySetting {
    /// The address without user and password.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        let Self::At(address) = self else {
            return None;
        };
        let mut address = Url::parse(address.expose()).ok()?;
        // An address with a host takes both.
        let _ = address.set_username("");
        let _ = address.set_password(None);
        Some(address.to_string().trim_end_matches('/').to_owned())
    }
}

impl FromValue for ProxySetting {
    /// `"http://proxy.corp:3128"`, `"none"`, or `{ env = … }` and `{ file = … }` with either.
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let address = match value.as_str() {
            Some(text) => Secret::new(text),
            None => Secret::from_value(value)?,
        };
        if address.expose() == "none" {
            return Ok(Self::None);
        }
        let url = Url::parse(address.expose()).ok();
        let is_right = |url: &Url| {
            url.scheme() == "http"
                && url.host_str().is_some()
                && matches!(url.path(), "" | "/")
                && url.query().is_none()
                && url.fragment().is_none()
        };
        match url.filter(is_right) {
            Some(_) => Ok(Self::At(address)),
            // The text may hold a password.
            None => Err("has to be the address of an HTTP proxy, such as \"http://proxy.corp:3128\", or \"none\"".to_owned()),
        }
    }
}
