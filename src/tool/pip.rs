//! pip and its kin: pip, uv, poetry, pdm, pipenv, twine.

use url::Url;

use super::login::{ClientLogin, USER};
use super::{ClientUpstream, LarderAddress, OwnAddresses, command, home, ini, read};
use crate::config::{Auth, CredentialScope};
use crate::package::Format;
use crate::secret::Secret;

/// The index that pip or uv is set to: by environment, by their files, else their own default.
pub async fn learn(own: &OwnAddresses) -> Option<ClientUpstream> {
    let is_taken = |url: &String| url.contains("://") && !own.leaves_out(Format::Pypi, url);
    let named = from_environment().into_iter().chain(from_uv());
    let url = match named.into_iter().find(is_taken) {
        Some(url) => url,
        None => from_pip(is_taken).await?,
    };
    Some(ClientUpstream {
        auth: from_netrc(&url),
        url,
    })
}

fn from_environment() -> Vec<String> {
    ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .filter(|url| !url.is_empty())
        .collect()
}

fn from_uv() -> Option<String> {
    let text = read(&home()?.join(".config/uv/uv.toml"))?;
    ini::get(&text, None, "index-url")
}

/// pip's merged configuration, then that of the machine; where they say nothing, the default that
/// pip's or uv's help prints.
async fn from_pip(is_taken: impl Fn(&String) -> bool) -> Option<String> {
    for program in ["pip", "pip3"] {
        let mut is_left_out = false;
        for level in [None, Some("--site"), Some("--global")] {
            for key in ["global.index-url", "install.index-url"] {
                let mut arguments = vec!["config"];
                arguments.extend(level);
                arguments.extend(["get", key]);
                let Some(url) = command::output(program, &arguments).await else {
                    continue;
                };
                let url = url.trim().to_owned();
                if is_taken(&url) {
                    return Some(url);
                }
                is_left_out = true;
            }
            // Where the merged configuration says nothing, no level does.
            if !is_left_out {
                break;
            }
        }
        // The help shows what is configured, unless there is no configuration.
        let help = command::output_without(
            program,
            &["install", "--help"],
            &["pip_"],
            &[("PIP_CONFIG_FILE", "/dev/null")],
        );
        if let Some(help) = help.await {
            return command::address_behind(&help, "--index-url").filter(&is_taken);
        }
    }
    let help = command::output_without("uv", &["pip", "install", "--help"], &["uv_"], &[]).await?;
    command::address_behind(&help, "--default-index").filter(is_taken)
}

/// The credential that `.netrc` has for an index. Its lines name hosts, without scheme and port, as
/// pip and uv read them.
fn from_netrc(url: &str) -> Option<Auth> {
    let url = Url::parse(url).ok()?;
    if !url.username().is_empty() {
        return None;
    }
    let file = std::env::var_os("NETRC").map(std::path::PathBuf::from);
    let file = file.or_else(|| Some(home()?.join(".netrc")))?;
    netrc(&read(&file)?, &url)
}

fn netrc(text: &str, url: &Url) -> Option<Auth> {
    let mut scope = None;
    let (mut login, mut password) = (None, None);
    let mut words = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace);
    let mut found = Vec::new();
    let mut finish =
        |scope: Option<CredentialScope>, login: Option<&str>, password: Option<&str>| {
            if let Some(scope) = scope
                && scope.covers(url)
                && let Some(password) = password
            {
                found.push(Auth::basic(
                    login.unwrap_or_default(),
                    &Secret::new(password),
                ));
            }
        };
    while let Some(word) = words.next() {
        match word {
            "machine" => {
                finish(scope.take(), login.take(), password.take());
                scope = words.next().and_then(CredentialScope::of_machine);
            }
            // It would hold for every host.
            "default" => finish(scope.take(), login.take(), password.take()),
            "login" => login = words.next(),
            "password" => password = words.next(),
            "account" => drop(words.next()),
            _ => {}
        }
    }
    finish(scope, login, password);
    found.into_iter().next()
}

/// The text of `pip.conf` with Larder as the index.
#[must_use]
pub fn logged_in(text: &str, login: &ClientLogin) -> String {
    const SECTION: Option<&str> = Some("global");
    let index = login.with_token(login.place.simple());
    let mut text = ini::set(text, SECTION, "index-url", &index);
    if login.place.is_plain() {
        let host = login.place.host();
        text = ini::listed(&text, "global", "trusted-host", &host, "");
    }
    if let Some(ca) = &login.ca {
        text = ini::set(&text, SECTION, "cert", &ca.display().to_string());
    }
    text
}

/// The text of `.pypirc` with Larder as the repository `larder`.
#[must_use]
pub fn twine_logged_in(text: &str, login: &ClientLogin) -> String {
    const SECTION: &str = "larder";
    let mut values = vec![("repository", login.place.of(Format::Pypi))];
    if let Some(token) = &login.token {
        values.push(("username", USER.to_owned()));
        values.push(("password", token.expose().to_owned()));
    }
    if let Some(ca) = &login.ca {
        values.push(("ca_cert", ca.display().to_string()));
    }
    // twine reads the sections that it is told of.
    let mut text = ini::listed(text, "distutils", "index-servers", SECTION, "pypi testpypi");
    for (key, value) in values.iter().rev() {
        text = ini::set(&text, Some(SECTION), key, value);
    }
    text
}

/// Every client of the family reads one of these.
#[must_use]
pub fn environment(place: &LarderAddress) -> Vec<(&'static str, String)> {
    let simple = place.simple();
    vec![
        ("PIP_INDEX_URL", simple.clone()),
        ("PIP_TRUSTED_HOST", place.host()),
        ("UV_DEFAULT_INDEX", simple.clone()),
        ("PDM_PYPI_URL", simple.clone()),
        ("PIPENV_PYPI_MIRROR", simple.clone()),
        // Read by the plugin poetry-plugin-pypi-mirror; poetry itself knows no mirror.
        ("POETRY_PYPI_MIRROR_URL", simple),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twine_is_told_of_its_section_and_of_no_other_less() {
        let login = ClientLogin {
            place: LarderAddress {
                root: "https://l.example".to_owned(),
                repository: "team".to_owned(),
            },
            token: Some(Secret::new("t")),
            ca: None,
        };
        let section =
            "[larder]\nrepository = https://l.example/pypi/team/\nusername = token\npassword = t\n";
        for (old, servers) in [
            ("", "[distutils]\nindex-servers = pypi testpypi larder\n"),
            (
                "[distutils]\nindex-servers =\n    corp\n    pypi\n[corp]\nusername = u\n",
                "[distutils]\nindex-servers = larder\n    corp\n    pypi\n[corp]\nusername = u\n",
            ),
            (
                "[distutils]\nindex-servers =\n    larder\n",
                "[distutils]\nindex-servers =\n    larder\n",
            ),
        ] {
            let once = twine_logged_in(old, &login);
            assert_eq!(once, format!("{servers}{section}"));
            assert_eq!(twine_logged_in(&once, &login), once);
        }
    }

    #[test]
    fn netrc_names_hosts_and_nothing_that_only_begins_like_one() {
        let text = "# machine pypi.example login no password no\n\
                    machine pypi.example login u password p\n\
                    machine other.example\n  login o\n  password q\ndefault login d password d\n";
        let found = |url: &str| netrc(text, &Url::parse(url).unwrap());
        let own = Some(Auth::basic("u", &Secret::new("p")));
        assert_eq!(found("https://pypi.example/simple/"), own);
        assert_eq!(found("https://PYPI.example:8443/simple/"), own);
        assert_eq!(found("https://pypi.example.evil.example/simple/"), None);
        assert_eq!(found("https://evil.example/pypi.example/"), None);
        let other = Some(Auth::basic("o", &Secret::new("q")));
        assert_eq!(found("https://other.example/simple/"), other);
    }
}
