//! What the house promises of itself: rooms lean on rooms above them, nothing is public in vain,
//! each invariant has its tests, files stay short, doors stay shut.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 700;
/// Those that are longer today; each may only become shorter.
const LONGER: [(&str, usize); 0] = [];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// The Rust files below the folders, by their path from the root.
fn sources(folders: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|it| root().join(it)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// The code without its comments and its unit tests, which may lean on anything.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let line = |line: &str| line.split("//").next().unwrap().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The rooms in the order of ARCHITECTURE.md: each leans only on those before it.
fn ladder() -> Vec<String> {
    let text = read("ARCHITECTURE.md");
    let (_, rooms) = text.split_once("## The rooms").unwrap();
    let (rooms, _) = rooms.split_once("\n## ").unwrap();
    rooms
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once(".**"))
        .flat_map(|(names, _)| names.split(", ").map(str::to_owned))
        .collect()
}

/// The place in the ladder of `event::deliver::Worker`: that of its longest known beginning.
fn place(ladder: &[String], path: &str) -> Option<usize> {
    let begins = |room: &&String| path == **room || path.starts_with(&format!("{room}::"));
    let room = ladder.iter().filter(begins).max_by_key(|it| it.len())?;
    ladder.iter().position(|it| it == room)
}

/// The paths that the code names below `crate`, those in braces each by itself.
fn leans_on(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
        let stem = &rest[..end];
        match rest[end..].strip_prefix('{') {
            Some(list) => {
                let names = list.split(';').next().unwrap();
                let names = names.split([',', '{', '}', '\n']).map(str::trim);
                found.extend(
                    names
                        .filter(|it| !it.is_empty())
                        .map(|it| format!("{stem}{it}")),
                );
            }
            None => found.push(stem.to_owned()),
        }
    }
    found
}

#[test]
fn a_room_leans_on_rooms_above_it_alone() {
    let ladder = ladder();
    assert!(ladder.len() > 15, "{ladder:?}");
    let mut wrong = BTreeSet::new();
    for (file, text) in sources(&["src"]) {
        let path = file.trim_start_matches("src/").trim_end_matches(".rs");
        let room = path.trim_end_matches("/mod").replace('/', "::");
        // The crate's own door, and the crate that cannot lean on this one.
        if matches!(&*room, "lib" | "main") || file.starts_with("src/format/") {
            continue;
        }
        let Some(own) = place(&ladder, &room) else {
            wrong.insert(format!("{file} is in no room of ARCHITECTURE.md"));
            continue;
        };
        for path in leans_on(&code(&text)) {
            if place(&ladder, &path).is_some_and(|it| it > own) {
                wrong.insert(format!("{file} leans on crate::{path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The rooms that know packages, documents and files, and no format by its name.
const FORMATLESS: [&str; 4] = ["src/connection", "src/fetch", "src/repository", "src/store"];

#[test]
fn what_differs_by_format_is_asked_of_its_protocol() {
    let formats = ["npm", "pypi", "maven", "nuget", "generic"];
    let mut wrong = Vec::new();
    for (file, text) in sources(&FORMATLESS) {
        // What is for tests alone gives examples.
        let tests = ["tests.rs", "fixture.rs", "conformance.rs"];
        if tests.iter().any(|it| file.ends_with(it)) {
            continue;
        }
        for line in code(&text).lines() {
            let line = line.to_lowercase();
            let is_name = |it: &&&str| it.split('_').any(|part| formats.contains(&part));
            wrong.extend(
                words(&line)
                    .iter()
                    .find(is_name)
                    .map(|it| format!("{file}: {it}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn words(text: &str) -> BTreeSet<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).collect()
}

/// What rustc cannot see in a library: functions and constants that no other file names. Types
/// are named by what gives them out.
#[test]
fn nothing_is_public_that_nobody_outside_names() {
    let all = sources(&["src", "tests", "benches", "fuzz"]);
    let mut files_with = HashMap::<&str, usize>::new();
    for text in all.values() {
        for word in words(text) {
            *files_with.entry(word).or_default() += 1;
        }
    }
    let mut wrong = Vec::new();
    for (file, text) in all.iter().filter(|(file, _)| file.starts_with("src/")) {
        for line in code(text).lines() {
            let Some(item) = line.trim_start().strip_prefix("pub ") else {
                continue;
            };
            let mut parts = item.split_whitespace();
            let kind = parts.find(|it| !matches!(*it, "async" | "const" | "unsafe" | "extern"));
            let name = match (kind, item.strip_prefix("const ")) {
                (Some("fn" | "static" | "trait"), _) => parts.next(),
                (Some(name), Some(_)) => Some(name),
                _ => None,
            };
            let name = name.unwrap_or_default();
            let name = name.split(['(', '<', ':']).next().unwrap();
            if !name.is_empty() && files_with.get(name).is_some_and(|count| *count < 2) {
                wrong.push(format!("{file}: {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_invariant_names_its_tests() {
    let text = read("ARCHITECTURE.md");
    let (_, table) = text.split_once("## The invariants").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let tests = sources(&["src", "tests"]);
    let mut numbers = Vec::new();
    for row in table.lines().filter_map(|it| it.strip_prefix("| ")) {
        let mut cells = row.split('|').map(str::trim);
        let Some(number) = cells.next().and_then(|it| it.parse::<u32>().ok()) else {
            continue;
        };
        numbers.push(number);
        let names = cells.rfind(|cell| !cell.is_empty()).unwrap_or_default();
        let names: Vec<&str> = names.split('`').collect();
        let names: Vec<&str> = names.into_iter().skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "invariant {number} names no test");
        for name in names {
            let definition = format!("fn {name}(");
            let is_there = tests.values().any(|text| text.contains(&definition));
            assert!(is_there, "invariant {number}: there is no test `{name}`");
        }
    }
    assert_eq!(numbers, (1..=17).collect::<Vec<_>>());
}

/// The folder's own text: the `//!` lines that its `mod.rs` begins with, as one line.
fn text_of(folder: &str) -> String {
    let file = ["mod.rs", "lib.rs"].map(|it| root().join(folder).join(it));
    let file = file.iter().find(|it| it.exists()).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_folder_begins_with_its_sentence_of_the_architecture() {
    let text = read("ARCHITECTURE.md");
    let (_, table) = text.split_once("## The folders").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let mut told = BTreeSet::new();
    for row in table.lines().filter_map(|it| it.strip_prefix("| `")) {
        let (folder, sentence) = row.trim_end_matches(" |").split_once("` | ").unwrap();
        let own = text_of(folder);
        assert!(
            own.starts_with(sentence),
            "{folder} begins with `{own}`, and not with `{sentence}`"
        );
        told.insert(folder.to_owned());
    }
    let folders = std::fs::read_dir(root().join("src")).unwrap();
    let folders = folders
        .map(|it| it.unwrap().path())
        .filter(|it| it.is_dir());
    let folders = folders.map(|it| format!("src/{}", it.file_name().unwrap().display()));
    assert_eq!(told, folders.collect());
}

#[test]
fn no_file_is_longer_than_it_can_be_read() {
    for (file, text) in sources(&["src", "tests", "benches", "fuzz"]) {
        let allowed = LONGER.iter().find(|(name, _)| *name == file);
        let allowed = allowed.map_or(LINES_MAX, |(_, lines)| *lines);
        let lines = text.lines().count();
        assert!(lines <= allowed, "{file} has {lines} lines");
    }
}

#[test]
fn the_doors_are_files_clients_the_clock_and_tasks() {
    let doors = read("clippy.toml");
    for door in [
        "std::time::SystemTime::now",
        "std::fs::read",
        "std::fs::write",
        "std::fs::File::create",
        "std::fs::File::open",
        "std::fs::OpenOptions::new",
        "tokio::fs::File::create",
        "tokio::fs::File::open",
        "tokio::fs::OpenOptions::new",
        "reqwest::Client::new",
        "reqwest::Client::builder",
        "reqwest::get",
        "tokio::spawn",
        "tokio::task::spawn",
        "tokio::task::spawn_blocking",
    ] {
        assert!(doors.contains(&format!("\"{door}\"")), "{door} is no door");
    }
}

/// SQL has one room: what a query answers leaves it as types of the field, what fails as the room's
/// own error. The log's filter names libraries whose lines it leaves out.
#[test]
fn the_database_is_named_in_the_store_alone() {
    for (file, text) in sources(&["src"]) {
        let code = code(&text);
        let is_within = file.starts_with("src/store/") || file == "src/telemetry/log.rs";
        assert!(is_within || !code.contains("sqlx"), "{file} names sqlx");
        assert!(
            !code.contains(", sqlx::Error>"),
            "{file} gives the driver's error away"
        );
    }
}

/// The names that may stand for several things: what each room fails with, and the arguments of each
/// of clap's commands. Both are always read behind their module's name.
const SEVERAL_THINGS: [&str; 2] = ["Error", "Arguments"];

#[test]
fn a_public_type_name_stands_for_one_thing() {
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for (file, text) in sources(&["src"]) {
        for line in code(&text).lines() {
            let mut parts = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            let is_type = matches!(
                (parts.next(), parts.next()),
                (Some("pub"), Some("struct" | "enum" | "trait" | "type"))
            );
            if let (true, Some(name)) = (is_type, parts.next()) {
                places
                    .entry(name.to_owned())
                    .or_default()
                    .push(file.clone());
            }
        }
    }
    places.retain(|name, files| files.len() > 1 && !SEVERAL_THINGS.contains(&&**name));
    assert!(places.is_empty(), "{places:#?}");
}

/// Words that begin a riddle: a comment that is read with the code folded has to say what it is about.
const RIDDLES: [&str; 16] = [
    "And ",
    "As ",
    "But ",
    "Neither ",
    "Nor ",
    "Of ",
    "One more ",
    "So ",
    "Such ",
    "That ",
    "The same ",
    "Those ",
    "What ",
    "Who ",
    "Whom ",
    "Whose ",
];

#[test]
fn no_comment_begins_with_a_riddle() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&["src"]) {
        let mut before = "";
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let comment = |line: &str| {
                let rest = line.strip_prefix("//")?;
                let text = rest.trim_start_matches(['/', '!']).trim_start();
                Some(text.to_owned())
            };
            // A line in the middle of a paragraph goes on with the line above it.
            let begins = comment(before).is_none_or(|it| it.is_empty() || it.starts_with('#'));
            if let Some(comment) = comment(line)
                && begins
                && RIDDLES.iter().any(|riddle| comment.starts_with(riddle))
            {
                wrong.push(format!("{file}:{}: {comment}", number + 1));
            }
            before = line;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
