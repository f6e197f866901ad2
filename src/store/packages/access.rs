//! Tokens, keys and policies, as they lie in the catalog.

use sqlx::any::AnyRow;
use std::sync::Arc;

use serde_json::json;

use super::database::Database;
use super::door::Statements;
use super::{Error, random_name};
use crate::clock;
use crate::secret::Secret;
use crate::store::sql::{Count, from_row};

/// The detail type of events about policies.
pub(super) const POLICY_CHANGE: &str = "Larder Policy Change";

/// A key that signs tokens.
#[derive(Clone, Debug)]
pub struct TokenSigningKey {
    pub id: String,
    pub secret: Secret,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

from_row!(
    AnyRow,
    TokenSigningKey {
        id,
        secret,
        created_at
    }
);

/// A long-lived token of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineToken {
    pub id: String,
    /// SHA-256 of the token.
    pub hash: Vec<u8>,
    /// An ARN.
    pub principal: String,
    pub note: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
    pub expires_at: Option<i64>,
}

from_row!(
    AnyRow,
    MachineToken {
        id,
        hash,
        principal,
        note,
        created_at,
        expires_at
    }
);

/// A key for Signature Version 4.
#[derive(Clone, Debug)]
pub struct AccessKey {
    pub id: String,
    pub secret: Secret,
    /// An ARN.
    pub principal: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

from_row!(
    AnyRow,
    AccessKey {
        id,
        secret,
        principal,
        created_at
    }
);

/// A resource's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// An ARN.
    pub resource: String,
    /// JSON, as it was sent.
    pub document: String,
    /// Another after each change.
    pub revision: String,
}

from_row!(
    AnyRow,
    PolicyRow {
        resource,
        document,
        revision
    }
);

/// All of it, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct AccessRows {
    pub number: i64,
    /// The newest first.
    pub signing: Vec<TokenSigningKey>,
    pub revoked: Vec<String>,
    pub tokens: Vec<MachineToken>,
    pub keys: Vec<AccessKey>,
    pub policies: Vec<PolicyRow>,
}

/// Tokens, keys and policies.
#[derive(Clone)]
pub struct AccessRecords {
    pub(super) database: Arc<Database>,
}

impl AccessRecords {
    /// Which state of access is in force: another number after each change.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn number(&self) -> Result<i64, Error> {
        let sql = "SELECT number FROM access_state WHERE id = 1";
        let number = sqlx::query_scalar(sql);
        Ok(number.fetch_one(&self.database.door).await?)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn read(&self) -> Result<AccessRows, Error> {
        // The number first: a change meanwhile is seen at the next look.
        let number = self.number().await?;
        let door = &self.database.door;
        let signing =
            "SELECT id, secret, created_at FROM signing_key ORDER BY created_at DESC, id DESC";
        let tokens = "SELECT id, hash, principal, note, created_at, expires_at FROM machine_token \
             ORDER BY created_at, id";
        let keys =
            "SELECT id, secret, principal, created_at FROM access_key ORDER BY created_at, id";
        let policies = "SELECT resource, document, revision FROM policy";
        Ok(AccessRows {
            number,
            signing: sqlx::query_as(signing).fetch_all(door).await?,
            revoked: sqlx::query_scalar("SELECT id FROM revoked_token")
                .fetch_all(door)
                .await?,
            tokens: sqlx::query_as(tokens).fetch_all(door).await?,
            keys: sqlx::query_as(keys).fetch_all(door).await?,
            policies: sqlx::query_as(policies).fetch_all(door).await?,
        })
    }

    /// Adds a key that signs from now on, unless there is one and only the first is asked for. Keys
    /// made before `keep_after` (milliseconds since 1970) check nothing any more.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn add_signing_key(
        &self,
        secret: &Secret,
        only_first: bool,
        keep_after: i64,
    ) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        // On PostgreSQL the row holds off others who would add the first.
        changed(&mut transaction).await?;
        let there: Count = sqlx::query_scalar("SELECT COUNT(*) FROM signing_key")
            .fetch_one(&mut *transaction)
            .await?;
        if only_first && there.0 > 0 {
            return Ok(());
        }
        sqlx::query("DELETE FROM signing_key WHERE created_at < $1")
            .bind(keep_after)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO signing_key (id, secret, created_at) VALUES ($1, $2, $3)")
            .bind(random_name().get(..8).unwrap_or_default())
            .bind(secret.expose())
            .bind(clock::unix_ms_now())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Ends a signed token before its time.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn revoke(&self, id: &str, expires_at: i64) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        sqlx::query("DELETE FROM revoked_token WHERE expires_at < $1")
            .bind(clock::unix_ms_now())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO revoked_token (id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(expires_at)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Adds a machine's token.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn add_token(&self, token: &MachineToken) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        sqlx::query(
            "INSERT INTO machine_token (id, hash, principal, note, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(token.id.as_str())
        .bind(token.hash.clone())
        .bind(token.principal.as_str())
        .bind(token.note.as_str())
        .bind(token.created_at)
        .bind(token.expires_at)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Adds an access key.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn add_key(&self, key: &AccessKey) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        sqlx::query(
            "INSERT INTO access_key (id, secret, principal, created_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(key.id.as_str())
        .bind(key.secret.expose())
        .bind(key.principal.as_str())
        .bind(key.created_at)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Takes a machine's token or an access key away; says whether there was one.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn drop_credential(&self, id: &str) -> Result<bool, Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        let mut count = 0;
        for sql in [
            "DELETE FROM machine_token WHERE id = $1",
            "DELETE FROM access_key WHERE id = $1",
        ] {
            let done = sqlx::query(sql).bind(id).execute(&mut *transaction).await?;
            count += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(count > 0)
    }

    /// Puts a policy in the place of the resource's, or takes it away; gives the one that is in
    /// force then, or the one that was taken.
    ///
    /// # Errors
    /// Where the revision is not the one in force, there is none to take away, or the database
    /// fails.
    pub async fn set_policy(
        &self,
        resource: &str,
        document: Option<&str>,
        revision: Option<&str>,
    ) -> Result<PolicyRow, Error> {
        let outbox = self.database.outbox.load_full();
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        let sql = "SELECT resource, document, revision FROM policy WHERE resource = $1";
        let before: Option<PolicyRow> = sqlx::query_as(sql)
            .bind(resource)
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(said) = revision
            && before.as_ref().is_none_or(|before| before.revision != said)
        {
            return Err(Error::Revision(format!("the policy of {resource}")));
        }
        let row = match (document, before) {
            (Some(document), _) => PolicyRow {
                resource: resource.to_owned(),
                document: document.to_owned(),
                revision: random_name(),
            },
            (None, Some(before)) => before,
            (None, None) => return Err(Error::Absent(format!("policy of {resource}"))),
        };
        sqlx::query("DELETE FROM policy WHERE resource = $1")
            .bind(resource)
            .execute(&mut *transaction)
            .await?;
        if document.is_some() {
            sqlx::query("INSERT INTO policy (resource, document, revision) VALUES ($1, $2, $3)")
                .bind(row.resource.as_str())
                .bind(row.document.as_str())
                .bind(row.revision.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        let detail = json!({
            "operationType": if document.is_some() { "Updated" } else { "Deleted" },
            "policyRevision": row.revision,
        });
        outbox
            .happened(&mut transaction, POLICY_CHANGE, resource, detail)
            .await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(row)
    }
}

/// Has other processes notice.
pub(super) async fn changed(transaction: &mut Statements) -> Result<(), Error> {
    sqlx::query("UPDATE access_state SET number = number + 1 WHERE id = 1")
        .execute(transaction)
        .await?;
    Ok(())
}
