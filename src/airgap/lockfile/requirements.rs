//! pip's requirements files.
//! Source: pip's documentation, "Requirements File Format".

use super::{Needs, Read, want};
use crate::airgap::want::{File, Want};
use crate::format::Protocol as _;
use crate::format::pypi::Pypi;
use crate::package::{Algorithm, Digest, Format};

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
    let hashes: Vec<File> = words
        .clone()
        .filter_map(|word| word.strip_prefix("--hash="))
        .filter_map(|hash| hash.split_once(':'))
        .filter_map(|(algorithm, hex)| Digest::from_hex(Algorithm::parse(algorithm)?, hex).ok())
        .map(|digest| File::of("", Some(&digest)))
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
    let name_ends = said
        .find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
        .unwrap_or(said.len());
    let (name, rest) = said.split_at(name_ends);
    let rest = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, rest)) => rest,
        None => rest,
    };
    let exact = rest
        .trim()
        .trim_start_matches("===")
        .trim_start_matches("==")
        .trim();
    let is_exact =
        rest.trim().starts_with("==") && !exact.contains(['*', ',', '<', '>', '=', '!', '~']);
    if is_exact {
        let mut want = want(Format::Pypi, name, exact)?;
        want.files = hashes;
        return Ok(Some(want));
    }
    let package = Pypi.package(name).map_err(|problem| problem.message)?;
    let range = rest.trim().trim_start_matches('(').trim_end_matches(')');
    Ok(Some(Want::newest(package, range)))
}
