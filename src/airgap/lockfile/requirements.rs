//! pip's requirements files.
//! Source: pip's documentation, "Requirements File Format".

use super::{Needs, Read};
use crate::airgap::want::{Want, WantedFile};
use crate::format::{Need, pypi};
use crate::package::{Algorithm, Digest};

pub fn read(text: &str) -> Read {
    let mut needs = Needs::default();
    // A line that ends in a backslash goes on.
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    for line in joined.lines() {
        let line = match line.find(" #") {
            Some(at) => line.get(..at).unwrap_or_default(),
            None => line,
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('-') {
            let word = line.split([' ', '=']).next().unwrap_or_default();
            if matches!(
                word,
                "-r" | "-c" | "-e" | "--requirement" | "--constraint" | "--editable"
            ) {
                needs.elsewhere(line);
            }
            continue;
        }
        match requirement(line)? {
            Some(want) => needs.wants.push(want),
            None => needs.elsewhere(line),
        }
    }
    Ok(needs)
}

/// `name[extra]==1.0 ; marker --hash=sha256:…`; none where it is an address or a folder.
fn requirement(line: &str) -> Result<Option<Want>, String> {
    let mut words = line.split_whitespace();
    let hashes: Vec<WantedFile> = words
        .clone()
        .filter_map(|word| word.strip_prefix("--hash="))
        .filter_map(|hash| hash.split_once(':'))
        .filter_map(|(algorithm, hex)| Digest::from_hex(Algorithm::parse(algorithm)?, hex).ok())
        .map(|digest| WantedFile::of("", Some(&digest)))
        .collect();
    let said: Vec<&str> = words
        .by_ref()
        .take_while(|word| !word.starts_with("--"))
        .collect();
    let said = said.join(" ");
    let said = said.split(';').next().unwrap_or_default().trim();
    if said.contains(" @ ") || said.contains("://") || said.starts_with(['.', '/']) {
        return Ok(None);
    }
    let Need { package, range } =
        pypi::requirement(said).ok_or_else(|| format!("`{said}` is no requirement"))?;
    let exact = range
        .trim_start_matches("===")
        .trim_start_matches("==")
        .trim();
    if range.starts_with("==") && !exact.contains(['*', ',', '<', '>', '=', '!', '~']) {
        let mut want = Want::new(package, exact);
        want.files = hashes;
        return Ok(Some(want));
    }
    Ok(Some(Want::newest(package, &range)))
}
