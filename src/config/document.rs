//! A TOML document read key by key: what was asked for is known, what is left over is a mistake.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::secret::Secret;

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file and line, or the environment variable.
    pub place: String,
    pub message: String,
}

/// All mistakes of a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{}: {}", fault.place, fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The variables that begin with `LARDER_`, each parsed as the value it stands for.
pub struct Environment<'a> {
    values: BTreeMap<&'a str, DeValue<'a>>,
}

/// Variables that are no keys of the configuration.
const NO_KEYS: &[&str] = &["LARDER_CONFIG", "LARDER_LOG"];

impl<'a> Environment<'a> {
    /// A value is TOML where it reads as TOML (`[{ action = "deny", … }]`), else a string.
    pub fn new(variables: &'a [(String, String)]) -> Self {
        let values = variables
            .iter()
            .filter(|(name, _)| name.starts_with("LARDER_") && !NO_KEYS.contains(&name.as_str()))
            .map(|(name, text)| {
                let value = DeValue::parse(text).map_or_else(
                    |_| DeValue::String(text.as_str().into()),
                    Spanned::into_inner,
                );
                (name.as_str(), value)
            })
            .collect();
        Self { values }
    }
}

/// What reading needs to say where a mistake is.
pub struct Reading<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub environment: &'a Environment<'a>,
    pub faults: RefCell<Vec<Fault>>,
}

impl Reading<'_> {
    pub fn fault(&self, place: impl Into<String>, message: impl Into<String>) {
        self.faults.borrow_mut().push(Fault {
            place: place.into(),
            message: message.into(),
        });
    }

    fn line(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", self.file)
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub struct Found<'a> {
    pub value: &'a DeValue<'a>,
    pub place: String,
}

/// A table of the document, laid under the environment.
pub struct Section<'a> {
    reading: &'a Reading<'a>,
    /// `cache`, or empty for the top.
    path: String,
    pub place: String,
    table: Option<&'a DeTable<'a>>,
    /// Environment variables lay over it; those of an array's tables cannot be named.
    overlaid: bool,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub fn top(reading: &'a Reading<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            reading,
            path: String::new(),
            place: reading.file.to_owned(),
            table: Some(table),
            overlaid: true,
            asked: RefCell::default(),
        }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub fn fault(&self, place: &str, message: impl Into<String>) {
        self.reading.fault(place, message);
    }

    fn get(&self, key: &'static str) -> Option<Found<'a>> {
        self.asked.borrow_mut().push(key);
        if self.overlaid {
            let variable = format!("LARDER_{}", self.full(key).replace('.', "_").to_uppercase());
            if let Some(value) = self.reading.environment.values.get(variable.as_str()) {
                return Some(Found {
                    value,
                    place: variable,
                });
            }
        }
        let value = self.table?.get(key)?;
        Some(Found {
            value: value.get_ref(),
            place: self.reading.line(value.span().start),
        })
    }

    /// The key's value, read as `T`; what cannot be read is a fault and counts as absent.
    pub fn take<T: FromValue>(&self, key: &'static str) -> Option<T> {
        self.take_placed(key).map(|(value, _)| value)
    }

    /// The same, with the place for later faults.
    pub fn take_placed<T: FromValue>(&self, key: &'static str) -> Option<(T, String)> {
        let found = self.get(key)?;
        match T::from_value(found.value) {
            Ok(value) => Some((value, found.place)),
            Err(why) => {
                self.fault(&found.place, format!("`{}` {why}", self.full(key)));
                None
            }
        }
    }

    /// As [`Section::take_placed`], and a fault where the key is absent.
    pub fn require<T: FromValue>(&self, key: &'static str) -> Option<(T, String)> {
        if self.table.is_none_or(|table| !table.contains_key(key)) {
            self.asked.borrow_mut().push(key);
            self.fault(&self.place, format!("`{}` is missing", self.full(key)));
            return None;
        }
        self.take_placed(key)
    }

    /// A table below this one; empty where it is absent.
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let found = self.table.and_then(|table| table.get(key));
        self.asked.borrow_mut().push(key);
        let table = found.and_then(|value| value.get_ref().as_table());
        let place = found.map_or_else(
            || self.place.clone(),
            |value| self.reading.line(value.span().start),
        );
        if found.is_some() && table.is_none() {
            self.fault(&place, format!("`{}` has to be a table", self.full(key)));
        }
        Section {
            reading: self.reading,
            path: self.full(key),
            place,
            table,
            overlaid: self.overlaid,
            asked: RefCell::default(),
        }
    }

    /// The same, where it matters whether it is there.
    pub fn optional_section(&self, key: &'static str) -> Option<Section<'a>> {
        let section = self.section(key);
        let overlaid = self.overlaid && {
            let prefix = format!(
                "LARDER_{}_",
                self.full(key).replace('.', "_").to_uppercase()
            );
            self.reading
                .environment
                .values
                .keys()
                .any(|name| name.starts_with(&prefix))
        };
        (section.table.is_some() || overlaid).then_some(section)
    }

    /// The tables of an array of tables.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(found) = self.get(key) else {
            return Vec::new();
        };
        let Some(array) = found.value.as_array() else {
            self.fault(
                &found.place,
                format!(
                    "`{}` has to be a list of tables, as in [[{key}]]",
                    self.full(key)
                ),
            );
            return Vec::new();
        };
        let from_variable = found.place.starts_with("LARDER_");
        array
            .iter()
            .map(|value| Section {
                reading: self.reading,
                path: self.full(key),
                place: if from_variable {
                    found.place.clone()
                } else {
                    self.reading.line(value.span().start)
                },
                table: value.get_ref().as_table(),
                overlaid: false,
                asked: RefCell::default(),
            })
            .collect()
    }

    /// Names the keys that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name = key.get_ref().as_ref();
            if asked.contains(&name) {
                continue;
            }
            let nearest = nearest(name, asked.iter().copied());
            let hint = nearest.map_or_else(
                || format!("; the keys here are {}", asked.join(", ")),
                |nearest| format!("; did you mean `{}`?", self.full(nearest)),
            );
            self.fault(
                &self.reading.line(key.span().start),
                format!("there is no key `{}`{hint}", self.full(name)),
            );
        }
    }
}

/// The candidate that is close enough to have been meant.
pub fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .filter(|candidate| {
            strsim::damerau_levenshtein(name, candidate) <= 2
                || strsim::jaro_winkler(name, candidate) > 0.75
        })
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
}

/// A type that a TOML value can be read as.
pub trait FromValue: Sized {
    /// # Errors
    /// What the value has to be.
    fn from_value(value: &DeValue<'_>) -> Result<Self, String>;
}

impl FromValue for String {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| "has to be a string".to_owned())
    }
}

impl FromValue for bool {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_bool()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            .ok_or_else(|| "has to be true or false".to_owned())
    }
}

impl FromValue for usize {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_integer()
            .and_then(|number| number.as_str().replace('_', "").parse().ok())
            .ok_or_else(|| "has to be a whole number, zero or more".to_owned())
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let wrong = || "has to be a list of strings".to_owned();
        value
            .as_array()
            .ok_or_else(wrong)?
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned).ok_or_else(wrong))
            .collect()
    }
}

/// A number of bytes: `"50GiB"`, or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromValue for Bytes {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let text = match value {
            DeValue::Integer(number) => number.as_str(),
            other => other.as_str().unwrap_or_default(),
        };
        bytesize::ByteSize::from_str(text)
            .map(|size| Self(size.as_u64()))
            .map_err(|_| "has to be a size, such as \"50GiB\"".to_owned())
    }
}

impl FromValue for Duration {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        humantime::parse_duration(value.as_str().unwrap_or_default())
            .map_err(|_| "has to be a time, such as \"30s\" or \"3d\"".to_owned())
    }
}

impl FromValue for Timestamp {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let text = match value {
            DeValue::Datetime(date) => date.to_string(),
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        text.parse()
            .or_else(|_| format!("{text}T00:00:00Z").parse())
            .map_err(|_| {
                "has to be a date, such as \"2027-03-01\" or \"2027-03-01T12:00:00Z\"".to_owned()
            })
    }
}

impl FromValue for Secret {
    /// `{ env = "NAME" }` or `{ file = "PATH" }`.
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let wrong = || "has to be { env = \"VARIABLE\" } or { file = \"PATH\" }, so that no secret stands in the file";
        let table = value.as_table().ok_or_else(wrong)?;
        let text = |key: &str| table.get(key).and_then(|value| value.get_ref().as_str());
        match (text("env"), text("file"), table.len()) {
            (Some(variable), None, 1) => std::env::var(variable)
                .map(|value| Self::new(&value))
                .map_err(|_| format!("names the variable {variable}, which is not set")),
            (None, Some(file), 1) => read_secret(file),
            _ => Err(wrong().to_owned()),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the configuration reads the files that it names"
)]
fn read_secret(file: &str) -> Result<Secret, String> {
    std::fs::read_to_string(file)
        .map(|value| Secret::new(value.trim()))
        .map_err(|error| format!("names the file {file}, which cannot be read: {error}"))
}
