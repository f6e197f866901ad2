//! The book's pages of commands and configuration, made from the command line's own texts and from the
//! example that the loader's tests hold against the defaults. `UPDATE_REFERENCE=1 cargo test
//! reference` writes them.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};

use super::help;

/// Text in a table's cell.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn commands() -> String {
    let mut page = String::from(
        "# Commands\n\nThis page is made from `larder --help`. Options that every command takes are listed once, at the end.\n",
    );
    let mut root = help::command();
    root.build();
    for (group, names) in help::GROUPS {
        let _ = write!(page, "\n## {group}\n");
        for name in *names {
            if let Some(one) = root
                .find_subcommand(name)
                .filter(|it| it.get_name() != "help")
            {
                command(&mut page, one, &format!("larder {name}"), 3);
            }
        }
    }
    page.push_str("\n## Global options\n\n");
    let is_global = |it: &&Arg| it.is_global_set() && it.get_id() != "json";
    options(&mut page, root.get_arguments().filter(is_global));
    page
}

#[allow(clippy::disallowed_methods, reason = "pages are files")]
fn command(page: &mut String, command: &Command, path: &str, depth: usize) {
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    let _ = write!(page, "\n{} `{path}`\n\n{about}.\n", "#".repeat(depth));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = write!(page, "\n```text\n{usage}\n```\n");
    let own = |it: &&Arg| {
        let is_json = it.get_id() == "json" && depth == 3;
        (is_json || !it.is_global_set()) && it.get_id() != "help"
    };
    let mut own = command.get_arguments().filter(own).peekable();
    if own.peek().is_some() {
        page.push('\n');
        options(page, own);
    }
    if let Some(after) = command.get_after_help() {
        for paragraph in after.to_string().split("\n\n") {
            match paragraph.split_once('\n') {
                Some((head, lines)) if head.starts_with("Example") => {
                    let lines = lines.lines().map(str::trim_start);
                    let lines = lines.collect::<Vec<_>>().join("\n");
                    let _ = write!(page, "\n{head}\n\n```text\n{lines}\n```\n");
                }
                _ => {
                    let _ = write!(page, "\n{paragraph}\n");
                }
            }
        }
    }
    for one in command.get_subcommands() {
        if one.get_name() != "help" {
            self::command(page, one, &format!("{path} {}", one.get_name()), depth + 1);
        }
    }
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    page.push_str("| option | what it does |\n| --- | --- |\n");
    for one in arguments {
        let values = one.get_value_names().unwrap_or_default();
        let values: Vec<String> = values.iter().map(|it| format!("<{it}>")).collect();
        let takes_value = one.get_action().takes_values();
        let values = if takes_value {
            values.join(" ")
        } else {
            String::new()
        };
        let name = match one.get_long() {
            Some(long) => format!("--{long} {values}"),
            None => values,
        };
        let mut text = one.get_help().map(ToString::to_string).unwrap_or_default();
        let defaults = one.get_default_values();
        if takes_value && defaults.iter().any(|it| !it.is_empty()) {
            let defaults: Vec<_> = defaults.iter().map(|it| it.to_string_lossy()).collect();
            let _ = write!(text, " (default: `{}`)", defaults.join(" "));
        }
        if let Some(variable) = one.get_env() {
            let _ = write!(text, " (variable: `{}`)", variable.to_string_lossy());
        }
        let _ = writeln!(page, "| `{}` | {} |", cell(name.trim_end()), cell(&text));
    }
}

/// A line of the example: what stands before its remark, and the remark.
pub(super) fn parted(line: &str) -> (&str, &str) {
    // A `#` within quotes is no remark.
    let mut is_quoted = false;
    for (at, char) in line.char_indices() {
        match char {
            '"' | '\'' => is_quoted = !is_quoted,
            '#' if !is_quoted => {
                let (setting, remark) = line.split_at(at);
                return (setting.trim(), remark.trim_start_matches('#').trim());
            }
            _ => {}
        }
    }
    (line.trim(), "")
}

fn configuration(example: &str) -> String {
    let mut page =
        String::from("# Configuration\n\nThis page is made from `config.example.toml`.\n\n");
    let mut rows: Vec<[String; 3]> = Vec::new();
    let flush = |page: &mut String, rows: &mut Vec<[String; 3]>| {
        if !rows.is_empty() {
            page.push_str("\n| key | value | what it does |\n| --- | --- | --- |\n");
        }
        for [key, value, text] in rows.drain(..) {
            assert!(
                !text.is_empty(),
                "config.example.toml says nothing of `{key}`"
            );
            let _ = writeln!(page, "| `{key}` | `{}` | {} |", cell(&value), cell(&text));
        }
    };
    for line in example.lines() {
        // A setting without a default is commented out.
        let bare = line.strip_prefix("# ");
        let is_setting = |it: &str| {
            let first = it.split([' ', '=']).next().unwrap_or_default();
            let is_key =
                !first.is_empty() && first.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            it.starts_with('[')
                || is_key && it.trim_start_matches(first).trim_start().starts_with('=')
        };
        let (text, is_default) = match bare {
            Some(bare) if is_setting(bare) => (bare, false),
            _ => (line, true),
        };
        let (setting, remark) = parted(text);
        if setting.starts_with('[') {
            flush(&mut page, &mut rows);
            let heading = format!("## `{setting}`");
            if !page.contains(&format!("\n{heading}\n")) {
                let _ = write!(page, "\n{heading}\n");
                if !remark.is_empty() {
                    let _ = write!(page, "\n{remark}.\n");
                }
            }
        } else if let Some((key, value)) = setting.split_once('=').filter(|_| is_setting(setting)) {
            let value = value.trim();
            let remark = if is_default || remark.is_empty() {
                remark.to_owned()
            } else {
                format!("{remark} (an example)")
            };
            rows.push([key.trim().to_owned(), value.to_owned(), remark]);
        } else if setting.is_empty() && !remark.is_empty() {
            match rows.last_mut() {
                Some([.., text]) => {
                    text.push(' ');
                    text.push_str(remark);
                }
                None => {
                    let _ = writeln!(page, "{remark}");
                }
            }
        }
    }
    flush(&mut page, &mut rows);
    page
}

#[allow(clippy::disallowed_methods, reason = "pages are files")]
pub(super) fn is_up_to_date(name: &str, page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/src/reference")
        .join(name);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "{name} is not what Larder says of itself: UPDATE_REFERENCE=1 cargo test reference"
    );
}

#[test]
fn the_page_of_commands_is_what_help_says() {
    is_up_to_date("commands.md", &commands());
}

#[test]
fn the_page_of_the_configuration_is_what_the_example_says() {
    let example = include_str!("../../config.example.toml");
    is_up_to_date("configuration.md", &configuration(example));
}
