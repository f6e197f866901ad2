//! Registries: the places that were asked, which all rows belong to. The name of a connection is a label
//! and no key: a connection whose address changes is about another registry.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::{SqliteConnection, SqlitePool};
use tracing::info;
use url::Url;

use crate::config::ConnectionSettings;
use crate::package::Format;
use crate::store::sql::{Count, Error};

/// The tables whose rows belong to a registry; their column is called `connection`.
const TABLES: [&str; 5] = ["document", "asset", "alias", "publish_date", "absence"];

/// The registries of connections, by the connections' names.
#[derive(Clone, Debug, Default)]
pub struct RegistryIds(HashMap<String, String>);

impl RegistryIds {
    /// The registry of a connection. Where no catalog was asked, its name stands for it.
    #[must_use]
    pub fn of<'a>(&'a self, connection: &'a str) -> &'a str {
        self.0.get(connection).map_or(connection, String::as_str)
    }

    /// The connections of a registry.
    pub fn connections<'a>(&'a self, registry: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.0.iter().filter(move |(_, id)| *id == registry);
        all.map(|(name, _)| name.as_str())
    }
}

/// The address of a registry, and whose credentials are sent there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    format: Format,
    scheme: String,
    host: String,
    port: u16,
    base: String,
    /// The connection whose credentials are sent; empty: none are. What was given to a credential is
    /// kept from those without it, and a renewed credential is still the connection's own.
    realm: String,
}

impl Place {
    fn of(connection: &ConnectionSettings) -> Self {
        let realm = connection.has_credential().then_some(&connection.name);
        Self::at(
            connection.format,
            &connection.url,
            realm.map_or("", String::as_str),
        )
    }

    fn at(format: Format, url: &Url, realm: &str) -> Self {
        Self {
            format,
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
            base: url.path().to_owned(),
            realm: realm.to_owned(),
        }
    }
}

/// A registry, and how much is stored of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRegistry {
    #[serde(skip)]
    pub id: String,
    pub format: String,
    pub url: String,
    /// The connection whose credentials were sent; empty: none were.
    pub realm: String,
    pub documents: u64,
    pub files: u64,
}

/// The result of giving what is stored of one registry to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MovedRegistry {
    /// The ids of registries that have other rows than before.
    pub changed: Vec<String>,
    pub documents: u64,
    pub files: u64,
}

/// The catalog's registries.
#[derive(Clone)]
pub struct Registries {
    pub(super) pool: SqlitePool,
}

impl Registries {
    /// The registries of these connections, which are all that there are; those that are new get an id.
    /// `offline`: no connection is asked.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of(
        &self,
        connections: &[ConnectionSettings],
        offline: bool,
    ) -> Result<RegistryIds, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let in_use: Vec<Place> = connections.iter().map(Place::of).collect();
        let mut ids = HashMap::with_capacity(connections.len());
        for (connection, place) in connections.iter().zip(&in_use) {
            let one = One {
                name: &connection.name,
                place,
                is_offline: connection.offline || offline,
                is_learned: connection.is_learned,
            };
            let id = one.id(&mut transaction, &in_use).await?;
            ids.insert(connection.name.clone(), id);
        }
        transaction.commit().await?;
        Ok(RegistryIds(ids))
    }

    /// All registries of which something is stored, by format and address.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn stored(&self) -> Result<Vec<StoredRegistry>, Error> {
        let sql = "SELECT id, format, scheme, host, port, base, realm, \
                   (SELECT COUNT(*) FROM document WHERE connection = id), \
                   (SELECT COUNT(*) FROM asset WHERE connection = id) \
                   FROM registry WHERE format IS NOT NULL ORDER BY format, host, port, base, realm";
        type Row = (
            String,
            String,
            String,
            String,
            i64,
            String,
            String,
            Count,
            Count,
        );
        let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let stored = |(id, format, scheme, host, port, base, realm, documents, files): Row| {
            let mut url = Url::parse(&format!("{scheme}://{host}:{port}")).ok()?;
            url.set_path(&base);
            Some(StoredRegistry {
                id,
                format,
                url: url.into(),
                realm,
                documents: documents.0,
                files: files.0,
            })
        };
        Ok(rows.into_iter().filter_map(stored).collect())
    }

    /// Gives all that is stored of the registry at one address to that at another, which is the same one
    /// from now on. Where both have a row, the other's stays. Documents are asked for anew and in full:
    /// they name addresses, and their validators are the old address's.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn move_to(
        &self,
        format: Format,
        from: &Url,
        to: &Url,
    ) -> Result<MovedRegistry, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let place = Place::at(format, from, "");
        let sql = "SELECT id, realm FROM registry WHERE format = ? AND scheme = ? AND host = ? AND port = ? AND base = ?";
        let rows: Vec<(String, String)> = sqlx::query_as(sql)
            .bind(place.format.as_str())
            .bind(&place.scheme)
            .bind(&place.host)
            .bind(i64::from(place.port))
            .bind(&place.base)
            .fetch_all(&mut *transaction)
            .await?;
        let mut moved = MovedRegistry::default();
        for (id, realm) in rows {
            let outdated = "UPDATE document SET etag = NULL, last_modified = NULL, fresh_until = 0 WHERE connection = ?";
            let outdated = sqlx::query(outdated).bind(&id);
            moved.documents += outdated.execute(&mut *transaction).await?.rows_affected();
            let files = sqlx::query_scalar("SELECT COUNT(*) FROM asset WHERE connection = ?");
            let files: Count = files.bind(&id).fetch_one(&mut *transaction).await?;
            moved.files += files.0;
            let target = Place::at(format, to, &realm);
            match find(&mut transaction, &target).await? {
                Some(known) if known == id => {}
                Some(known) => {
                    merge(&mut transaction, &id, &known).await?;
                    moved.changed.push(known);
                }
                None => write_place(&mut transaction, &id, &target).await?,
            }
            moved.changed.push(id);
        }
        transaction.commit().await?;
        Ok(moved)
    }
}

/// One connection whose registry is looked for.
struct One<'a> {
    name: &'a str,
    place: &'a Place,
    is_offline: bool,
    /// Its name stands for the registry of whatever client was asked; its address is no placeholder.
    is_learned: bool,
}

impl One<'_> {
    async fn id(&self, to: &mut SqliteConnection, in_use: &[Place]) -> Result<String, Error> {
        let before = match self.earlier(to).await? {
            Some(id) => Some(id),
            None => self.placeholder(to, in_use).await?,
        };
        match (find(to, self.place).await?, before) {
            (Some(known), Some(before)) => {
                merge(to, &before, &known).await?;
                self.note_asked(to, &known).await?;
                Ok(known)
            }
            (Some(known), None) => {
                self.note_asked(to, &known).await?;
                Ok(known)
            }
            (None, Some(id)) => {
                info!(connection = self.name, host = %self.place.host, base = %self.place.base, "What is stored of connection `{}` belongs to its registry at {}{} from now on", self.name, self.place.host, self.place.base);
                self.put(to, &id).await?;
                Ok(id)
            }
            (None, None) => {
                let id = sqlx::query_scalar("SELECT lower(hex(randomblob(8)))");
                let id: String = id.fetch_one(&mut *to).await?;
                sqlx::query("INSERT INTO registry (id) VALUES (?)")
                    .bind(&id)
                    .execute(&mut *to)
                    .await?;
                self.put(to, &id).await?;
                Ok(id)
            }
        }
    }

    /// The rows that an earlier version kept under the connection's name, and nobody has taken up yet.
    async fn earlier(&self, to: &mut SqliteConnection) -> Result<Option<String>, Error> {
        let sql = "SELECT id FROM registry WHERE id = ? AND format IS NULL";
        let id = sqlx::query_scalar(sql).bind(self.name);
        Ok(id.fetch_optional(to).await?)
    }

    /// The registry at another address that was this connection's while it was offline. Nobody was ever
    /// asked there, and what is kept of it was imported: the new address corrects the old one.
    async fn placeholder(
        &self,
        to: &mut SqliteConnection,
        in_use: &[Place],
    ) -> Result<Option<String>, Error> {
        if self.is_learned {
            return Ok(None);
        }
        let sql = "SELECT id, scheme, host, port, base, realm FROM registry WHERE placeholder_of = ? AND format = ?";
        let rows: Vec<(String, String, String, i64, String, String)> = sqlx::query_as(sql)
            .bind(self.name)
            .bind(self.place.format.as_str())
            .fetch_all(to)
            .await?;
        let found = rows
            .into_iter()
            .find(|(_, scheme, host, port, base, realm)| {
                let is_it = |place: &Place| {
                    place.format == self.place.format
                        && place.scheme == *scheme
                        && place.host == *host
                        && i64::from(place.port) == *port
                        && place.base == *base
                        && place.realm == *realm
                };
                !in_use.iter().any(is_it)
            });
        Ok(found.map(|(id, ..)| id))
    }

    /// Notes that a connection that is not offline has the address: it is no placeholder any more.
    async fn note_asked(&self, to: &mut SqliteConnection, id: &str) -> Result<(), Error> {
        if !self.is_offline {
            let sql = "UPDATE registry SET placeholder_of = NULL WHERE id = ? AND placeholder_of IS NOT NULL";
            sqlx::query(sql).bind(id).execute(to).await?;
        }
        Ok(())
    }

    /// Gives the registry the connection's address.
    async fn put(&self, to: &mut SqliteConnection, id: &str) -> Result<(), Error> {
        write_place(to, id, self.place).await?;
        let placeholder_of = (self.is_offline && !self.is_learned).then_some(self.name);
        sqlx::query("UPDATE registry SET placeholder_of = ? WHERE id = ?")
            .bind(placeholder_of)
            .bind(id)
            .execute(to)
            .await?;
        Ok(())
    }
}

/// The registry at a place.
async fn find(to: &mut SqliteConnection, place: &Place) -> Result<Option<String>, Error> {
    let id = sqlx::query_scalar(
        "SELECT id FROM registry WHERE format = ? AND scheme = ? AND host = ? AND port = ? AND base = ? AND realm = ?",
    )
    .bind(place.format.as_str())
    .bind(&place.scheme)
    .bind(&place.host)
    .bind(i64::from(place.port))
    .bind(&place.base)
    .bind(&place.realm);
    Ok(id.fetch_optional(to).await?)
}

async fn write_place(to: &mut SqliteConnection, id: &str, place: &Place) -> Result<(), Error> {
    sqlx::query(
        "UPDATE registry SET format = ?, scheme = ?, host = ?, port = ?, base = ?, realm = ? WHERE id = ?",
    )
    .bind(place.format.as_str())
    .bind(&place.scheme)
    .bind(&place.host)
    .bind(i64::from(place.port))
    .bind(&place.base)
    .bind(&place.realm)
    .bind(id)
    .execute(to)
    .await?;
    Ok(())
}

/// Gives the rows of one registry to another. Where both have a row, the other's stays.
async fn merge(to: &mut SqliteConnection, from: &str, into: &str) -> Result<(), Error> {
    for table in TABLES {
        let moved = format!("UPDATE OR IGNORE {table} SET connection = ? WHERE connection = ?");
        sqlx::query(sqlx::AssertSqlSafe(moved))
            .bind(into)
            .bind(from)
            .execute(&mut *to)
            .await?;
        let rest = format!("DELETE FROM {table} WHERE connection = ?");
        sqlx::query(sqlx::AssertSqlSafe(rest))
            .bind(from)
            .execute(&mut *to)
            .await?;
    }
    sqlx::query("DELETE FROM registry WHERE id = ?")
        .bind(from)
        .execute(to)
        .await?;
    Ok(())
}
