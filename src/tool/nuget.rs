//! nuget.exe and dotnet.

use std::path::{Path, PathBuf};

use super::login::{ClientLogin, USER};
use super::{ClientUpstream, LarderAddress, OwnAddresses, command, home, read, xml};
use crate::config::Auth;
use crate::package::Format;
use crate::secret::Secret;

/// Where the clients keep their configuration, the nearest first.
fn files() -> Vec<PathBuf> {
    let here = std::env::current_dir().ok();
    let up: Vec<PathBuf> = here
        .iter()
        .flat_map(|folder| folder.ancestors())
        .flat_map(|folder| {
            ["nuget.config", "NuGet.config", "NuGet.Config"].map(|name| folder.join(name))
        })
        .collect();
    let user = home().into_iter().flat_map(|home| {
        [
            home.join(".nuget/NuGet/NuGet.Config"),
            home.join(".config/NuGet/NuGet.Config"),
        ]
    });
    up.into_iter().chain(user).collect()
}

/// The first V3 source that NuGet is set to, with its credentials; else dotnet's own default.
pub async fn learn(own: &OwnAddresses) -> Option<ClientUpstream> {
    let is_taken = |url: &str| !own.leaves_out(Format::Nuget, url);
    if let Some(found) = files()
        .iter()
        .filter_map(|file| read(file))
        .flat_map(|text| sources(&text))
        .find(|source| is_taken(&source.url))
    {
        return Some(found);
    }
    let listed =
        command::output("dotnet", &["nuget", "list", "source", "--format", "Short"]).await?;
    listed
        .split_whitespace()
        .find(|word| word.starts_with("http") && word.ends_with("index.json") && is_taken(word))
        .map(|url| ClientUpstream {
            url: url.to_owned(),
            auth: None,
        })
}

/// The V3 sources of one file, each with the credentials that the same file has for its name: a file
/// of a checkout that gives a source another address gets no credentials of the user's.
fn sources(text: &str) -> Vec<ClientUpstream> {
    let elements = xml::elements(text);
    elements
        .iter()
        .filter(|element| element.path == "configuration/packageSources/add")
        .filter_map(|element| Some((element.attribute("key")?, element.attribute("value")?)))
        .filter(|(_, url)| url.starts_with("http") && url.ends_with("index.json"))
        .map(|(name, url)| ClientUpstream {
            url: url.to_owned(),
            auth: credentials(&elements, name),
        })
        .collect()
}

fn credentials(elements: &[xml::TextElement], name: &str) -> Option<Auth> {
    // Spaces in a source's name are written so where it is an element's name.
    let prefix = format!(
        "configuration/packageSourceCredentials/{}/add",
        name.replace(' ', "_x0020_")
    );
    let credential = |key: &str| {
        elements
            .iter()
            .filter(|element| element.path == prefix && element.attribute("key") == Some(key))
            .find_map(|element| element.attribute("value"))
    };
    let (username, password) = credential("Username").zip(credential("ClearTextPassword"))?;
    Some(Auth::basic(username, &Secret::new(password)))
}

/// A configuration with us as the only source.
#[must_use]
pub fn config(place: &LarderAddress) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<configuration>\n  <packageSources>\n    <clear />\n    {}\n  </packageSources>\n</configuration>\n",
        add(place)
    )
}

fn add(place: &LarderAddress) -> String {
    format!(
        "<add key=\"larder\" value=\"{}\" protocolVersion=\"3\" allowInsecureConnections=\"true\" />",
        place.service_index()
    )
}

/// The user's configuration, which exists or will.
#[must_use]
pub fn user_file(home: &Path) -> PathBuf {
    let usual = home.join(".nuget/NuGet/NuGet.Config");
    let of_mono = home.join(".config/NuGet/NuGet.Config");
    if of_mono.exists() { of_mono } else { usual }
}

/// The text of the user's configuration with Larder as one more source, and the token as its
/// password.
#[must_use]
pub fn logged_in(text: &str, login: &ClientLogin) -> String {
    const CREDENTIALS: &str = "packageSourceCredentials";
    // An entry of an earlier login; names of sources have no case.
    let without = xml::remove(text, "configuration/packageSources/add", |entry| {
        entry
            .attribute("key")
            .is_some_and(|key| key.eq_ignore_ascii_case("larder"))
    });
    // `<clear />` takes away every source that stands before it.
    let text = xml::insert_behind(
        &without,
        "configuration",
        "packageSources",
        "clear",
        &add(&login.place),
    );
    let Some(token) = &login.token else {
        return text;
    };
    let path = format!("configuration/{CREDENTIALS}/larder");
    let password = quick_xml::escape::escape(token.expose());
    xml::insert_behind(
        &xml::remove(&text, &path, |_| true),
        "configuration",
        CREDENTIALS,
        "clear",
        &format!(
            "<larder><add key=\"Username\" value=\"{USER}\" /><add key=\"ClearTextPassword\" value=\"{password}\" /></larder>"
        ),
    )
}

/// The variables that dotnet and MSBuild read; nuget.exe takes the address as an argument.
#[must_use]
pub fn environment(place: &LarderAddress) -> Vec<(&'static str, String)> {
    vec![("RestoreSources", place.service_index())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "<configuration><packageSources><add key=\"old\" value=\"https://n.example/api/v2\" /><add key=\"corp feed\" value=\"https://n.example/v3/index.json\" /></packageSources><packageSourceCredentials><corp_x0020_feed><add key=\"Username\" value=\"u\" /><add key=\"ClearTextPassword\" value=\"p\" /></corp_x0020_feed></packageSourceCredentials></configuration>";

    #[test]
    fn the_first_v3_source_is_learned_with_its_credentials() {
        assert_eq!(
            sources(CONFIG).first(),
            Some(&ClientUpstream {
                url: "https://n.example/v3/index.json".to_owned(),
                auth: Some(Auth::basic("u", &Secret::new("p"))),
            })
        );
    }

    fn login(token: Option<&str>) -> ClientLogin {
        ClientLogin {
            place: LarderAddress {
                root: "http://127.0.0.1:1".to_owned(),
                repository: "public".to_owned(),
            },
            token: token.map(Secret::new),
            ca: None,
        }
    }

    #[test]
    fn login_adds_one_source_and_loses_none() {
        let twice = logged_in(&logged_in(CONFIG, &login(None)), &login(None));
        assert_eq!(twice.matches("key=\"larder\"").count(), 1);
        assert!(twice.contains("corp feed") && twice.contains("ClearTextPassword"));
    }

    #[test]
    fn login_writes_its_source_where_no_clear_takes_it_away() {
        let old = CONFIG.replace("<packageSources>", "<packageSources>\n    <clear />\n    ");
        let written = logged_in(&logged_in(&old, &login(None)), &login(None));
        let at = |part: &str| written.find(part).unwrap();
        assert!(at("<clear />") < at("key=\"larder\""), "{written}");
        assert!(at("key=\"larder\"") < at("key=\"old\""), "{written}");
    }

    #[test]
    fn a_token_is_the_sources_password_once() {
        for old in ["", CONFIG] {
            let once = logged_in(old, &login(Some("t&t")));
            let twice = logged_in(&once, &login(Some("t&t")));
            assert_eq!(twice.matches("<larder>").count(), 1, "{twice}");
            let source = sources(&twice).into_iter().next().unwrap();
            assert_eq!(source.url, "http://127.0.0.1:1/nuget/public/v3/index.json");
            assert_eq!(source.auth, Some(Auth::basic(USER, &Secret::new("t&t"))));
            // A login without a token leaves the one that is there.
            assert!(logged_in(&twice, &login(None)).contains("<larder>"));
        }
    }
}
