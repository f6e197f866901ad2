//! bun.lock: JSON with comments and trailing commas.
//! Source: Bun's documentation of its lockfile.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::npm::tarball;
use super::{Needs, Read, want};
use crate::airgap::platform::Platforms;
use crate::package::Format;

#[derive(Deserialize)]
struct Lockfile {
    /// `name@version`, the registry, what is known of it, its integrity.
    packages: BTreeMap<String, Vec<Value>>,
}

#[derive(Default, Deserialize)]
struct Known {
    os: Option<Words>,
    cpu: Option<Words>,
}

/// One word, or several.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Several(Vec<String>),
}

impl Words {
    fn all(words: Option<Self>) -> Vec<String> {
        match words {
            None => Vec::new(),
            Some(Self::One(word)) => vec![word],
            Some(Self::Several(words)) => words,
        }
    }
}

pub fn read(text: &str, platforms: &Platforms) -> Read {
    let lockfile: Lockfile =
        jsonc_parser::parse_to_serde_value(text, &jsonc_parser::ParseOptions::default()).map_err(
            |error| {
                let (line, column) = (error.line_display(), error.column_display());
                format!("it is not what Bun writes: see line {line}, column {column}")
            },
        )?;
    let mut needs = Needs::default();
    for (key, entry) in lockfile.packages {
        let said = entry.first().and_then(Value::as_str).unwrap_or_default();
        let integrity = match entry.as_slice() {
            [_, _, _, Value::String(integrity)] => Some(integrity.as_str()),
            _ => None,
        };
        // A scope's own `@` stands at the beginning.
        let at = said
            .get(1..)
            .and_then(|tail| tail.find('@'))
            .map(|at| at + 1);
        let parts = at.and_then(|at| Some((said.get(..at)?, said.get(at + 1..)?)));
        let (Some((name, version)), Some(integrity)) = (parts, integrity) else {
            if !said.contains("@workspace:") {
                needs.elsewhere(format!("{key}: {said}"));
            }
            continue;
        };
        let known: Known = entry
            .get(2)
            .and_then(|known| serde_json::from_value(known.clone()).ok())
            .unwrap_or_default();
        let (os, cpu) = (Words::all(known.os), Words::all(known.cpu));
        if platforms.npm(&os, &cpu, &[]) {
            let want = want(Format::Npm, name, version)?;
            needs.wants.push(want.with(tarball(Some(integrity))));
        }
    }
    Ok(needs)
}
