//! Reads what the registry has, and holds it against what the registry has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;

use super::account::Wrong;
use super::client::{Answer, Ask, Client, Got};
use super::document::{Listed, Listing, View, file_path};
use super::ledger::Ledger;
use super::process::BARRED;
use super::stock::{FIRST, Format, GROUP, Package, Stock, file_name, pom};
use crate::support::{Chance, sha1};

/// The repository that draws on the registry.
pub const PUBLIC: &str = "public";

/// What came of asking for a document.
pub enum Read {
    Listing(Listing),
    /// It is there, and was not read: a head, nothing new, or one of its pages did not come.
    Unread,
    Other(Answer),
}

/// Reads a document in one of the ways that clients ask for it.
pub async fn document(
    client: &Client,
    chance: &mut Chance,
    format: Format,
    view: View,
    repository: &str,
    name: &str,
) -> Option<Read> {
    let path = view.path(repository, name);
    let key = format!("{view:?} {path}");
    let mut ask = Ask::get(format, path.as_str()).with("accept", view.accept());
    let etag = client.etags.lock().unwrap().get(&key).cloned();
    match (chance.below(10), etag) {
        (0, _) => ask.method = Method::HEAD,
        (1 | 2, Some(etag)) => ask = ask.with("if-none-match", etag),
        _ => {}
    }
    if chance.of_100(50) {
        ask = ask.with("accept-encoding", "gzip");
    }
    let answer = client.ask(chance, &ask).await?;
    let is_conditional = ask.headers.iter().any(|(name, _)| *name == "if-none-match");
    match answer.status {
        200 if ask.method == Method::HEAD => return Some(Read::Unread),
        200 => {}
        304 if is_conditional => return Some(Read::Unread),
        _ => return Some(Read::Other(answer)),
    }
    let etag = answer.header("etag").to_owned();
    if !etag.is_empty() {
        client.etags.lock().unwrap().insert(key, etag);
    }
    let mut listing = read(client, view, name, &answer)?;
    for page in std::mem::take(&mut listing.pages) {
        let Some(path) = inside(client, &path, &page) else {
            client.wrong(Wrong::Odd, &format!("it leads outside: {page}"), &answer);
            return None;
        };
        let ask = Ask::get(format, path);
        let answer = client.ask(chance, &ask).await?;
        if answer.status != 200 {
            return Some(Read::Unread);
        }
        listing
            .versions
            .extend(read(client, view, name, &answer)?.versions);
    }
    for listed in &listing.versions {
        let Some(address) = &listed.address else {
            continue;
        };
        let Some(path) = inside(client, &path, address) else {
            client.wrong(Wrong::Odd, &format!("it leads outside: {address}"), &answer);
            return None;
        };
        let file = link(repository, &file_name(format, name, &listed.version));
        client.links.lock().unwrap().insert(file, path);
    }
    Some(Read::Listing(listing))
}

fn link(repository: &str, file: &str) -> String {
    format!("{repository} {file}")
}

/// What the answer lists; one that is no such document is wrong.
fn read(client: &Client, view: View, name: &str, answer: &Answer) -> Option<Listing> {
    let body = answer.unpacked().map_err(|error| error.to_string());
    match body.and_then(|body| view.read(name, &body)) {
        Ok(listing) => Some(listing),
        Err(why) => {
            client.wrong(Wrong::Bytes, &why, answer);
            None
        }
    }
}

/// The path at Larder that an address in a document leads to.
fn inside(client: &Client, path: &str, address: &str) -> Option<String> {
    let base = url::Url::parse(&format!("{}{path}", client.url)).ok()?;
    let address = base.join(address).ok()?;
    let path = address.as_str().strip_prefix(&client.url)?;
    Some(path.split('#').next()?.to_owned())
}

/// Where a version's file is, as far as that is known.
pub fn place(
    client: &Client,
    format: Format,
    repository: &str,
    name: &str,
    version: &str,
) -> Option<String> {
    file_path(format, repository, name, version).or_else(|| {
        let file = link(repository, &file_name(format, name, version));
        client.links.lock().unwrap().get(&file).cloned()
    })
}

/// Whether the listing is the package's, up to some version; how far it goes.
fn judge(package: &Package, listing: &[Listed]) -> Result<usize, String> {
    for listed in listing {
        let version = package.has().iter().find(|it| it.version == listed.version);
        let Some(version) = version else {
            return Err(format!("there is no version {}", listed.version));
        };
        if listed
            .digest
            .as_ref()
            .is_some_and(|digest| !version.is_said(digest))
        {
            return Err(format!("{} has another digest", listed.version));
        }
    }
    let is_there = |at: usize| {
        let version = &package.versions[at].version;
        listing.iter().any(|it| it.version == *version)
    };
    let far = (0..package.versions.len())
        .take_while(|at| is_there(*at))
        .count();
    if far != listing.len() || far < FIRST {
        return Err(format!(
            "{} versions, of which {far} in a row",
            listing.len()
        ));
    }
    Ok(far)
}

pub struct Reader {
    pub client: Arc<Client>,
    pub stock: Arc<Stock>,
    pub ledger: Arc<Ledger>,
    pub format: Format,
    pub chance: Chance,
    /// The longest pause between two requests.
    pub pause: Duration,
}

impl Reader {
    pub async fn run(mut self) {
        loop {
            self.one().await;
            let longest = u64::try_from(self.pause.as_micros()).unwrap();
            let pause = self.chance.below(1 + longest);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    async fn one(&mut self) {
        let (client, stock) = (Arc::clone(&self.client), Arc::clone(&self.stock));
        let package = self.chance.pick(stock.of(self.format));
        if package.format == Format::Npm && package.name == BARRED {
            return;
        }
        match self.chance.below(100) {
            0..45 => {
                let at = self.chance.below(package.settled() as u64);
                let at = usize::try_from(at).unwrap();
                read_file(&client, &mut self.chance, package, at).await;
            }
            45..70 => {
                let view = *self.chance.pick(View::of(self.format));
                read_document(&client, &mut self.chance, package, view).await;
            }
            70..76 => self.beside(package).await,
            76..90 => {
                self.ledger
                    .read_file(&client, &mut self.chance, self.format)
                    .await
            }
            _ => {
                self.ledger
                    .read_document(&client, &mut self.chance, self.format)
                    .await
            }
        }
    }

    /// What a format has besides documents and files.
    async fn beside(&mut self, package: &Package) {
        let at = self.chance.below(FIRST as u64);
        let version = &package.versions[usize::try_from(at).unwrap()];
        let (name, number) = (&package.name, &version.version);
        let lower = name.to_lowercase();
        // Bytes that are known, or that are read as a document.
        let (path, expected) = match (self.format, self.chance.below(2)) {
            (Format::Npm, _) => {
                let path = format!("/npm/{PUBLIC}/{}/{number}", name.replace('/', "%2f"));
                (path, None)
            }
            (Format::Pypi, _) => {
                let Some(path) = place(&self.client, Format::Pypi, PUBLIC, name, number) else {
                    return;
                };
                (path, Some(version.bytes.clone()))
            }
            (Format::Maven, odd) => {
                let folder = format!("/maven/{PUBLIC}/{GROUP}/{name}/{number}/{name}-{number}");
                if odd == 0 {
                    (
                        format!("{folder}.pom"),
                        Some(Bytes::from(pom(name, number))),
                    )
                } else {
                    let digest = Bytes::from(sha1(&version.bytes));
                    (format!("{folder}.jar.sha1"), Some(digest))
                }
            }
            (Format::Nuget, 0) => (format!("/nuget/{PUBLIC}/v3/index.json"), None),
            (Format::Nuget, _) => {
                let path = format!("/nuget/{PUBLIC}/v3/flat/{lower}/{number}/{lower}.nuspec");
                (path, None)
            }
        };
        if let Some(bytes) = expected {
            let got = self
                .client
                .file(&mut self.chance, self.format, &path, &bytes);
            if let Some(Got::Other(answer)) = got.await {
                refused(&self.client, package, &answer);
            }
            return;
        }
        let ask = Ask::get(self.format, path);
        let Some(answer) = self.client.ask(&mut self.chance, &ask).await else {
            return;
        };
        if answer.status != 200 {
            return refused(&self.client, package, &answer);
        }
        let text = String::from_utf8_lossy(&answer.body);
        let is_right = match self.format {
            Format::Npm => {
                let manifest: Result<serde_json::Value, _> = serde_json::from_str(&text);
                manifest.is_ok_and(|it| it["dist"]["integrity"] == version.integrity.as_str())
            }
            _ if ask.path.ends_with("index.json") => {
                text.contains("RegistrationsBaseUrl") && text.ends_with('}')
            }
            _ => text.contains(&format!("<version>{number}</version>")),
        };
        if is_right {
            self.client.account.verified(self.format);
        } else {
            self.client.wrong(Wrong::Bytes, "it is another", &answer);
        }
    }
}

/// Reads a file of the registry's; whether it came.
pub async fn read_file(client: &Client, chance: &mut Chance, package: &Package, at: usize) -> bool {
    let (format, name) = (package.format, &package.name);
    let version = &package.versions[at];
    let Some(path) = place(client, format, PUBLIC, name, &version.version) else {
        return read_document(client, chance, package, View::of(format)[0])
            .await
            .is_some();
    };
    match client.file(chance, format, &path, &version.bytes).await {
        Some(Got::File) => true,
        Some(Got::Other(answer)) => {
            refused(client, package, &answer);
            false
        }
        None => false,
    }
}

/// Reads a document of the registry's; how many versions it lists, where it was read.
pub async fn read_document(
    client: &Client,
    chance: &mut Chance,
    package: &Package,
    view: View,
) -> Option<usize> {
    let read = document(client, chance, package.format, view, PUBLIC, &package.name);
    match read.await? {
        Read::Listing(listing) => match judge(package, &listing.versions) {
            Ok(far) => {
                client.account.verified(package.format);
                Some(far)
            }
            Err(why) => {
                let path = view.path(PUBLIC, &package.name);
                client
                    .account
                    .wrong(Wrong::Bytes, &format!("{path} ({view:?}): {why}"));
                None
            }
        },
        Read::Unread => None,
        Read::Other(answer) => {
            refused(client, package, &answer);
            None
        }
    }
}

/// The registry's troubles are 502 and its like; what exists is 404 only where the registry said so.
fn refused(client: &Client, package: &Package, answer: &Answer) {
    match answer.status {
        404 if package.is_denied => {}
        404 => client.wrong(Wrong::Denied, "", answer),
        500 => {}
        _ if answer.is_refused() => {}
        _ => client.wrong(Wrong::Odd, "", answer),
    }
}
