//! Libraries' errors in plain English. Whoever shows an error of a library to a user asks here, so
//! that a message has no words of the library's own.

use std::error::Error;
use std::io;

use toml::de::DeTable;

use crate::problem::root_cause;

/// Why text is not the JSON that was looked for.
#[must_use]
pub fn json(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Eof => {
            format!("it is JSON that ends too early, in line {line}")
        }
        serde_json::error::Category::Syntax => {
            format!("it is not JSON: see line {line}, column {column}")
        }
        serde_json::error::Category::Data => {
            let text = error.to_string();
            let message = text.split(" at line ").next().unwrap_or_default();
            let place = match line {
                0 => String::new(),
                line => format!(" (line {line}, column {column})"),
            };
            format!("{}{place}", data(message))
        }
        serde_json::error::Category::Io => "it cannot be read to its end".to_owned(),
    }
}

/// Why text is no TOML at all; its error says in which line.
#[must_use]
pub fn toml_syntax(error: &toml::de::Error) -> String {
    if error.message().starts_with("duplicate key") {
        return "this key is there twice".to_owned();
    }
    "this is no TOML: text stands in quotes, as in `name = \"public\"`, and a table's name in brackets".to_owned()
}

/// Why text is not the TOML that was looked for.
#[must_use]
pub fn toml(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.matches('\n').count() + 1);
    let place = line.map_or_else(String::new, |line| format!(" (line {line})"));
    let message = error.message().lines().next().unwrap_or_default();
    let why = match DeTable::parse(text) {
        Ok(_) => data(message),
        Err(error) => toml_syntax(&error),
    };
    format!("{why}{place}")
}

/// Translates what serde says of values that do not fit.
fn data(message: &str) -> String {
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("{field} is missing");
    }
    if let Some(field) = message.strip_prefix("duplicate field ") {
        return format!("{field} is there twice");
    }
    if let Some(field) = message.strip_prefix("unknown field ") {
        let field = field.split(',').next().unwrap_or_default();
        return format!("there is no {field}");
    }
    let found = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = found.and_then(|it| it.split_once(", expected ")) {
        let found = match found {
            "sequence" => "a list",
            "map" => "a table",
            other => other,
        };
        let expected = match expected {
            "a sequence" => "a list",
            "a map" => "a table",
            other if other.starts_with("struct ") => "a table",
            other => other,
        };
        return format!("it has {found} where {expected} belongs");
    }
    message.to_owned()
}

/// Why text cannot be read as XML.
pub const XML: &str = "it is no XML, or ends too early";

/// Why a file or a socket failed.
#[must_use]
pub fn io(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder",
        io::ErrorKind::PermissionDenied => "this user may not do that",
        io::ErrorKind::IsADirectory => "it is a folder",
        io::ErrorKind::NotADirectory => "a part of its path is no folder",
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::ReadOnlyFilesystem => "its file system is read-only",
        io::ErrorKind::InvalidData if error.get_ref().is_none() => "it is not text in UTF-8",
        io::ErrorKind::AddrInUse => "another process uses it",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::ConnectionRefused => "the connection was refused",
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => "it broke off",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no network leads there"
        }
        io::ErrorKind::TimedOut => "it took too long",
        _ => return network(&error.to_string()),
    };
    text.to_owned()
}

/// The innermost cause of a failure, such as that of a request.
#[must_use]
pub fn cause(error: &(dyn Error + 'static)) -> String {
    let root = root_cause(error);
    match root.downcast_ref::<io::Error>() {
        Some(error) => io(error),
        None => network(&root.to_string()),
    }
}

/// Errors of DNS, TLS and HTTP, which their libraries give no other sign of than their text.
fn network(text: &str) -> String {
    const SIGNS: [(&str, &str); 14] = [
        (
            "failed to lookup address information",
            "its name is not known to DNS",
        ),
        (
            "UnknownIssuer",
            "its certificate is signed by nobody whom this machine trusts",
        ),
        (
            "NotValidForName",
            "its certificate is made out to another name",
        ),
        (
            "certificate not valid for name",
            "its certificate is made out to another name",
        ),
        ("Expired", "its certificate has expired"),
        ("certificate expired", "its certificate has expired"),
        ("invalid peer certificate", "its certificate does not hold"),
        ("received fatal alert", "it refused the TLS handshake"),
        ("received corrupt message", "it does not speak TLS"),
        ("connection closed before message completed", "it broke off"),
        ("end of file before message length reached", "it broke off"),
        ("unexpected EOF", "it broke off"),
        ("operation timed out", "it did not answer in time"),
        ("invalid HTTP", "it does not speak HTTP"),
    ];
    match SIGNS.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, plain)) => (*plain).to_owned(),
        None => text
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code, reason = "it is only read")]
    struct Document {
        name: String,
        files: Vec<String>,
    }

    #[test]
    fn mistakes_in_documents_are_told_in_plain_words() {
        for (text, expected) in [
            ("", "it is JSON that ends too early, in line 1"),
            ("{\"name\":", "it is JSON that ends too early, in line 1"),
            ("{\n name: 1}", "it is not JSON: see line 2, column 2"),
            ("{}", "`name` is missing (line 1, column 2)"),
            (
                "{\"name\": 5, \"files\": []}",
                "it has integer `5` where a string belongs (line 1, column 10)",
            ),
            (
                "{\"name\": \"a\", \"files\": {}}",
                "it has a table where a list belongs (line 1, column 23)",
            ),
        ] {
            let error = serde_json::from_str::<Document>(text).unwrap_err();
            assert_eq!(json(&error), expected, "{text}");
        }
        for (text, expected) in [
            ("x = 1", "`name` is missing (line 1)"),
            (
                "files = []\nname = 5",
                "it has integer `5` where a string belongs (line 2)",
            ),
        ] {
            let error = ::toml::from_str::<Document>(text).unwrap_err();
            assert_eq!(toml(&error, text), expected, "{text}");
        }
    }

    #[test]
    fn files_and_sockets_fail_in_plain_words() {
        for (error, expected) in [
            (
                io::Error::from_raw_os_error(2),
                "there is no such file or folder",
            ),
            (io::Error::from_raw_os_error(98), "another process uses it"),
            (
                io::Error::from_raw_os_error(40),
                "Too many levels of symbolic links",
            ),
            (
                io::Error::other("invalid peer certificate: UnknownIssuer"),
                "its certificate is signed by nobody whom this machine trusts",
            ),
        ] {
            assert_eq!(io(&error), expected);
        }
    }
}
