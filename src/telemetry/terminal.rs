//! Finds out what standard output and standard error can show. This is the one place that decides
//! about colours: the log, the help and the messages of clap, and progress bars ask here.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// Whether text on the stream has colours.
pub fn shows_colours(stream: &impl IsTerminal) -> bool {
    Terminal::of(stream).is_some_and(|terminal| terminal.shows_colours())
}

/// Whether a line on the stream can be drawn again, as progress bars do.
pub fn redraws_lines(stream: &impl IsTerminal) -> bool {
    Terminal::of(stream).is_some_and(|terminal| !terminal.is_dumb)
}

/// A terminal, and what its user says of it.
struct Terminal {
    /// `TERM=dumb`, or no `TERM`: escape sequences would be shown as they are.
    is_dumb: bool,
    /// `NO_COLOR` is set, and not empty (no-color.org).
    is_plain: bool,
}

impl Terminal {
    /// None where the stream is a file or a pipe.
    fn of(stream: &impl IsTerminal) -> Option<Self> {
        let (term, no_color) = (std::env::var_os("TERM"), std::env::var_os("NO_COLOR"));
        stream
            .is_terminal()
            .then(|| Self::read(term.as_deref(), no_color.as_deref()))
    }

    fn read(term: Option<&OsStr>, no_color: Option<&OsStr>) -> Self {
        Self {
            is_dumb: term.is_none_or(|term| term.is_empty() || term == "dumb"),
            is_plain: no_color.is_some_and(|value| !value.is_empty()),
        }
    }

    fn shows_colours(&self) -> bool {
        !self.is_dumb && !self.is_plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_colours_unless_its_user_says_otherwise() {
        for (term, no_color, expected) in [
            (Some("xterm-256color"), None, true),
            (Some("xterm"), Some(""), true),
            (Some("xterm"), Some("1"), false),
            (Some("dumb"), None, false),
            (Some(""), None, false),
            (None, None, false),
        ] {
            let terminal = Terminal::read(term.map(OsStr::new), no_color.map(OsStr::new));
            assert_eq!(terminal.shows_colours(), expected, "{term:?} {no_color:?}");
        }
    }
}
