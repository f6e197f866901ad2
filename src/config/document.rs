//! A TOML document read key by key, and the environment laid over it: what was asked for is known,
//! what is left over, in the file or among the variables, is a mistake.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::format::plain;
use crate::secret::Secret;

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file and line, or the environment variable.
    pub place: String,
    pub message: String,
}

/// All mistakes of a configuration, in the order of its lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The configuration file's name.
    pub file: String,
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.faults.as_slice() {
            return write!(f, "{}: {}", only.place, only.message);
        }
        write!(f, "{} mistakes in {}", self.faults.len(), self.file)?;
        for fault in &self.faults {
            write!(f, "\n{}: {}", fault.place, fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A variable's value: as TOML where it reads as TOML, and as the text that it is.
struct Variable<'a> {
    value: DeValue<'a>,
    text: DeValue<'a>,
}

/// The variables that begin with `LARDER_`, each parsed as the value it stands for.
pub struct Environment<'a> {
    values: BTreeMap<&'a str, Variable<'a>>,
}

/// The prefix of environment variables that set keys of the configuration.
const PREFIX: &str = "LARDER_";

/// Variables that are no keys: the command line's, and where scripts say which program to start.
const NO_KEYS: &[&str] = &["LARDER_CONFIG", "LARDER_DATA_DIR", "LARDER_BIN"];

/// Whether Kubernetes sets the variable, in every container beside a service that is called
/// `larder`: `LARDER_SERVICE_HOST`, `LARDER_PORT`, `LARDER_PORT_5273_TCP_ADDR`, …
fn is_of_kubernetes(name: &str) -> bool {
    let name = name.strip_prefix(PREFIX).unwrap_or_default();
    let ports = || {
        let (port, protocol) = name.strip_prefix("PORT_")?.split_once('_')?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let protocol = protocol.split('_').next()?;
        Some(is_number && matches!(protocol, "TCP" | "UDP" | "SCTP"))
    };
    matches!(name, "SERVICE_HOST" | "SERVICE_PORT" | "PORT")
        || name.starts_with("SERVICE_PORT_")
        || ports().unwrap_or(false)
}

impl<'a> Environment<'a> {
    /// A value is TOML where it reads as TOML (`[{ action = "deny", … }]`), else a string.
    pub fn new(variables: &'a [(String, String)]) -> Self {
        let values = variables
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX) && !is_of_kubernetes(name))
            .map(|(name, text)| {
                let text = text.as_str();
                let value = DeValue::parse(text)
                    .map_or_else(|_| DeValue::String(text.into()), Spanned::into_inner);
                let text = DeValue::String(text.into());
                (name.as_str(), Variable { value, text })
            })
            .collect();
        Self { values }
    }
}

/// The state of reading the configuration: its text, to tell where a mistake is, and the keys that
/// were read, to find those that nobody reads.
pub struct ConfigReading<'a> {
    pub file: &'a str,
    text: &'a str,
    environment: &'a Environment<'a>,
    faults: RefCell<Vec<Fault>>,
    /// The variables that stand for keys which were read.
    keys: RefCell<BTreeSet<String>>,
    /// Variables that would stand for whole tables.
    tables: RefCell<BTreeSet<String>>,
    /// Variables that the configuration itself names: `{ env = "LARDER_NPM_TOKEN" }`.
    named: RefCell<BTreeSet<String>>,
}

impl<'a> ConfigReading<'a> {
    pub fn new(file: &'a str, text: &'a str, environment: &'a Environment<'a>) -> Self {
        Self {
            file,
            text,
            environment,
            faults: RefCell::default(),
            keys: RefCell::default(),
            tables: RefCell::default(),
            named: RefCell::default(),
        }
    }

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

    /// Notes the variables that secrets are read from.
    fn note_named(&self, value: &DeValue<'_>) {
        if let Some(table) = value.as_table() {
            for (key, value) in table {
                match (key.get_ref().as_ref(), value.get_ref().as_str()) {
                    ("env", Some(name)) => {
                        self.named.borrow_mut().insert(name.to_owned());
                    }
                    _ => self.note_named(value.get_ref()),
                }
            }
        } else if let Some(array) = value.as_array() {
            for value in array {
                self.note_named(value.get_ref());
            }
        }
    }

    /// Names the variables that no key was read from. Asked once all keys have been read.
    pub fn finish_variables(&self) {
        let (keys, tables, named) = (
            self.keys.borrow(),
            self.tables.borrow(),
            self.named.borrow(),
        );
        let bare = |name: &'a str| name.strip_prefix(PREFIX).unwrap_or(name);
        for name in self.environment.values.keys() {
            if keys.contains(*name) || named.contains(*name) || NO_KEYS.contains(name) {
                continue;
            }
            if tables.contains(*name) {
                let below = format!("{name}_");
                let example = keys.iter().find(|key| key.starts_with(&below));
                let example = example.map_or_else(String::new, |key| format!(", such as `{key}`"));
                self.fault(
                    *name,
                    format!("`{name}` is a table, whose keys are variables of their own{example}"),
                );
                continue;
            }
            let candidates = keys.iter().filter_map(|key| key.strip_prefix(PREFIX));
            let hint = nearest(bare(name), candidates)
                .map(|nearest| format!("; did you mean `{PREFIX}{nearest}`?"));
            self.fault(
                *name,
                format!(
                    "`{name}` stands for no key of the configuration{}",
                    hint.unwrap_or_default()
                ),
            );
        }
    }

    /// All mistakes: about the whole first, then by line, then those of variables.
    pub fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| match fault.place.strip_prefix(self.file) {
            Some(rest) => rest
                .strip_prefix(':')
                .and_then(|line| line.parse().ok())
                .unwrap_or(0_usize),
            None => usize::MAX,
        });
        faults
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub struct LocatedValue<'a> {
    pub value: &'a DeValue<'a>,
    /// A variable's, word for word.
    text: Option<&'a DeValue<'a>>,
    pub place: String,
}

/// A table of the document, laid under the environment.
pub struct Section<'a> {
    reading: &'a ConfigReading<'a>,
    /// `cache`, or empty for the top.
    path: String,
    pub place: String,
    table: Option<&'a DeTable<'a>>,
    /// Environment variables lay over it; those of an array's tables cannot be named.
    overlaid: bool,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub fn top(reading: &'a ConfigReading<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            reading,
            path: String::new(),
            place: reading.file.to_owned(),
            table: Some(table),
            overlaid: true,
            asked: RefCell::default(),
        }
    }

    /// The key as messages name it.
    pub fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub fn fault(&self, place: &str, message: impl Into<String>) {
        self.reading.fault(place, message);
    }

    /// The variable that stands for the key.
    fn variable(&self, key: &str) -> String {
        format!(
            "{PREFIX}{}",
            self.full(key).replace('.', "_").to_uppercase()
        )
    }

    fn get(&self, key: &'static str) -> Option<LocatedValue<'a>> {
        self.asked.borrow_mut().push(key);
        let found = self.get_variable(key).or_else(|| {
            let value = self.table?.get(key)?;
            Some(LocatedValue {
                value: value.get_ref(),
                text: None,
                place: self.reading.line(value.span().start),
            })
        })?;
        self.reading.note_named(found.value);
        Some(found)
    }

    fn get_variable(&self, key: &'static str) -> Option<LocatedValue<'a>> {
        if !self.overlaid {
            return None;
        }
        let name = self.variable(key);
        let variable = self.reading.environment.values.get(name.as_str());
        self.reading.keys.borrow_mut().insert(name.clone());
        variable.map(|variable| LocatedValue {
            value: &variable.value,
            text: Some(&variable.text),
            place: name,
        })
    }

    /// Whether the key is there, whatever its value.
    pub fn has(&self, key: &'static str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether nothing at all is said here.
    pub fn is_empty(&self) -> bool {
        self.table.is_none_or(DeTable::is_empty)
    }

    /// The key's value, read as `T`; what cannot be read is a fault and counts as absent.
    pub fn take<T: FromValue>(&self, key: &'static str) -> Option<T> {
        self.take_placed(key).map(|(value, _)| value)
    }

    /// Takes the value with its place, for faults that are found later.
    pub fn take_placed<T: FromValue>(&self, key: &'static str) -> Option<(T, String)> {
        let found = self.get(key)?;
        self.read(key, found)
    }

    fn read<T: FromValue>(&self, key: &str, found: LocatedValue<'a>) -> Option<(T, String)> {
        // A variable has no quotes: an account's digits are a string where a string is asked for.
        let read = T::from_value(found.value).or_else(|why| {
            let read = found.text.map(T::from_value).and_then(Result::ok);
            read.ok_or(why)
        });
        match read {
            Ok(value) => Some((value, found.place)),
            Err(why) => {
                self.fault(&found.place, format!("`{}` {why}", self.full(key)));
                None
            }
        }
    }

    /// Takes the value as [`Section::take_placed`] does; an absent key is a fault.
    pub fn require<T: FromValue>(&self, key: &'static str) -> Option<(T, String)> {
        let Some(found) = self.get(key) else {
            self.fault(&self.place, format!("`{}` is missing", self.full(key)));
            return None;
        };
        self.read(key, found)
    }

    /// A table below this one; empty where it is absent.
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let found = self.table.and_then(|table| table.get(key));
        self.asked.borrow_mut().push(key);
        if self.overlaid {
            let name = self.variable(key);
            self.reading.tables.borrow_mut().insert(name);
        }
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

    /// Takes the table of that key; `None` where the configuration has none.
    pub fn optional_section(&self, key: &'static str) -> Option<Section<'a>> {
        let section = self.section(key);
        let overlaid = self.overlaid && {
            let prefix = format!("{}_", self.variable(key));
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
        let place = |value: &Spanned<DeValue<'_>>| match found.text {
            Some(_) => found.place.clone(),
            None => self.reading.line(value.span().start),
        };
        let tables = array.iter().filter_map(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                let why = format!("each of `{}` has to be a table", self.full(key));
                self.fault(&place(value), why);
            }
            Some((table?, place(value)))
        });
        tables
            .map(|(table, place)| Section {
                reading: self.reading,
                path: self.full(key),
                place,
                table: Some(table),
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
    /// Says what the value has to be.
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

/// A count or a bound of which none at all would be no bound but a standstill.
impl FromValue for NonZeroUsize {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let number = usize::from_value(value)?;
        Self::new(number).ok_or_else(|| "has to be at least 1".to_owned())
    }
}

impl FromValue for NonZeroU32 {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let number = NonZeroUsize::from_value(value)?;
        Self::try_from(number).map_err(|_| format!("has to be at most {}", u32::MAX))
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

/// A number of bytes that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SomeBytes(pub u64);

impl FromValue for SomeBytes {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        match Bytes::from_value(value)? {
            Bytes(0) => Err("has to be at least 1 byte".to_owned()),
            Bytes(count) => Ok(Self(count)),
        }
    }
}

impl FromValue for Duration {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        humantime::parse_duration(value.as_str().unwrap_or_default())
            .map_err(|_| "has to be a time, such as \"30s\" or \"3d\"".to_owned())
    }
}

/// A time that is longer than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromValue for Span {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        match Duration::from_value(value)? {
            Duration::ZERO => Err("has to be longer than no time at all".to_owned()),
            time => Ok(Self(time)),
        }
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
        .map_err(|error| {
            format!(
                "names the file {file}, which cannot be read: {}",
                plain::io(&error)
            )
        })
}
