//! Settings of the form `key = value`, in sections or not (`.npmrc`, `pip.conf`, `uv.toml`):
//! read, and changed in place, losing nothing that is there.

/// The value of a key; of two, the last.
#[must_use]
pub fn get(text: &str, section: Option<&str>, key: &str) -> Option<String> {
    entries(text)
        .filter(|(_, of, name, _)| *of == section && *name == key)
        .last()
        .map(|(_, _, _, value)| value.trim_matches(['"', '\'']).to_owned())
}

/// All keys and values without a section.
pub fn top(text: &str) -> impl Iterator<Item = (&str, &str)> {
    entries(text)
        .filter(|(_, section, ..)| section.is_none())
        .map(|(_, _, name, value)| (name, value.trim_matches(['"', '\''])))
}

/// Lines that set something, with their number and section.
fn entries(text: &str) -> impl Iterator<Item = (usize, Option<&str>, &str, &str)> {
    let mut section = None;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        if let Some(name) = line.strip_prefix('[') {
            section = Some(name.trim_matches(['[', ']']));
            return None;
        }
        // npm's keys, which stand in no section, have colons in them.
        let separators: &[char] = if section.is_some() {
            &['=', ':']
        } else {
            &['=']
        };
        let (name, value) = line.split_once(separators)?;
        Some((number, section, name.trim(), value.trim()))
    })
}

/// The text with the key set; every other line stays as it is.
#[must_use]
pub fn set(text: &str, section: Option<&str>, key: &str, value: &str) -> String {
    let line = format!("{key} = {value}");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let present: Vec<usize> = entries(text)
        .filter(|(_, of, name, _)| *of == section && *name == key)
        .map(|(number, ..)| number)
        .collect();
    if let Some(last) = present.last() {
        if let Some(old) = lines.get_mut(*last) {
            *old = line;
        }
    } else {
        match section {
            // Before the first section, where keys without one stand.
            None => {
                let first = lines
                    .iter()
                    .position(|line| line.trim_start().starts_with('['));
                lines.insert(first.unwrap_or(lines.len()), line);
            }
            Some(section) => {
                let header = format!("[{section}]");
                match lines.iter().position(|line| line.trim() == header) {
                    Some(at) => lines.insert(at + 1, line),
                    None => lines.extend([header, line]),
                }
            }
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The text with `word` in the list of words that a key has, which may go on in indented lines.
/// Where the key is missing, `default` stands before the word: what readers assume then.
#[must_use]
pub fn listed(text: &str, section: &str, key: &str, word: &str, default: &str) -> String {
    let found = entries(text)
        .filter(|(_, of, name, _)| *of == Some(section) && *name == key)
        .last();
    let Some((number, _, _, value)) = found else {
        return set(text, Some(section), key, format!("{default} {word}").trim());
    };
    let further = text.lines().skip(number + 1);
    let further = further.take_while(|line| line.starts_with([' ', '\t']));
    let mut words = value
        .split_whitespace()
        .chain(further.flat_map(str::split_whitespace));
    if words.any(|one| one == word) {
        return text.to_owned();
    }
    set(text, Some(section), key, format!("{value} {word}").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_set_and_nothing_else_changes() {
        for (text, section, changed) in [
            ("", None, "k = v\n"),
            ("# mine\na=1\nk=old\n", None, "# mine\na=1\nk = v\n"),
            ("[x]\na=1\n", None, "k = v\n[x]\na=1\n"),
            (
                "[x]\nk=1\n[global]\nb=2\n",
                Some("global"),
                "[x]\nk=1\n[global]\nk = v\nb=2\n",
            ),
            ("a=1\n", Some("global"), "a=1\n[global]\nk = v\n"),
            ("[global]\nk: old\n", Some("global"), "[global]\nk = v\n"),
        ] {
            assert_eq!(set(text, section, "k", "v"), changed);
            assert_eq!(get(changed, section, "k").as_deref(), Some("v"));
            assert_eq!(set(changed, section, "k", "v"), changed);
        }
    }
}
