//! nuget.exe and dotnet.

use std::path::PathBuf;

use super::{Place, Upstream, command, home, read, xml};
use crate::config::Auth;
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
pub async fn learn() -> Option<Upstream> {
    if let Some(found) = files()
        .iter()
        .filter_map(|file| read(file))
        .find_map(|text| source(&text))
    {
        return Some(found);
    }
    let listed =
        command::output("dotnet", &["nuget", "list", "source", "--format", "Short"]).await?;
    listed
        .split_whitespace()
        .find(|word| word.starts_with("http") && word.ends_with("index.json"))
        .map(|url| Upstream {
            url: url.to_owned(),
            auth: None,
        })
}

fn source(text: &str) -> Option<Upstream> {
    let elements = xml::elements(text);
    let (name, url) = elements
        .iter()
        .filter(|element| element.path == "configuration/packageSources/add")
        .filter_map(|element| Some((element.attribute("key")?, element.attribute("value")?)))
        .find(|(_, url)| url.starts_with("http") && url.ends_with("index.json"))?;
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
    let auth = credential("Username")
        .zip(credential("ClearTextPassword"))
        .map(|(username, password)| Auth::basic(username, &Secret::new(password)));
    Some(Upstream {
        url: url.to_owned(),
        auth,
    })
}

/// A configuration with us as the only source.
#[must_use]
pub fn config(place: &Place) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<configuration>\n  <packageSources>\n    <clear />\n    {}\n  </packageSources>\n</configuration>\n",
        add(place)
    )
}

fn add(place: &Place) -> String {
    format!(
        "<add key=\"larder\" value=\"{}\" protocolVersion=\"3\" allowInsecureConnections=\"true\" />",
        place.service_index()
    )
}

/// Writes us into the user's configuration as one more source.
///
/// # Errors
/// Where that cannot be written.
pub fn login(place: &Place) -> std::io::Result<PathBuf> {
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

fn with_source(text: &str, place: &Place) -> String {
    let without = match text.split_once("<add key=\"larder\"") {
        Some((before, after)) => {
            let after = after.split_once("/>").map_or(after, |(_, after)| after);
            format!("{}{after}", before.trim_end_matches([' ', '\n']))
        }
        None => text.to_owned(),
    };
    xml::insert_first(&without, "configuration", "packageSources", &add(place))
}

/// What dotnet and MSBuild read; nuget.exe takes the address as an argument.
#[must_use]
pub fn environment(place: &Place) -> Vec<(&'static str, String)> {
    vec![("RestoreSources", place.service_index())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "<configuration><packageSources><add key=\"old\" value=\"https://n.example/api/v2\" /><add key=\"corp feed\" value=\"https://n.example/v3/index.json\" /></packageSources><packageSourceCredentials><corp_x0020_feed><add key=\"Username\" value=\"u\" /><add key=\"ClearTextPassword\" value=\"p\" /></corp_x0020_feed></packageSourceCredentials></configuration>";

    #[test]
    fn the_first_v3_source_is_learned_with_its_credentials() {
        assert_eq!(
            source(CONFIG),
            Some(Upstream {
                url: "https://n.example/v3/index.json".to_owned(),
                auth: Some(Auth::basic("u", &Secret::new("p"))),
            })
        );
    }

    #[test]
    fn login_adds_one_source_and_loses_none() {
        let place = Place {
            root: "http://127.0.0.1:1".to_owned(),
            repository: "public".to_owned(),
        };
        let twice = with_source(&with_source(CONFIG, &place), &place);
        assert_eq!(twice.matches("key=\"larder\"").count(), 1);
        assert!(twice.contains("corp feed") && twice.contains("ClearTextPassword"));
    }
}
