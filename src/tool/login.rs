//! Writing Larder into a client's own settings. What else stands in them stays.

use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{LarderAddress, home, ini, maven, npm, nuget, pip, write, write_secret, yarn};
use crate::format::plain;
use crate::package::Format;
use crate::secret::Secret;

/// The user that stands beside a token, where a client wants one. Larder reads the token alone.
pub const USER: &str = "token";

/// A client that can be pointed at Larder for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Client {
    Npm,
    Pnpm,
    Yarn,
    Pip,
    Uv,
    Twine,
    Maven,
    Gradle,
    Nuget,
}

impl Client {
    #[must_use]
    pub fn format(self) -> Format {
        match self {
            Self::Npm | Self::Pnpm | Self::Yarn => Format::Npm,
            Self::Pip | Self::Uv | Self::Twine => Format::Pypi,
            Self::Maven | Self::Gradle => Format::Maven,
            Self::Nuget => Format::Nuget,
        }
    }

    /// What has to be done by hand for the client to trust a certificate authority, where it has no
    /// setting for one.
    #[must_use]
    pub fn trust_by_hand(self, ca: &Path) -> Option<String> {
        let ca = ca.display();
        match self {
            Self::Npm | Self::Pnpm | Self::Yarn | Self::Pip | Self::Twine => None,
            Self::Uv => Some(format!(
                "uv has no setting for a certificate authority. Set SSL_CERT_FILE={ca} where it runs."
            )),
            Self::Maven | Self::Gradle => Some(format!(
                "Maven and Gradle trust what their Java trusts. Have it trust Larder's: keytool -importcert -cacerts -storepass changeit -noprompt -alias larder -file {ca}"
            )),
            Self::Nuget => Some(format!(
                "dotnet and nuget trust what the system trusts. Add {ca} to its authorities, or set SSL_CERT_FILE={ca} where they run."
            )),
        }
    }
}

/// What a client is told at a login.
#[derive(Clone, Debug)]
pub struct ClientLogin {
    pub place: LarderAddress,
    pub token: Option<Secret>,
    /// Certificates of the authority that issued Larder's, in PEM; an absolute path.
    pub ca: Option<PathBuf>,
}

impl ClientLogin {
    /// An address of Larder's with the token as its user's password.
    #[must_use]
    pub fn with_token(&self, address: String) -> String {
        let Some(token) = &self.token else {
            return address;
        };
        let token = utf8_percent_encode(token.expose(), TOKEN_IN_ADDRESS);
        match address.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://{USER}:{token}@{rest}"),
            None => address,
        }
    }

    /// Writes a client's settings; those of a token for their owner alone.
    pub(super) fn write(&self, file: &Path, text: &str) -> std::io::Result<()> {
        if self.token.is_some() {
            write_secret(file, text)
        } else {
            write(file, text)
        }
    }
}

/// Unreserved characters stay (RFC 3986 §2.3).
const TOKEN_IN_ADDRESS: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Writes Larder into the client's own settings, and gives the files. `upstream` is the registry
/// whose place Gradle gives to Larder, beside Maven Central.
///
/// # Errors
/// Where a file cannot be written.
pub fn log_in(
    client: Client,
    login: &ClientLogin,
    upstream: Option<&str>,
) -> std::io::Result<Vec<PathBuf>> {
    let home = home().ok_or_else(|| {
        std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "this user has no home directory",
        )
    })?;
    let changed = |file: PathBuf, change: Change<'_>| {
        change_file(&file, login, change).map_err(|error| {
            let message = format!("{} cannot be changed: {error}", file.display());
            std::io::Error::new(error.kind(), message)
        })?;
        Ok::<_, std::io::Error>(file)
    };
    Ok(match client {
        Client::Npm | Client::Pnpm => vec![changed(home.join(".npmrc"), &npm::logged_in)?],
        // Classic reads .npmrc, berry a file of its own.
        Client::Yarn => vec![
            changed(home.join(".npmrc"), &npm::logged_in)?,
            changed(home.join(".yarnrc.yml"), &yarn::logged_in)?,
        ],
        Client::Pip => vec![changed(home.join(".config/pip/pip.conf"), &pip::logged_in)?],
        Client::Uv => vec![changed(home.join(".config/uv/uv.toml"), &|text, login| {
            let index = format!("\"{}\"", login.with_token(login.place.simple()));
            ini::set(text, None, "index-url", &index)
        })?],
        Client::Twine => vec![changed(home.join(".pypirc"), &pip::twine_logged_in)?],
        Client::Maven => vec![changed(home.join(".m2/settings.xml"), &maven::logged_in)?],
        Client::Gradle => vec![changed(
            home.join(".gradle/init.d/larder.gradle"),
            &|_, login| maven::gradle_script(&login.place, login.token.as_ref(), upstream),
        )?],
        Client::Nuget => vec![changed(nuget::user_file(&home), &nuget::logged_in)?],
    })
}

/// What a login makes of the text of a settings file.
type Change<'a> = &'a dyn Fn(&str, &ClientLogin) -> String;

#[allow(clippy::disallowed_methods, reason = "clients' settings are files")]
fn change_file(file: &Path, login: &ClientLogin, change: Change<'_>) -> std::io::Result<()> {
    // What cannot be read is not lost for that: only a file that is not there is an empty one.
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(std::io::Error::new(error.kind(), plain::io(&error))),
    };
    // Editors of Windows put a mark before the text; it stays there.
    let (mark, text) = match text.strip_prefix(MARK) {
        Some(text) => (MARK, text),
        None => ("", text.as_str()),
    };
    let changed = change(text, login);
    let root = login.place.root.as_str();
    let address = root.split_once("://").map_or(root, |(_, address)| address);
    if !changed.contains(address) {
        return Err(std::io::Error::other("its text cannot be read"));
    }
    login.write(file, &format!("{mark}{changed}"))
}

/// The byte order mark of UTF-8.
const MARK: &str = "\u{feff}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::read;

    fn login(token: Option<&str>) -> ClientLogin {
        ClientLogin {
            place: LarderAddress {
                root: "https://l.example".to_owned(),
                repository: "team".to_owned(),
            },
            token: token.map(Secret::new),
            ca: Some(PathBuf::from("/etc/ca.pem")),
        }
    }

    #[test]
    fn a_file_keeps_its_byte_order_mark_and_what_cannot_be_read_is_left_as_it_is() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("settings.xml");
        let change = |text: &str| {
            write(&file, text).unwrap();
            let changed = change_file(&file, &login(None), &maven::logged_in);
            (changed.is_ok(), read(&file).unwrap())
        };
        let (is_changed, text) = change("\u{feff}<settings>\n</settings>");
        assert!(
            is_changed && text.starts_with("\u{feff}<settings>"),
            "{text}"
        );
        assert!(text.contains("https://l.example/maven/team/"), "{text}");
        assert_eq!(change("<settings><"), (false, "<settings><".to_owned()));
        let latin = b"<!-- caf\xe9 --><settings></settings>";
        std::fs::write(&file, latin).unwrap();
        let refused = change_file(&file, &login(None), &maven::logged_in).unwrap_err();
        assert_eq!(refused.to_string(), "it is not text in UTF-8");
        assert_eq!(std::fs::read(&file).unwrap(), latin);
    }

    #[test]
    fn a_link_stays_a_link_to_the_file_that_is_changed() {
        let folder = tempfile::TempDir::new().unwrap();
        let (link, file) = (folder.path().join(".npmrc"), folder.path().join("npmrc"));
        std::os::unix::fs::symlink("npmrc", &link).unwrap();
        for before in ["", "save-exact=true\n"] {
            if !before.is_empty() {
                write(&file, before).unwrap();
            }
            change_file(&link, &login(None), &npm::logged_in).unwrap();
            assert!(link.is_symlink());
            let text = read(&file).unwrap();
            assert!(
                text.starts_with(before) && text.contains("l.example"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_token_is_the_password_in_an_address() {
        for (token, expected) in [
            (None, "https://l.example/pypi/team/simple/"),
            (
                Some("larder_a-b.c"),
                "https://token:larder_a-b.c@l.example/pypi/team/simple/",
            ),
            (
                Some("a/b@c"),
                "https://token:a%2Fb%40c@l.example/pypi/team/simple/",
            ),
        ] {
            let login = login(token);
            assert_eq!(login.with_token(login.place.simple()), expected);
        }
    }
}
