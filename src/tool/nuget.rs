//! nuget.exe and dotnet.

use std::path::PathBuf;

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

/// Writes us into the user's configuration as one more source.
///
/// # Errors
/// Where that cannot be written.
pub fn login(place: &LarderAddress) -> std::io::Result<PathBuf> {
    let home = home().ok_or(std::io::ErrorKind::NotFound)?;
    let file = [
        home.join(".config/NuGet/NuGet.Config"),
        home.join(".nuget/NuGet/NuGet.Config"),
    ]
    .into_iter()
    .find(|file| file.exists())
    .unwrap_or_else(|| home.join(".nuget/NuGet/NuGet.Config"));
    let own = read(&file).unwrap_or_default();
    super::write(&file, &with_source(&own, place))?;
    Ok(file)
}

fn with_source(text: &str, place: &LarderAddress) -> String {
    // An entry of an earlier login; names of sources have no case.
    let without = xml::remove(text, "configuration/packageSources/add", |entry| {
        entry
            .attribute("key")
            .is_some_and(|key| key.eq_ignore_ascii_case("larder"))
    });
    xml::insert_first(&without, "configuration", "packageSources", &add(place))
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

    #[test]
    fn login_adds_one_source_and_loses_none() {
        let place = LarderAddress {
            root: "http://127.0.0.1:1".to_owned(),
            repository: "public".to_owned(),
        };
        let twice = with_source(&with_source(CONFIG, &place), &place);
        assert_eq!(twice.matches("key=\"larder\"").count(), 1);
        assert!(twice.contains("corp feed") && twice.contains("ClearTextPassword"));
    }
}
