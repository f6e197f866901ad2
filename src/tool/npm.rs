//! npm and its kin: npm, pnpm, yarn (classic and berry), bun, deno.

use std::path::PathBuf;

use super::{Place, Upstream, command, home, ini, read};
use crate::airgap::lockfile;
use crate::airgap::platform::Platforms;
use crate::config::Auth;
use crate::package::Format;
use crate::secret::Secret;

/// The registry that npm is set to: by environment, by `.npmrc`, else npm's own default.
pub async fn learn() -> Option<Upstream> {
    let files: Vec<String> = npmrc_files().iter().filter_map(|file| read(file)).collect();
    let url = match std::env::var("npm_config_registry")
        .or_else(|_| std::env::var("NPM_CONFIG_REGISTRY"))
    {
        Ok(url) => Some(url),
        Err(_) => files
            .iter()
            .find_map(|text| ini::get(text, None, "registry")),
    };
    let url = match url {
        Some(url) => url,
        None => command::output("npm", &["config", "get", "registry"])
            .await?
            .trim()
            .to_owned(),
    };
    if !url.contains("://") {
        return None;
    }
    Some(Upstream {
        auth: files.iter().find_map(|text| auth(text, &url)),
        url,
    })
}

/// Project before user, as npm reads them.
fn npmrc_files() -> Vec<PathBuf> {
    [
        std::env::current_dir()
            .ok()
            .map(|folder| folder.join(".npmrc")),
        user_file(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn user_file() -> Option<PathBuf> {
    std::env::var_os("npm_config_userconfig")
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".npmrc")))
}

/// Credentials stand under the registry's address without its scheme, or a parent of it.
fn auth(text: &str, url: &str) -> Option<Auth> {
    let (_, nerf) = url.split_once(':')?;
    let below = |prefix: &str| {
        nerf.trim_end_matches('/')
            .starts_with(prefix.trim_end_matches('/'))
    };
    let find = |ending: &str| {
        ini::top(text).find_map(|(name, value)| {
            let prefix = name.strip_suffix(ending)?;
            (prefix.starts_with("//") && below(prefix)).then(|| expand(value))
        })
    };
    if let Some(token) = find(":_authToken") {
        return Some(Auth::bearer(&Secret::new(&token)));
    }
    find(":_auth").map(|pair| Auth::Header {
        name: "authorization".to_owned(),
        value: Secret::new(&format!("Basic {pair}")),
    })
}

/// `${NAME}` stands for a variable.
fn expand(value: &str) -> String {
    let Some(name) = value
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
    else {
        return value.to_owned();
    };
    std::env::var(name).unwrap_or_default()
}

/// Every client of the family reads one of these.
#[must_use]
pub fn environment(place: &Place) -> Vec<(&'static str, String)> {
    let registry = place.of(Format::Npm);
    vec![
        ("npm_config_registry", registry.clone()),
        ("NPM_CONFIG_REGISTRY", registry.clone()),
        ("pnpm_config_registry", registry.clone()),
        // npm then fetches from us what the packument says is upstream's, and its lockfile keeps
        // upstream's address.
        ("npm_config_replace_registry_host", "always".to_owned()),
        ("YARN_REGISTRY", registry.clone()),
        (
            "YARN_NPM_REGISTRY_SERVER",
            registry.trim_end_matches('/').to_owned(),
        ),
        ("YARN_UNSAFE_HTTP_WHITELIST", place.host()),
        ("BUN_CONFIG_REGISTRY", registry),
    ]
}

/// The user's own settings, with the credential that npm has for its registry as one for our
/// address too. A file, since shells drop variables that are named after addresses.
#[must_use]
pub fn settings_with(place: &Place, auth: &Auth) -> Option<String> {
    let Auth::Header { value, .. } = auth else {
        return None;
    };
    let registry = place.of(Format::Npm);
    let (_, nerf) = registry.split_once(':')?;
    let (key, value) = match value.expose().split_once(' ')? {
        ("Bearer", token) => ("_authToken", token),
        ("Basic", pair) => ("_auth", pair),
        _ => return None,
    };
    let own = user_file().and_then(|file| read(&file)).unwrap_or_default();
    Some(format!("{own}\n{nerf}:{key}={value}\n"))
}

/// What `npm ci` and `npm install` fetch by a lockfile.
pub const LOCKFILES: [&str; 2] = ["npm-shrinkwrap.json", "package-lock.json"];

/// The paths, below a repository of npm's, of the tarballs that a lockfile names and this machine
/// will ask for, where tarballs usually are.
#[must_use]
pub fn tarballs(text: &str) -> Vec<String> {
    let [_, name] = LOCKFILES;
    let Ok(needs) = lockfile::read(name, text, &Platforms::here()) else {
        return Vec::new();
    };
    let paths = needs.merged().wants.into_iter().filter_map(|want| {
        let (name, version) = (want.package.strip_prefix("npm:")?, want.version?);
        let bare = name.rsplit('/').next().unwrap_or(name);
        Some(format!("{name}/-/{bare}-{version}.tgz"))
    });
    paths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_belong_to_their_registry() {
        let text = "//npm.example/team/:_authToken=secret\n//other.example/:_authToken=no\n";
        let found = auth(text, "https://npm.example/team/");
        assert_eq!(found, Some(Auth::bearer(&Secret::new("secret"))));
        assert_eq!(auth(text, "https://npm.example/"), None);
    }

    #[test]
    fn a_lockfile_names_the_tarballs_that_this_machine_will_ask_for() {
        let text = r#"{"lockfileVersion":3,"packages":{
            "":{"name":"app","version":"1.0.0"},
            "packages/own":{"version":"1.0.0"},
            "node_modules/own":{"resolved":"packages/own","link":true},
            "node_modules/a":{"version":"1.0.0","resolved":"https://npm.example/up/a/-/a-1.0.0.tgz"},
            "node_modules/b/node_modules/a":{"version":"1.0.0","resolved":"https://npm.example/up/a/-/a-1.0.0.tgz"},
            "node_modules/@s/c":{"version":"2.0.0"},
            "node_modules/alias":{"name":"real","version":"3.0.0"},
            "node_modules/git":{"version":"1.0.0","resolved":"git+ssh://git@code.example/g.git#0f"},
            "node_modules/bundled":{"version":"1.0.0","inBundle":true},
            "node_modules/other":{"version":"1.0.0","os":["aix"],"optional":true},
            "node_modules/most":{"version":"1.0.0","os":["!aix"]}}}"#;
        assert_eq!(
            tarballs(text),
            [
                "@s/c/-/c-2.0.0.tgz",
                "a/-/a-1.0.0.tgz",
                "most/-/most-1.0.0.tgz",
                "real/-/real-3.0.0.tgz"
            ]
        );
        assert!(tarballs("{").is_empty());
    }
}
