//! Maven and Gradle.

use std::path::{Path, PathBuf};

use super::login::{ClientLogin, USER};
use super::{ClientUpstream, LarderAddress, OwnAddresses, home, read, xml};
use crate::airgap::maven::Binding;
use crate::config::Auth;
use crate::format::bounded;
use crate::package::Format;
use crate::secret::Secret;

/// A mirror in `settings.xml`.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    id: String,
    mirror_of: String,
    url: String,
}

fn user_settings() -> Option<PathBuf> {
    Some(home()?.join(".m2/settings.xml"))
}

/// The repository that Maven would ask for what has no other: a mirror of `central` in
/// `settings.xml`, with its server's credentials, else the one that Maven itself is delivered with.
#[allow(
    clippy::disallowed_methods,
    reason = "a command waits for it, and has no tasks"
)]
pub async fn learn(own: &OwnAddresses) -> Option<ClientUpstream> {
    let settings = user_settings()
        .and_then(|file| read(&file))
        .unwrap_or_default();
    let mirror = mirrors(&settings)
        .into_iter()
        .find(|mirror| mirror.takes_central() && !own.leaves_out(Format::Maven, &mirror.url));
    if let Some(mirror) = mirror {
        return Some(ClientUpstream {
            auth: server_auth(&settings, &mirror.id),
            url: mirror.url,
        });
    }
    let found = tokio::task::spawn_blocking(|| super_pom().or_else(installed_central))
        .await
        .ok()
        .flatten()?;
    (!own.leaves_out(Format::Maven, &found)).then_some(ClientUpstream {
        url: found,
        auth: None,
    })
}

impl Mirror {
    fn takes_central(&self) -> bool {
        let parts: Vec<&str> = self.mirror_of.split(',').map(str::trim).collect();
        !parts.contains(&"!central")
            && parts
                .iter()
                .any(|part| matches!(*part, "central" | "*" | "external:*"))
    }
}

fn mirrors(settings: &str) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    let (mut id, mut mirror_of, mut url) = (String::new(), String::new(), String::new());
    for element in xml::elements(settings) {
        match element.path.as_str() {
            "settings/mirrors/mirror/id" => id = expand(&element.text),
            "settings/mirrors/mirror/mirrorOf" => mirror_of = expand(&element.text),
            "settings/mirrors/mirror/url" => url = expand(&element.text),
            "settings/mirrors/mirror" => mirrors.push(Mirror {
                id: std::mem::take(&mut id),
                mirror_of: std::mem::take(&mut mirror_of),
                url: std::mem::take(&mut url),
            }),
            _ => {}
        }
    }
    mirrors
}

/// `${env.NAME}` is a variable's value; where it is not set, Maven leaves it as it is.
fn expand(text: &str) -> String {
    interpolate(text, &|name| std::env::var(name.strip_prefix("env.")?).ok())
}

/// The text with `${name}`, and `${name:-otherwise}`, in it replaced.
fn interpolate(text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> String {
    super::fill_in(text, &|_, name| match name.split_once(":-") {
        Some((key, otherwise)) => value_of(key).or_else(|| Some(otherwise.to_owned())),
        None => value_of(name),
    })
}

/// A server's user and password, or the header that it is reached with.
fn server_auth(settings: &str, id: &str) -> Option<Auth> {
    let (mut own, mut username, mut password) = (String::new(), String::new(), String::new());
    let (mut name, mut value) = (String::new(), String::new());
    let mut header = None;
    for element in xml::elements(settings) {
        let Some(below) = element.path.strip_prefix("settings/servers/server") else {
            continue;
        };
        let text = || expand(&element.text);
        match below {
            "/id" => own = text(),
            "/username" => username = text(),
            "/password" => password = text(),
            "/configuration/httpHeaders/property/name" => name = text(),
            "/configuration/httpHeaders/property/value" => value = text(),
            "/configuration/httpHeaders/property" => {
                header = Some((std::mem::take(&mut name), std::mem::take(&mut value)));
            }
            "" => {
                if own == id && !password.is_empty() {
                    return Some(Auth::basic(&username, &Secret::new(&password)));
                }
                if let Some((name, value)) = header.take().filter(|_| own == id) {
                    let value = Secret::new(&value);
                    return Some(Auth::Header { name, value });
                }
                (own, username, password) = (String::new(), String::new(), String::new());
            }
            _ => {}
        }
    }
    None
}

/// The repository `central` of Maven 4, whose super POM names none: it stands in the installation's
/// own settings, with the address in a file of properties beside them.
fn installed_central() -> Option<String> {
    let conf = maven_home()?.join("conf");
    let settings = read(&conf.join("settings.xml"))?;
    let properties = ["maven-system.properties", "maven.properties"]
        .into_iter()
        .find_map(|name| read(&conf.join(name)))
        .unwrap_or_default();
    central_of(&settings, &properties)
}

fn central_of(settings: &str, properties: &str) -> Option<String> {
    let (mut id, mut url) = (String::new(), String::new());
    for element in xml::elements(settings) {
        match element.path.as_str() {
            "settings/repositories/repository/id" => id = element.text,
            "settings/repositories/repository/url" => url = element.text,
            "settings/repositories/repository" if id == "central" => break,
            _ => {}
        }
    }
    let found = interpolate(&url, &|name| {
        let value = properties.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })?;
        Some(expand(&value))
    });
    let is_address = found.contains("://") && !found.contains("${");
    (is_address && id == "central").then_some(found)
}

/// The address in the POM that every POM inherits from, which stands in one of Maven's jars.
fn super_pom() -> Option<String> {
    let jar = jar("maven-model-builder")?;
    let pom = from_jar(&jar, "org/apache/maven/model/pom-4.0.0.xml")?;
    xml::elements(&pom)
        .into_iter()
        .find(|element| element.path == "project/repositories/repository/url")
        .map(|element| element.text)
}

/// The plugins that this machine's Maven runs without being told to, which stand in one of its
/// jars; none where it has no Maven. Blocks.
#[must_use]
pub fn bindings() -> Vec<Binding> {
    let Some(jar) = jar("maven-core-") else {
        return Vec::new();
    };
    [
        "META-INF/plexus/default-bindings.xml",
        "META-INF/plexus/components.xml",
    ]
    .into_iter()
    .filter_map(|name| from_jar(&jar, name))
    .flat_map(|text| bindings_in(&text))
    .collect()
}

fn bindings_in(text: &str) -> Vec<Binding> {
    let (mut bindings, mut plugins, mut hint) = (Vec::new(), Vec::new(), String::new());
    for element in xml::elements(text) {
        if element.path == "component-set/components/component" {
            let packaging = match hint.as_str() {
                // Lifecycles of their own, which every packaging has.
                "clean" | "site" | "default" => "",
                hint => hint,
            };
            bindings.extend(plugins.drain(..).map(|plugin| Binding {
                packaging: packaging.to_owned(),
                plugin,
            }));
            hint.clear();
        } else if element.path.ends_with("/role-hint") {
            hint = element.text;
        } else {
            // `group:artifact:version:goal`, several with commas.
            for goal in element.text.split(',') {
                let parts: Vec<&str> = goal.trim().split(':').collect();
                if let [group, artifact, version, _goal] = parts.as_slice() {
                    plugins.push(format!("{group}:{artifact}:{version}"));
                }
            }
        }
    }
    bindings
}

/// A jar of Maven's own, by what its name begins with.
fn jar(prefix: &str) -> Option<PathBuf> {
    let lib = maven_home()?.join("lib");
    #[allow(clippy::disallowed_methods, reason = "Maven's installation is files")]
    let mut entries = std::fs::read_dir(lib).ok()?.flatten();
    entries.find_map(|entry| {
        let path = entry.path();
        let name = path.file_name()?.to_str()?;
        (name.starts_with(prefix) && name.ends_with(".jar")).then(|| path.clone())
    })
}

#[allow(clippy::disallowed_methods, reason = "Maven's installation is files")]
fn from_jar(jar: &Path, name: &str) -> Option<String> {
    const POM_BYTES_MAX: u64 = 1024 * 1024;
    let mut archive = zip::ZipArchive::new(std::fs::File::open(jar).ok()?).ok()?;
    let text = bounded::read(archive.by_name(name).ok()?, POM_BYTES_MAX).ok()?;
    String::from_utf8(text).ok()
}

#[allow(clippy::disallowed_methods, reason = "Maven's installation is files")]
fn maven_home() -> Option<PathBuf> {
    let named = ["MAVEN_HOME", "M2_HOME"]
        .into_iter()
        .find_map(std::env::var_os);
    if let Some(named) = named {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH")?;
    let program = std::env::split_paths(&path)
        .map(|folder| folder.join("mvn"))
        .find(|file| file.is_file())?;
    let real = std::fs::canonicalize(program).ok()?;
    Some(real.parent()?.parent()?.to_owned())
}

/// The user's own settings with a mirror of us before all others. It stands for what the mirror
/// that we learned from stands for, or for `central`: repositories that a POM names by another id
/// are not ours to answer for.
#[must_use]
pub fn settings(place: &LarderAddress) -> String {
    settings_from(
        &user_settings()
            .and_then(|file| read(&file))
            .unwrap_or_default(),
        place,
    )
}

fn settings_from(own: &str, place: &LarderAddress) -> String {
    let mirror_of = mirrors(own)
        .into_iter()
        .find(Mirror::takes_central)
        .map_or_else(|| "central".to_owned(), |mirror| mirror.mirror_of);
    let url = place.of(Format::Maven);
    let mirror =
        format!("<mirror><id>larder</id><mirrorOf>{mirror_of}</mirrorOf><url>{url}</url></mirror>");
    let without = remove_own(own, "settings/mirrors/mirror");
    xml::insert_first(&without, "settings", "mirrors", &mirror)
}

/// The text without the elements at `path` that have Larder's id, as an earlier login wrote them.
fn remove_own(text: &str, path: &str) -> String {
    let id = format!("{path}/id");
    let (mut ours, mut is_ours) = (Vec::new(), false);
    for element in xml::elements(text) {
        if element.path == path {
            ours.push(std::mem::take(&mut is_ours));
        } else if element.path == id {
            is_ours = element.text == "larder";
        }
    }
    let ours = std::cell::RefCell::new(ours.into_iter());
    xml::remove(text, path, |_| ours.borrow_mut().next().unwrap_or(false))
}

/// The text of `settings.xml` with Larder as a mirror, and the token as its server's password.
#[must_use]
pub fn logged_in(own: &str, login: &ClientLogin) -> String {
    let text = settings_from(own, &login.place);
    let Some(token) = &login.token else {
        return text;
    };
    let password = quick_xml::escape::escape(token.expose());
    let server = format!(
        "<server><id>larder</id><username>{USER}</username><password>{password}</password></server>"
    );
    xml::insert_first(
        &remove_own(&text, "settings/servers/server"),
        "settings",
        "servers",
        &server,
    )
}

/// An init script that puts us in the place of the public repository in every Gradle build.
#[must_use]
pub fn gradle_script(
    place: &LarderAddress,
    token: Option<&Secret>,
    upstream: Option<&str>,
) -> String {
    let ours = place.of(Format::Maven);
    let credentials = token.map_or_else(String::new, |token| {
        let token = quoted(token.expose());
        format!(
            "\x20           repository.credentials {{ it.username = '{USER}'; it.password = '{token}' }}\n"
        )
    });
    // `mavenCentral()` has a name; what a build wrote out has an address. Below it, and at hosts whose
    // names begin like it, other repositories lie.
    let written_out = upstream.map_or_else(String::new, |theirs| {
        let theirs = quoted(theirs);
        format!(" || place(repository.url) == place(uri('{theirs}'))")
    });
    format!(
        "// Written by Larder.\n\
         def ours = '{ours}'\n\
         def place = {{ url ->\n\
         \x20   def scheme = url.scheme?.toLowerCase()\n\
         \x20   def port = url.port != -1 ? url.port : (scheme == 'https' ? 443 : 80)\n\
         \x20   [scheme, url.host?.toLowerCase(), port, url.normalize().path?.replaceAll('/+$', '')]\n\
         }}\n\
         def takeOver = {{ repositories ->\n\
         \x20   repositories.withType(MavenArtifactRepository).configureEach {{ repository ->\n\
         \x20       if (repository.name == 'MavenRepo'{written_out}) {{\n\
         \x20           repository.url = uri(ours)\n\
         \x20           repository.allowInsecureProtocol = ours.startsWith('http:')\n\
         {credentials}\
         \x20       }}\n\
         \x20   }}\n\
         }}\n\
         settingsEvaluated {{ settings ->\n\
         \x20   takeOver(settings.pluginManagement.repositories)\n\
         \x20   takeOver(settings.dependencyResolutionManagement.repositories)\n\
         }}\n\
         allprojects {{ takeOver(it.repositories); takeOver(it.buildscript.repositories) }}\n"
    )
}

/// The text as it stands between Groovy's single quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = "<settings>\n  <mirrors><mirror><id>corp</id><mirrorOf>external:*</mirrorOf><url>https://m.example/all</url></mirror></mirrors>\n  <servers><server><id>corp</id><username>u</username><password>p</password></server></servers>\n</settings>\n";

    fn place() -> LarderAddress {
        LarderAddress {
            root: "http://127.0.0.1:1".to_owned(),
            repository: "public".to_owned(),
        }
    }

    #[test]
    fn a_mirror_of_central_is_learned_with_its_credentials() {
        let found = &mirrors(SETTINGS)[0];
        assert!(found.takes_central());
        assert_eq!(found.url, "https://m.example/all");
        assert_eq!(
            server_auth(SETTINGS, "corp"),
            Some(Auth::basic("u", &Secret::new("p")))
        );
        let other = "<settings><mirrors><mirror><id>x</id><mirrorOf>other</mirrorOf><url>u</url></mirror></mirrors></settings>";
        assert!(!mirrors(other)[0].takes_central());
    }

    #[test]
    fn a_header_of_a_servers_configuration_is_its_credential() {
        let settings = "<settings><servers><server><id>g</id><configuration><httpHeaders><property>\
            <name>Job-Token</name><value>jt</value></property></httpHeaders></configuration></server></servers></settings>";
        let header = Auth::Header {
            name: "Job-Token".to_owned(),
            value: Secret::new("jt"),
        };
        assert_eq!(server_auth(settings, "g"), Some(header));
        assert_eq!(server_auth(settings, "other"), None);
    }

    #[test]
    fn central_of_a_maven_4_stands_in_its_installation() {
        let settings = "<settings><repositories><repository><id>central</id>\
            <url>${maven.repo.central}</url></repository></repositories></settings>";
        let properties =
            "a = b\nmaven.repo.central = ${env.LARDER_NO_SUCH:-https://m.example/m2}\n";
        let found = central_of(settings, properties);
        assert_eq!(found.as_deref(), Some("https://m.example/m2"));
        assert_eq!(central_of(settings, ""), None);
        assert_eq!(central_of("<settings/>", properties), None);
    }

    #[test]
    fn a_comment_that_names_our_server_takes_nobody_elses_away() {
        let own = "<settings>\n  <!-- <server><id>larder</id> -->\n  <servers><server><id>corp</id><password>p</password></server></servers>\n</settings>\n";
        let login = ClientLogin {
            place: place(),
            token: Some(Secret::new("t")),
            ca: None,
        };
        let twice = logged_in(&logged_in(own, &login), &login);
        assert!(
            twice.contains("<!-- <server><id>larder</id> -->"),
            "{twice}"
        );
        assert_eq!(server_auth(&twice, "corp"), server_auth(own, "corp"));
        assert_eq!(
            twice.matches("<id>larder</id><username>").count(),
            1,
            "{twice}"
        );
    }

    #[test]
    fn our_mirror_comes_first_once_and_nothing_is_lost() {
        let once = settings_from(SETTINGS, &place());
        assert!(once.contains(
            "<mirrorOf>external:*</mirrorOf><url>http://127.0.0.1:1/maven/public/</url>"
        ));
        assert!(once.find("larder") < once.find("corp"));
        assert!(once.contains("<password>p</password>"));
        assert_eq!(
            settings_from(&once, &place())
                .matches("<id>larder</id>")
                .count(),
            1
        );
        assert!(settings_from("", &place()).contains("<mirrorOf>central</mirrorOf>"));
    }

    #[test]
    fn gradle_compares_whole_addresses() {
        let script = gradle_script(&place(), None, Some("https://m.example/it's/"));
        assert!(
            script.contains("place(repository.url) == place(uri('https://m.example/it\\'s/'))")
        );
        assert!(!script.contains("toString().startsWith"));
        assert!(!gradle_script(&place(), None, None).contains("place(repository.url)"));
        assert!(!script.contains("credentials"));
    }

    #[test]
    fn a_token_is_the_password_of_the_mirrors_server_once() {
        let login = ClientLogin {
            place: place(),
            token: Some(Secret::new("t&t")),
            ca: None,
        };
        let once = logged_in(SETTINGS, &login);
        assert_eq!(
            server_auth(&once, "larder"),
            Some(Auth::basic(USER, &Secret::new("t&t")))
        );
        assert_eq!(
            server_auth(&once, "corp"),
            Some(Auth::basic("u", &Secret::new("p")))
        );
        let again = logged_in(&once, &login);
        assert_eq!(again.matches("<id>larder</id>").count(), 2, "{again}");
        // A login without a token leaves the one that is there.
        let later = logged_in(
            &again,
            &ClientLogin {
                token: None,
                ..login.clone()
            },
        );
        assert!(server_auth(&later, "larder").is_some());
        let script = gradle_script(&login.place, login.token.as_ref(), None);
        assert!(script.contains("it.password = 't&t'"), "{script}");
    }
}
