//! The command line as people read it: commands in groups, with examples.

use std::fmt::Write as _;
use std::io;

use clap::ColorChoice;
use clap::builder::Styles;
use clap::{Command, CommandFactory as _};

use crate::telemetry::terminal;

/// The commands by what they are for. Every command stands in one group.
pub const GROUPS: &[(&str, &[&str])] = &[
    ("Use", &["run", "serve", "wait", "env", "login", "check"]),
    (
        "Packages",
        &[
            "list",
            "who-decides",
            "copy",
            "status",
            "delete",
            "retain",
            "spool",
        ],
    ),
    ("Air gap", &["warm", "export", "import", "wishes"]),
    (
        "Store",
        &[
            "connection",
            "report",
            "who",
            "verify",
            "gc",
            "backup",
            "restore",
            "packages",
            "pin",
            "unpin",
            "encrypt",
        ],
    ),
    ("Access", &["token", "key", "policy", "events"]),
    ("More", &["completions", "man", "help"]),
];

const EXAMPLES: &[(&str, &str)] = &[
    (
        "larder run -- npm install express",
        "any client, through this Larder or one of its own",
    ),
    ("larder serve", "serve on 127.0.0.1:5273"),
    ("eval \"$(larder env)\"", "point this shell's clients at it"),
    (
        "larder login --tool maven",
        "write it into a client's own configuration",
    ),
    (
        "larder check",
        "what is configured, what was learned, and what answers",
    ),
];

/// The command line, with its help in groups.
pub fn command() -> Command {
    let mut command = super::Arguments::command();
    command.build();
    let template = template(&command);
    super::Arguments::command()
        .help_template(template)
        .color(colours())
}

/// Help goes to standard output and mistakes to standard error, by one setting of clap's.
fn colours() -> ColorChoice {
    if terminal::shows_colours(&io::stdout()) && terminal::shows_colours(&io::stderr()) {
        ColorChoice::Always
    } else {
        ColorChoice::Never
    }
}

fn template(command: &Command) -> String {
    let head = Styles::styled().get_header().to_owned();
    let name = Styles::styled().get_literal().to_owned();
    let width = command.get_subcommands().map(|it| it.get_name().len());
    let width = width.max().unwrap_or_default();
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (group, names) in GROUPS {
        let _ = write!(text, "\n{head}{group}:{head:#}\n");
        for one in *names {
            let about = command.find_subcommand(one).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {name}{one:width$}{name:#}  {about}");
        }
    }
    let _ = writeln!(text, "\n{head}Options:{head:#}\n{{options}}");
    let width = EXAMPLES.iter().map(|(line, _)| line.len());
    let width = width.max().unwrap_or_default();
    let _ = write!(text, "\n{head}Examples:{head:#}");
    for (line, what) in EXAMPLES {
        let _ = write!(text, "\n  {line:width$}  # {what}");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command with its path, `larder token create` among them.
    fn every() -> Vec<(String, Command)> {
        fn below(path: &str, command: &Command, all: &mut Vec<(String, Command)>) {
            all.push((path.to_owned(), command.clone()));
            for one in command.get_subcommands() {
                if one.get_name() != "help" {
                    below(&format!("{path} {}", one.get_name()), one, all);
                }
            }
        }
        let (mut root, mut all) = (command(), Vec::new());
        root.build();
        below("larder", &root, &mut all);
        all
    }

    fn help(command: Command) -> String {
        let mut command = command.term_width(100);
        command.render_long_help().to_string()
    }

    #[test]
    fn every_help_is_as_it_was_written_down() {
        for (path, command) in every() {
            insta::assert_snapshot!(path.replace(' ', "-"), help(command));
        }
    }

    #[test]
    fn every_command_stands_in_one_group() {
        let mut root = command();
        root.build();
        let mut commands: Vec<&str> = root.get_subcommands().map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|it| it.1).copied().collect();
        commands.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(commands, grouped);
    }

    #[test]
    fn every_argument_has_a_text_of_one_line() {
        for (path, command) in every() {
            for argument in command.get_arguments() {
                let text = argument.get_help().map(ToString::to_string);
                let text = text.unwrap_or_default();
                assert!(!text.is_empty(), "{path} {}", argument.get_id());
                assert!(!text.contains('\n'), "{path} {}", argument.get_id());
            }
            let after = command.get_after_help().map(ToString::to_string);
            for paragraph in after.unwrap_or_default().split("\n\n") {
                let is_examples = paragraph.starts_with("Example");
                assert!(is_examples || !paragraph.contains('\n'), "{path}");
            }
        }
    }

    #[test]
    fn every_example_is_a_command_line() {
        let of_root = EXAMPLES.iter().map(|(line, _)| (*line).to_owned());
        let mut lines: Vec<String> = of_root.collect();
        for (_, command) in every() {
            let after = command.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default();
            let lines_of = after.lines().map(str::trim);
            lines.extend(
                lines_of
                    .filter(|it| it.starts_with("larder "))
                    .map(str::to_owned),
            );
        }
        assert!(lines.len() > 60, "{}", lines.len());
        for line in lines {
            // Three blanks separate a command from its explanation.
            let (words, remark) = line.split_once("   ").unwrap_or((&line, "#"));
            assert!(remark.trim_start().starts_with('#'), "{line}");
            let words = words.split(['|', '>', ';', '&']).next().unwrap_or_default();
            let words = words
                .trim_start_matches("eval \"$(")
                .trim_end_matches(")\"");
            let words = shlex::split(words).unwrap_or_default();
            let parsed = command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
