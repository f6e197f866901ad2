//! A file's address below its project's page: upstream's own, host first, so that it can be led
//! back without a look-up: `files.example/packages/ab/cd/name-1.0.whl`.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::path;

/// Stands before the host of an upstream that speaks plain HTTP.
const PLAIN: &str = "+http/";

/// Stands before an address that nothing can be fetched from.
const NOWHERE: &str = "+nowhere/";

/// Whether anything can be fetched from the address.
pub fn is_fetchable(url: &Url) -> bool {
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    has_host && matches!(url.scheme(), "http" | "https")
}

/// The address, decoded: what an asset's path is compared with.
pub fn file(url: &Url) -> String {
    if !is_fetchable(url) {
        // Without a host its path comes first, and may be a reference to another server.
        return format!("{NOWHERE}{url}");
    }
    let authority = authority(url);
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    let plain = if url.scheme() == "http" { PLAIN } else { "" };
    format!("{plain}{authority}{path}")
}

/// The address that a file's place leads back to.
pub fn url(file: &str) -> Option<Url> {
    let (scheme, rest) = match file.strip_prefix(PLAIN) {
        Some(rest) => ("http", rest),
        None => ("https", file),
    };
    let (authority, path) = rest.split_once('/')?;
    Url::parse(&format!(
        "{scheme}://{authority}/{}",
        path::encode_path(path)
    ))
    .ok()
}

/// The address as it stands in a page.
pub fn relative(url: &Url) -> String {
    // A colon in the first segment of a relative reference would make it a scheme.
    path::encode_path(&file(url)).replace(':', "%3A")
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The URL of a file's companion (`.metadata`, `.asc`), by PEP 658.
pub fn with_ending(url: &Url, ending: &str) -> Url {
    let mut companion = url.clone();
    companion.set_path(&format!("{}{ending}", url.path()));
    companion.set_fragment(None);
    companion
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_leads_to_another_server() {
        let page = Url::parse("http://l.example/pypi/r/simple/a/").unwrap();
        for text in [
            "x:////evil.example/a-1.0.whl",
            "x:/evil.example/a-1.0.whl",
            "x:evil",
            "file:///a-1.0.whl",
            "ftp://evil.example/a-1.0.whl",
            "https://files.example//p/a-1.0.whl",
        ] {
            let url = Url::parse(text).unwrap();
            let printed = page.join(&relative(&url)).unwrap();
            assert!(
                printed.as_str().starts_with(page.as_str()),
                "{text}: {printed}"
            );
        }
    }

    #[test]
    fn addresses_are_relative_and_lead_back() {
        let url = Url::parse("http://127.0.0.1:81/p/a%2Bb-1.0.whl#sha256=0").unwrap();
        assert_eq!(relative(&url), "+http/127.0.0.1%3A81/p/a+b-1.0.whl");
        let page = Url::parse("http://l.example/pypi/r/simple/a-b/").unwrap();
        let absolute = page.join(&relative(&url)).unwrap();
        assert_eq!(absolute.host_str(), Some("l.example"));
        let below = absolute.path().strip_prefix("/pypi/r/simple/a-b/").unwrap();
        assert_eq!(path::segments(below).unwrap().join("/"), file(&url));
        assert_eq!(super::url(&file(&url)).unwrap().path(), "/p/a+b-1.0.whl");
    }
}
