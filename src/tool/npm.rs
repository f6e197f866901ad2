//! npm and its kin: npm, pnpm, yarn (classic and berry), bun, deno.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::login::ClientLogin;
use super::{ClientUpstream, LarderAddress, OwnAddresses, command, home, ini, read};
use crate::airgap::lockfile;
use crate::airgap::platform::Platforms;
use crate::config::{Auth, CredentialScope};
use crate::format::path;
use crate::package::Format;
use crate::secret::Secret;

/// The registry that npm is set to: by environment, by `.npmrc`, else npm's own default.
pub async fn learn(own: &OwnAddresses) -> Option<ClientUpstream> {
    let settings = Settings::read();
    let leaves_out = |url: &String| own.leaves_out(Format::Npm, url);
    let named = settings.registries();
    let is_left_out = named.iter().any(leaves_out);
    let url = named.into_iter().find(|url| !leaves_out(url));
    let url = match url {
        Some(url) => url,
        None if is_left_out => default().await.filter(|url| !leaves_out(url))?,
        None => {
            let url = command::output("npm", &["config", "get", "registry"]).await?;
            let url = url.trim().to_owned();
            if leaves_out(&url) {
                default().await.filter(|url| !leaves_out(url))?
            } else {
                url
            }
        }
    };
    if !url.contains("://") {
        return None;
    }
    Some(ClientUpstream {
        auth: settings.auth(&url),
        url,
    })
}

/// The registry that npm is set to where neither environment nor user nor project says anything.
async fn default() -> Option<String> {
    let url = command::output_without(
        "npm",
        &["config", "get", "registry"],
        &["npm_config_"],
        &[("npm_config_userconfig", "/dev/null")],
    )
    .await?;
    Some(url.trim().to_owned())
}

/// A setting of npm's in the environment, whose names have no case there.
fn variable(key: &str) -> Option<String> {
    std::env::vars().find_map(|(name, value)| {
        let own = name.to_lowercase();
        let own = own.strip_prefix("npm_config_")?;
        (own == key && !value.is_empty()).then_some(value)
    })
}

/// npm's settings: its files, with the environment over them.
struct Settings {
    /// The nearest first, as npm reads them.
    layers: Vec<Vec<(String, String)>>,
}

impl Settings {
    fn read() -> Self {
        let environment = std::env::vars().filter_map(|(name, value)| {
            // Keys that are addresses keep their case; the others have none.
            let (prefix, key) = name.split_at_checked("npm_config_".len())?;
            if !prefix.eq_ignore_ascii_case("npm_config_") {
                return None;
            }
            let key = if key.starts_with("//") {
                key.to_owned()
            } else {
                key.to_lowercase()
            };
            (!value.is_empty()).then_some((key, value))
        });
        let mut layers = vec![environment.collect()];
        layers.extend(
            files()
                .iter()
                .filter_map(|file| read(file))
                .map(|text| layer(&text)),
        );
        Self { layers }
    }

    /// All that `registry` is set to, the nearest first.
    fn registries(&self) -> Vec<String> {
        self.layers
            .iter()
            .filter_map(|layer| {
                let mut found = layer.iter().filter(|(key, _)| key == "registry");
                found.next_back().map(|(_, value)| value.clone())
            })
            .collect()
    }

    /// The credential for an address: of the keys that cover it, the one with the longest path.
    fn auth(&self, url: &str) -> Option<Auth> {
        let url = Url::parse(url).ok()?;
        let mut found: Vec<(CredentialScope, Words)> = Vec::new();
        for (key, value) in self.layers.iter().flatten() {
            let Some((scope, word)) = credential_key(key) else {
                continue;
            };
            // A variable that is not set leaves no credential.
            if !scope.covers(&url) || value.is_empty() || value.contains("${") {
                continue;
            }
            let at = found.iter().position(|(own, _)| *own == scope);
            let words = match at {
                Some(at) => found.get_mut(at).map(|(_, words)| words),
                None => {
                    found.push((scope, Words::default()));
                    found.last_mut().map(|(_, words)| words)
                }
            };
            if let Some(words) = words {
                words.set(word, value);
            }
        }
        found
            .iter()
            .filter_map(|(scope, words)| Some((scope.depth(), words.auth()?)))
            .max_by_key(|(depth, _)| *depth)
            .map(|(_, auth)| auth)
    }
}

/// A file's keys and values, with their variables.
fn layer(text: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for (name, value) in ini::top(text) {
        let (name, value) = (expand(name), expand(value));
        // Where one file sets a key twice, the last line counts.
        entries.retain(|(other, _)| *other != name);
        entries.push((name, value));
    }
    entries
}

/// `//host/path/:_authToken` and its kin.
fn credential_key(key: &str) -> Option<(CredentialScope, &'static str)> {
    const WORDS: [&str; 4] = ["_authToken", "_auth", "username", "_password"];
    let (nerf, word) = key.rsplit_once(':')?;
    let word = WORDS.into_iter().find(|own| *own == word)?;
    Some((CredentialScope::of_nerf_dart(nerf)?, word))
}

/// The settings under one address. The nearest file is read first, and holds.
#[derive(Default)]
struct Words {
    token: Option<String>,
    pair: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Words {
    fn set(&mut self, word: &str, value: &str) {
        let place = match word {
            "_authToken" => &mut self.token,
            "_auth" => &mut self.pair,
            "username" => &mut self.username,
            _ => &mut self.password,
        };
        place.get_or_insert_with(|| value.to_owned());
    }

    /// In npm's order.
    fn auth(&self) -> Option<Auth> {
        if let Some(token) = &self.token {
            return Some(Auth::bearer(&Secret::new(token)));
        }
        if let Some(pair) = &self.pair {
            return Some(Auth::Header {
                name: "authorization".to_owned(),
                value: Secret::new(&format!("Basic {pair}")),
            });
        }
        let (username, password) = (self.username.as_ref()?, self.password.as_ref()?);
        let password = STANDARD.decode(password).ok()?;
        let password = String::from_utf8_lossy(&password).into_owned();
        Some(Auth::basic(username, &Secret::new(&password)))
    }
}

/// Project before user before machine, as npm reads them.
fn files() -> Vec<PathBuf> {
    let global = variable("globalconfig").map(PathBuf::from);
    [project_file(), user_file(), global]
        .into_iter()
        .flatten()
        .collect()
}

/// npm's project is the nearest folder above that has a package or its modules.
fn project_file() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let project = here.ancestors().find(|folder| {
        folder.join("package.json").is_file() || folder.join("node_modules").is_dir()
    });
    Some(project.unwrap_or(&here).join(".npmrc"))
}

fn user_file() -> Option<PathBuf> {
    variable("userconfig")
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".npmrc")))
}

/// `${NAME}` stands for a variable anywhere in a text, `${NAME?}` for nothing where it is not set; a
/// variable that is not set, and one behind a backslash, stay as they are.
fn expand(text: &str) -> String {
    super::fill_in(text, &|before, name| match name.strip_suffix('?') {
        _ if before.ends_with('\\') => None,
        Some(name) => Some(std::env::var(name).unwrap_or_default()),
        None => std::env::var(name).ok(),
    })
}

/// Every client of the family reads one of these.
#[must_use]
pub fn environment(place: &LarderAddress) -> Vec<(&'static str, String)> {
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

/// The text of `.npmrc` with Larder as the registry.
#[must_use]
pub fn logged_in(text: &str, login: &ClientLogin) -> String {
    let registry = login.place.of(Format::Npm);
    let mut text = ini::set(text, None, "registry", &registry);
    if let Some(token) = &login.token
        && let Some((_, nerf)) = registry.split_once(':')
    {
        text = ini::set(&text, None, &format!("{nerf}:_authToken"), token.expose());
    }
    if let Some(ca) = &login.ca {
        text = ini::set(&text, None, "cafile", &ca.display().to_string());
    }
    text
}

/// The user's own settings, with the credential that npm has for its registry as one for our
/// address too. A file, since shells drop variables that are named after addresses.
#[must_use]
pub fn settings_with(place: &LarderAddress, auth: &Auth) -> Option<String> {
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

/// The beginnings of the `User-Agent`s of clients that publish to the registry that npm is set to:
/// npm, and those of its kin that have no setting of their own here. bun and berry are never among
/// them: what they are set to, and which credential they have for it, they alone know.
#[must_use]
pub fn publishers(program: &str) -> Vec<String> {
    let mut clients = Vec::new();
    // pnpm leaves publishing to npm, under npm's name.
    if program == "npm" || !pnpm_has_its_own() {
        clients.extend(["npm/".to_owned(), "pnpm/".to_owned()]);
    }
    // Its own default is another registry than npm's.
    if !Settings::read().registries().is_empty() && !super::yarn::classic_has_its_own() {
        clients.push("yarn/1.".to_owned());
    }
    clients
}

/// Whether pnpm may be set to another registry than npm: by its own files, or by a workspace's
/// `.npmrc` above the package's.
fn pnpm_has_its_own() -> bool {
    let here = std::env::current_dir().ok();
    let above = || here.iter().flat_map(|folder| folder.ancestors());
    let names_one = |file: PathBuf| {
        read(&file).is_some_and(|text| {
            text.lines()
                .any(|line| line.trim_start_matches(['"', '\'']).starts_with("registr"))
        })
    };
    let project = project_file();
    let user = user_file();
    let is_read_by_npm =
        |file: &PathBuf| Some(file) == project.as_ref() || Some(file) == user.as_ref();
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".config")));
    std::env::var_os("pnpm_config_registry").is_some()
        || config.is_some_and(|folder| names_one(folder.join("pnpm/rc")))
        || above().any(|folder| names_one(folder.join("pnpm-workspace.yaml")))
        || above()
            .map(|folder| folder.join(".npmrc"))
            .any(|file| !is_read_by_npm(&file) && names_one(file))
}

/// The lockfiles that `npm ci` and `npm install` fetch by; npm reads the first that exists.
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
        let bare = path::last_segment(name);
        Some(format!("{name}/-/{bare}-{version}.tgz"))
    });
    paths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(layers: &[&str], url: &str) -> Option<Auth> {
        let layers = layers.iter().map(|text| layer(text)).collect();
        Settings { layers }.auth(url)
    }

    #[test]
    fn credentials_belong_to_their_registry() {
        let text = "//npm.example/team/:_authToken=secret\n//other.example/:_authToken=no\n";
        let secret = Some(Auth::bearer(&Secret::new("secret")));
        assert_eq!(auth(&[text], "https://npm.example/team/"), secret);
        assert_eq!(auth(&[text], "https://NPM.example:443/team"), secret);
        for other in [
            "https://npm.example/",
            "https://npm.example/teams/",
            "https://npm.example.evil.example/team/",
            "https://npm.example:8443/team/",
            "https://evil.example/npm.example/team/",
        ] {
            assert_eq!(auth(&[text], other), None, "{other}");
        }
    }

    #[test]
    fn a_checkouts_file_gets_no_other_hosts_token() {
        let project = "registry=https://registry.corp.evil.example/\n";
        let user = "registry=https://registry.corp/\n//registry.corp/:_authToken=secret\n";
        let layers: Vec<_> = [project, user].iter().map(|text| layer(text)).collect();
        let settings = Settings { layers };
        let registry = settings.registries().remove(0);
        assert_eq!(registry, "https://registry.corp.evil.example/");
        assert_eq!(settings.auth(&registry), None);
    }

    #[test]
    fn of_several_credentials_the_nearest_key_holds() {
        let far = "//npm.example/:_authToken=host\n//npm.example/a/:_authToken=far\n";
        let near =
            "//npm.example/a:_authToken=near\n//npm.example/a/b/:_authToken=${LARDER_NO_SUCH}\n";
        let found = auth(&[near, far], "https://npm.example/a/b/");
        assert_eq!(found, Some(Auth::bearer(&Secret::new("near"))));
        let pair = "//npm.example/:username=j\n//npm.example/:_password=cEBzczp3\n";
        let found = auth(&[pair], "https://npm.example/");
        assert_eq!(found, Some(Auth::basic("j", &Secret::new("p@ss:w"))));
        let half = "//npm.example/:username=j\n";
        assert_eq!(auth(&[half], "https://npm.example/"), None);
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
