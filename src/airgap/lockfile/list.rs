//! Lists of package versions, `npm:left-pad@1.3.0` line by line, and the wish list of a Larder
//! without a line.

use super::{Needs, Read, json};
use crate::airgap::want::{Want, WantedFile};
use crate::format::package;
use crate::package::Format;
use crate::store::catalog::wish::Wish;

/// Whether the first line that says anything names a package of a format.
pub fn is_one(text: &str) -> bool {
    lines(text).next().is_some_and(|line| {
        let format = line.split(':').next().unwrap_or_default();
        format.parse::<Format>().is_ok()
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

pub fn read(text: &str) -> Read {
    let mut needs = Needs::default();
    for line in lines(text) {
        needs.wants.push(parse_line(line)?);
    }
    Ok(needs)
}

/// `format:name@version`; without a version, the newest.
fn parse_line(line: &str) -> Result<Want, String> {
    let name_starts = line.find(':').map_or(0, |at| at + 1);
    // A scope's own `@` stands at the beginning.
    let at = line
        .get(name_starts + 1..)
        .and_then(|tail| tail.find('@'))
        .map(|at| at + name_starts + 1);
    let (name, version) = match at {
        Some(at) => (line.get(..at), line.get(at + 1..)),
        None => (Some(line), None),
    };
    let package = package(name.unwrap_or_default()).map_err(|problem| problem.message)?;
    Ok(Want {
        package: package.to_string(),
        version: version.map(str::to_owned),
        ..Want::default()
    })
}

/// Whether it is what `larder wishes --json` prints.
pub fn is_wishes(text: &str) -> bool {
    text.trim_start().starts_with('{') && text.contains("\"wishes\"")
}

pub fn wishes(text: &str) -> Read {
    #[derive(serde::Deserialize)]
    struct Wishes {
        wishes: Vec<Wish>,
    }
    let wishes: Wishes = json(text)?;
    let mut needs = Needs::default();
    for wish in wishes.wishes {
        package(&wish.package).map_err(|problem| problem.message)?;
        let files = match wish.file.as_str() {
            "" => Vec::new(),
            file => vec![WantedFile::named(file)],
        };
        needs.wants.push(Want {
            package: wish.package,
            version: Some(wish.version).filter(|version| !version.is_empty()),
            range: String::new(),
            files,
        });
    }
    Ok(needs)
}
