//! Names of entries: none that climbs, none twice.

use std::collections::HashMap;

use super::{DIRECTORY_BYTES_MAX, ENTRIES_MAX, refused, too_long, too_many};
use crate::problem::Problem;

/// The longest path that Linux opens.
const PATH_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
}

/// The names that an archive has so far.
pub(super) struct Names<'a> {
    archive: &'a str,
    /// In lower case: on many disks, names that differ in case alone are one.
    seen: HashMap<String, Kind>,
    bytes: u64,
}

impl<'a> Names<'a> {
    pub(super) fn of(archive: &'a str) -> Self {
        Self {
            archive,
            seen: HashMap::new(),
            bytes: 0,
        }
    }

    /// Takes an entry's name; gives the path that it leads to.
    pub(super) fn add(&mut self, name: &str, kind: Kind) -> Result<String, Problem> {
        if self.seen.len() >= ENTRIES_MAX {
            return Err(too_many(self.archive));
        }
        self.bytes += name.len() as u64;
        if self.bytes > DIRECTORY_BYTES_MAX {
            return Err(too_long("the archive's list of names", DIRECTORY_BYTES_MAX));
        }
        let path = path(name).ok_or_else(|| {
            refused(
                self.archive,
                format!("`{}` leads out of it, or is no name", name.escape_debug()),
            )
        })?;
        let before = self.seen.insert(path.to_lowercase(), kind);
        if before.is_some_and(|before| before == Kind::File || kind == Kind::File) {
            return Err(refused(
                self.archive,
                format!("it has `{path}` twice, or differing in case alone"),
            ));
        }
        Ok(path)
    }
}

/// The path that a name leads to, however it is written; `None` where it leads elsewhere.
fn path(name: &str) -> Option<String> {
    let is_right = name.len() <= PATH_BYTES_MAX
        && !name.contains(char::is_control)
        && !name.starts_with(['/', '\\'])
        // A drive of Windows's.
        && name.as_bytes().get(1) != Some(&b':');
    let mut path = String::with_capacity(name.len());
    for segment in name.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => return None,
            segment => {
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(segment);
            }
        }
    }
    (is_right && !path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_one_path_within_the_archive() {
        for (name, leads) in [
            ("a/b", Some("a/b")),
            ("./a//b/.", Some("a/b")),
            ("a\\b", Some("a/b")),
            ("a/..b", Some("a/..b")),
            ("../a", None),
            ("a/../b", None),
            ("a\\..\\b", None),
            ("/a", None),
            ("\\a", None),
            ("C:a", None),
            ("a\0b", None),
            ("a\nb", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(path(name).as_deref(), leads, "{name:?}");
        }
    }

    #[test]
    fn a_file_is_there_once_in_whatever_case_and_a_folder_as_often_as_it_likes() {
        let mut names = Names::of("a.zip");
        names.add("a/", Kind::Folder).unwrap();
        names.add("a/", Kind::Folder).unwrap();
        names.add("a/b", Kind::File).unwrap();
        for (name, kind) in [
            ("a/b", Kind::File),
            ("a/B", Kind::File),
            ("./a/b", Kind::File),
            ("a/b", Kind::Folder),
            ("A", Kind::File),
        ] {
            assert!(names.add(name, kind).is_err(), "{name} {kind:?}");
        }
    }

    #[test]
    fn a_name_is_no_longer_than_a_path_that_can_be_opened() {
        assert!(path(&"a".repeat(PATH_BYTES_MAX)).is_some());
        assert!(path(&"a".repeat(PATH_BYTES_MAX + 1)).is_none());
    }

    #[test]
    fn the_names_of_an_archive_have_one_bound_together() {
        let mut names = Names::of("a.tgz");
        let count = DIRECTORY_BYTES_MAX / PATH_BYTES_MAX as u64;
        for number in 0..count {
            let name = format!("{number:0>PATH_BYTES_MAX$}");
            names.add(&name, Kind::File).unwrap();
        }
        let problem = names.add("a", Kind::File).unwrap_err();
        assert_eq!(problem.kind, crate::problem::Kind::TooLarge);
    }

    #[test]
    fn an_archive_has_no_more_entries_than_may_be() {
        let mut names = Names::of("a.zip");
        for number in 0..ENTRIES_MAX {
            names.add(&number.to_string(), Kind::File).unwrap();
        }
        let problem = names.add("one more", Kind::File).unwrap_err();
        assert!(problem.message.contains("entries"), "{problem}");
    }
}
