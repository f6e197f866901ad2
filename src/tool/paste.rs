//! Lines for colleagues who have no Larder program: they point a client at Larder by the client's
//! own means. No token is in them.

use std::path::Path;

use super::login::{Client, ClientLogin, USER};
use super::{maven, pip, yarn};
use crate::package::Format;
use crate::secret::Secret;

/// The files that the lines read: the colleague's token, and the certificate authority.
const TOKEN_FILE: &str = "larder.token";
const CA_FILE: &str = "larder-ca.pem";

/// Stands for the folder where a line cannot name it.
const FOLDER: &str = "/path/to";

/// The word that stands for a token where a line cannot read it from a file.
const TOKEN: &str = "TOKEN";

/// The lines for one client. The login's token is the word [`TOKEN`], or none where nobody needs one.
#[must_use]
pub fn lines(client: Client, login: &ClientLogin) -> Vec<String> {
    let (title, mut lines) = match client {
        Client::Npm | Client::Pnpm => ("npm, pnpm and yarn classic", npm(login)),
        Client::Yarn => (
            "yarn berry: put into ~/.yarnrc.yml",
            file(&yarn::logged_in("", login)),
        ),
        Client::Pip => ("pip", python(login)),
        Client::Uv => (
            "uv: put into ~/.config/uv/uv.toml",
            vec![format!(
                "index-url = \"{}\"",
                login.with_token(login.place.simple())
            )],
        ),
        Client::Twine => (
            "twine: put into ~/.pypirc",
            file(&pip::twine_logged_in("", login)),
        ),
        Client::Maven => (
            "Maven: put into ~/.m2/settings.xml",
            file(&maven::logged_in("", login)),
        ),
        Client::Gradle => (
            "Gradle: put into ~/.gradle/init.d/larder.gradle",
            file(&maven::gradle_script(
                &login.place,
                login.token.as_ref(),
                None,
            )),
        ),
        Client::Nuget => ("dotnet", dotnet(login)),
    };
    lines.insert(0, format!("# {title}"));
    let by_hand = login.ca.as_deref().and_then(|ca| client.trust_by_hand(ca));
    lines.extend(by_hand.map(|line| format!("# {line}")));
    lines
}

/// The files that have to be there before the lines are pasted; none where they need nothing.
#[must_use]
pub fn preparation(login: &ClientLogin) -> Option<String> {
    let ca = format!(
        "the certificate authority of {} as {CA_FILE}",
        login.place.root
    );
    let (files, words) = match (&login.token, &login.ca) {
        (None, None) => return None,
        (Some(_), None) => (
            format!("your token as {TOKEN_FILE}"),
            format!("it where {TOKEN} stands"),
        ),
        (None, Some(_)) => (ca, format!("its folder where {FOLDER} stands")),
        (Some(_), Some(_)) => (
            format!("your token as {TOKEN_FILE}, and {ca}"),
            format!("them where {TOKEN} and {FOLDER} stand"),
        ),
    };
    Some(format!(
        "# First save, in this folder, {files}. Put {words} by hand."
    ))
}

fn file(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// The address with a user whose password a shell reads from the token's file.
fn with_token_file(login: &ClientLogin, address: &str) -> String {
    match (&login.token, address.split_once("://")) {
        (Some(_), Some((scheme, rest))) => {
            format!("{scheme}://{USER}:$(cat {TOKEN_FILE})@{rest}")
        }
        _ => address.to_owned(),
    }
}

fn npm(login: &ClientLogin) -> Vec<String> {
    let registry = login.place.of(Format::Npm);
    let nerf = registry.split_once(':').map_or("", |(_, nerf)| nerf);
    let mut lines = vec![format!("npm config set registry {registry}")];
    if login.token.is_some() {
        lines.push(format!(
            "npm config set \"{nerf}:_authToken\" \"$(cat {TOKEN_FILE})\""
        ));
    }
    if login.ca.is_some() {
        lines.push(format!("npm config set cafile \"$PWD/{CA_FILE}\""));
    }
    lines
}

fn python(login: &ClientLogin) -> Vec<String> {
    let index = with_token_file(login, &login.place.simple());
    let mut lines = vec![format!("pip config set global.index-url \"{index}\"")];
    if login.place.is_plain() {
        lines.push(format!(
            "pip config set global.trusted-host {}",
            login.place.host()
        ));
    }
    if login.ca.is_some() {
        lines.push(format!("pip config set global.cert \"$PWD/{CA_FILE}\""));
    }
    lines
}

fn dotnet(login: &ClientLogin) -> Vec<String> {
    let mut line = format!(
        "dotnet nuget add source {} --name larder",
        login.place.service_index()
    );
    if login.token.is_some() {
        line.push_str(&format!(
            " --username {USER} --password \"$(cat {TOKEN_FILE})\" --store-password-in-clear-text"
        ));
    }
    if login.place.root.starts_with("http:") {
        line.push_str(" --allow-insecure-connections");
    }
    vec![line]
}

/// A login whose token and certificate authority a colleague fills in.
#[must_use]
pub fn for_a_colleague(login: &ClientLogin, needs_token: bool) -> ClientLogin {
    ClientLogin {
        token: needs_token.then(|| Secret::new(TOKEN)),
        ca: login.ca.as_ref().map(|_| Path::new(FOLDER).join(CA_FILE)),
        place: login.place.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::LarderAddress;

    fn login(root: &str) -> ClientLogin {
        ClientLogin {
            place: LarderAddress {
                root: root.to_owned(),
                repository: "team".to_owned(),
            },
            token: Some(Secret::new("adas-own")),
            ca: Some("/home/ada/ca.pem".into()),
        }
    }

    #[test]
    fn the_lines_for_a_colleague_have_no_token_and_no_folder_of_ours() {
        let login = for_a_colleague(&login("https://l.example"), true);
        for client in [
            Client::Npm,
            Client::Yarn,
            Client::Pip,
            Client::Uv,
            Client::Twine,
            Client::Maven,
            Client::Gradle,
            Client::Nuget,
        ] {
            let text = lines(client, &login).join("\n");
            assert!(
                text.contains("l.example/") && text.contains("/team"),
                "{text}"
            );
            let has_token = text.contains("$(cat larder.token)") || text.contains("TOKEN");
            assert!(has_token && text.contains("larder-ca.pem"), "{text}");
            assert!(
                !text.contains("adas-own") && !text.contains("/home/ada"),
                "{text}"
            );
        }
    }

    #[test]
    fn where_nobody_needs_a_token_no_line_speaks_of_one() {
        let open = ClientLogin {
            ca: None,
            ..login("http://l.example")
        };
        let open = for_a_colleague(&open, false);
        assert_eq!(preparation(&open), None);
        assert_eq!(
            lines(Client::Pip, &open),
            [
                "# pip",
                "pip config set global.index-url \"http://l.example/pypi/team/simple/\"",
                "pip config set global.trusted-host l.example",
            ]
        );
        assert_eq!(
            lines(Client::Nuget, &open)[1],
            "dotnet nuget add source http://l.example/nuget/team/v3/index.json --name larder --allow-insecure-connections"
        );
    }
}
