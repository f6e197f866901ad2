//! Lockfiles that a client wrote while it was pointed at us: our address gives way to upstream's.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use percent_encoding::percent_decode_str;

use super::{LarderAddress, read, write};
use crate::package::Format;

/// The names of the clients' lockfiles.
const NAMES: &[&str] = &[
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "deno.lock",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "pylock.toml",
];

/// Cleans the lockfiles in `folder` that changed since `since`, and names them.
///
/// # Errors
/// Where one cannot be written.
#[allow(clippy::disallowed_methods, reason = "lockfiles are files")]
pub fn restore_all(
    folder: &Path,
    since: SystemTime,
    place: &LarderAddress,
    upstreams: &BTreeMap<String, String>,
) -> std::io::Result<Vec<&'static str>> {
    let mut restored = Vec::new();
    for name in NAMES {
        let file = folder.join(name);
        let modified = std::fs::metadata(&file).and_then(|metadata| metadata.modified());
        if !modified.is_ok_and(|modified| modified >= since) {
            continue;
        }
        let Some(text) = read(&file) else { continue };
        if let Some(changed) = restore(&text, place, upstreams) {
            write(&file, &changed)?;
            restored.push(*name);
        }
    }
    Ok(restored)
}

/// The text with upstream's addresses in the place of ours; `None` where ours is not in it.
#[must_use]
pub fn restore(
    text: &str,
    place: &LarderAddress,
    upstreams: &BTreeMap<String, String>,
) -> Option<String> {
    let mut changed = text.to_owned();
    for format in Format::SERVED {
        let Some(upstream) = upstreams.get(format.as_str()) else {
            continue;
        };
        changed = match format {
            Format::Pypi => replace(&changed, &place.simple(), |rest| python(rest, upstream)),
            _ => replace(&changed, &place.of(format), |rest| {
                format!("{upstream}{rest}")
            }),
        };
        if format == Format::Pypi {
            // Some write the index without its slash. What goes on behind it is another address.
            let (index, upstream) = (place.simple(), upstream.trim_end_matches('/'));
            let bare = index.trim_end_matches('/');
            changed = replace(&changed, bare, |rest| {
                let ours = if rest.is_empty() { upstream } else { bare };
                format!("{ours}{rest}")
            });
        }
    }
    (changed != text).then_some(changed)
}

/// Replaces every address that begins with `base`, whose rest goes to what ends an address.
fn replace(text: &str, base: &str, with: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut left = text;
    while let Some(at) = left.find(base) {
        let (before, found) = left.split_at(at);
        let rest = found.get(base.len()..).unwrap_or_default();
        let end = rest
            .find(|c: char| c.is_whitespace() || "\"'`,;)]}>".contains(c))
            .unwrap_or(rest.len());
        let (rest, after) = rest.split_at(end);
        out.push_str(before);
        out.push_str(&with(rest));
        left = after;
    }
    out.push_str(left);
    out
}

/// `{project}/{host}/{path}` is a file at that host; anything shorter is the index.
fn python(rest: &str, upstream: &str) -> String {
    let file = rest.split_once('/').and_then(|(_project, file)| {
        let (scheme, file) = match file.strip_prefix("+http/") {
            Some(file) => ("http", file),
            None => ("https", file),
        };
        let (host, path) = file.split_once('/')?;
        let host = percent_decode_str(host).decode_utf8().ok()?;
        Some(format!("{scheme}://{host}/{path}"))
    });
    file.unwrap_or_else(|| format!("{}/{rest}", upstream.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_address_gives_way_to_upstreams() {
        let place = LarderAddress {
            root: "http://127.0.0.1:5273/-/run/7a".to_owned(),
            repository: "public".to_owned(),
        };
        let upstreams = BTreeMap::from([
            ("npm".to_owned(), "https://npm.example/up/".to_owned()),
            ("pypi".to_owned(), "https://pypi.example/simple/".to_owned()),
        ]);
        for (ours, theirs) in [
            (
                "resolved \"http://127.0.0.1:5273/-/run/7a/npm/public/a/-/a-1.0.0.tgz#0f\"",
                "resolved \"https://npm.example/up/a/-/a-1.0.0.tgz#0f\"",
            ),
            (
                "url = \"http://127.0.0.1:5273/-/run/7a/pypi/public/simple/six/files.example/p/six-1.whl\", x",
                "url = \"https://files.example/p/six-1.whl\", x",
            ),
            (
                "\"http://127.0.0.1:5273/-/run/7a/pypi/public/simple/six/+http/127.0.0.1%3A81/p/six-1.whl\"",
                "\"http://127.0.0.1:81/p/six-1.whl\"",
            ),
            (
                "registry = \"http://127.0.0.1:5273/-/run/7a/pypi/public/simple/\"",
                "registry = \"https://pypi.example/simple/\"",
            ),
            (
                "registry = \"http://127.0.0.1:5273/-/run/7a/pypi/public/simple\"",
                "registry = \"https://pypi.example/simple\"",
            ),
        ] {
            assert_eq!(restore(ours, &place, &upstreams).as_deref(), Some(theirs));
        }
        assert_eq!(restore("nothing of ours", &place, &upstreams), None);
    }
}
