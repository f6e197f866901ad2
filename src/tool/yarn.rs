//! yarn's own settings, classic and berry: which registry it publishes to.

use std::path::PathBuf;

use super::login::ClientLogin;
use super::{home, read};
use crate::package::Format;

/// The registry that berry publishes to by its own settings, and hosts that it may speak to in plain
/// text. `None` where it names none, and would use its own default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Berry {
    pub publish_registry: Option<String>,
    pub plain_hosts: Vec<String>,
}

impl Berry {
    /// Reads `.yarnrc.yml` of the project's folders and of the user, and the environment over them.
    #[must_use]
    pub fn read() -> Self {
        let files = files(".yarnrc.yml");
        let texts: Vec<String> = files.iter().filter_map(|file| read(file)).collect();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let setting = |key: &str, name: &str| {
            variable(name).or_else(|| texts.iter().find_map(|text| top(text, key)))
        };
        Self {
            publish_registry: setting("npmPublishRegistry", "YARN_NPM_PUBLISH_REGISTRY")
                .or_else(|| setting("npmRegistryServer", "YARN_NPM_REGISTRY_SERVER")),
            plain_hosts: texts
                .iter()
                .flat_map(|text| list(text, "unsafeHttpWhitelist"))
                .collect(),
        }
    }

    /// The variables that keep a publish with the registry that berry itself is set to, while its
    /// reads are pointed elsewhere. Its token, which stands there for no registry in particular, then
    /// goes where it always goes.
    #[must_use]
    pub fn environment(&self, larder: &str) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(registry) = &self.publish_registry {
            variables.push(("YARN_NPM_PUBLISH_REGISTRY", registry.clone()));
        }
        let mut hosts = vec![larder.to_owned()];
        hosts.extend(self.plain_hosts.iter().cloned());
        variables.push(("YARN_UNSAFE_HTTP_WHITELIST", hosts.join(",")));
        variables
    }
}

/// Whether classic has a registry of its own, beside npm's.
#[must_use]
pub fn classic_has_its_own() -> bool {
    let is_set = |text: &str| {
        text.lines().any(|line| {
            line.trim_start()
                .trim_start_matches('"')
                .starts_with("registry")
        })
    };
    files(".yarnrc")
        .iter()
        .filter_map(|file| read(file))
        .any(|text| is_set(&text))
}

/// The text of `.yarnrc.yml` with Larder as the registry.
#[must_use]
pub fn logged_in(text: &str, login: &ClientLogin) -> String {
    const PLAIN_HOSTS: &str = "unsafeHttpWhitelist";
    let mut values = vec![(
        "npmRegistryServer",
        format!("\"{}\"", login.place.of(Format::Npm).trim_end_matches('/')),
    )];
    if let Some(token) = &login.token {
        values.push(("npmAuthToken", format!("\"{}\"", token.expose())));
        values.push(("npmAlwaysAuth", "true".to_owned()));
    }
    if let Some(ca) = &login.ca {
        values.push(("httpsCaFilePath", format!("\"{}\"", ca.display())));
    }
    let is_key =
        |line: &str, key: &str| line.strip_prefix(key).is_some_and(|it| it.starts_with(':'));
    let is_replaced = |line: &str| {
        values.iter().any(|(key, _)| is_key(line, key))
            || is_key(line, PLAIN_HOSTS) && line.contains("larder")
    };
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !is_replaced(line))
        .map(str::to_owned)
        .collect();
    lines.extend(values.iter().map(|(key, value)| format!("{key}: {value}")));
    let is_listed = lines.iter().any(|line| is_key(line, PLAIN_HOSTS));
    if login.place.root.starts_with("http:") && !is_listed {
        lines.push(format!(
            "{PLAIN_HOSTS}: [\"{}\"] # larder",
            login.place.host()
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A settings file in this folder, those above, and the user's; the nearest first.
fn files(name: &str) -> Vec<PathBuf> {
    let here = std::env::current_dir().ok();
    here.iter()
        .flat_map(|folder| folder.ancestors())
        .map(|folder| folder.join(name))
        .chain(home().map(|home| home.join(name)))
        .collect()
}

/// A key at the top of a YAML document. A value with a variable that is not set is none.
fn top(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let rest = line.strip_prefix(key).or_else(|| {
            let quoted = line.strip_prefix(['"', '\''])?;
            quoted.strip_prefix(key)?.strip_prefix(['"', '\''])
        })?;
        rest.trim_start().strip_prefix(':')
    })?;
    let value = scalar(value);
    let value = expand(&value)?;
    (!value.is_empty()).then_some(value)
}

/// A scalar without its quotes or the comment behind it.
fn scalar(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            return inner.split(quote).next().unwrap_or_default().to_owned();
        }
    }
    text.split(" #")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// `${NAME}`, `${NAME-otherwise}` and `${NAME:-otherwise}`.
fn expand(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut left = text;
    while let Some((before, rest)) = left.split_once("${") {
        out.push_str(before);
        let (name, after) = rest.split_once('}')?;
        let (name, otherwise) = match name.split_once('-') {
            Some((name, otherwise)) => (name.trim_end_matches(':'), Some(otherwise.to_owned())),
            None => (name, None),
        };
        out.push_str(&std::env::var(name).ok().or(otherwise)?);
        left = after;
    }
    out.push_str(left);
    Some(out)
}

/// A list at the top of a YAML document, on one line or on several.
fn list(text: &str, key: &str) -> Vec<String> {
    let mut lines = text.lines();
    let first = lines.find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
    let Some(first) = first else {
        return Vec::new();
    };
    let inline = first.trim();
    if let Some(inner) = inline.strip_prefix('[') {
        let inner = inner.split(']').next().unwrap_or_default();
        return inner
            .split(',')
            .map(scalar)
            .filter(|item| !item.is_empty())
            .collect();
    }
    lines
        .map_while(|line| Some(scalar(line.trim_start().strip_prefix("- ")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn berrys_settings_are_read_at_the_top_alone() {
        let text = "npmScopes:\n  acme:\n    npmRegistryServer: \"https://scope.example\"\n\
                    npmRegistryServer: 'https://team.example/npm' # ours\n\
                    \"npmPublishRegistry\": https://${LARDER_NO_SUCH:-push.example}/\n\
                    unsafeHttpWhitelist:\n  - a.example\n  - \"b.example\"\nx: 1\n";
        assert_eq!(
            top(text, "npmRegistryServer").as_deref(),
            Some("https://team.example/npm")
        );
        assert_eq!(
            top(text, "npmPublishRegistry").as_deref(),
            Some("https://push.example/")
        );
        assert_eq!(
            list(text, "unsafeHttpWhitelist"),
            ["a.example", "b.example"]
        );
        assert_eq!(list("l: [a, \"b\"]\n", "l"), ["a", "b"]);
        assert_eq!(
            top("npmRegistryServerOther: x\n", "npmRegistryServer"),
            None
        );
        assert_eq!(top("k: https://${LARDER_NO_SUCH}/\n", "k"), None);
    }
}
