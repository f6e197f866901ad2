//! Finds the files of a package that are here, which are all that an offline connection can offer.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

use crate::connection::Connection;
use crate::package::{PackageId, VersionId};
use crate::problem::Problem;
use crate::store::Store;
use crate::store::catalog::AssetKey;

/// The package and the connection that a stock is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StockKey {
    connection: Box<str>,
    package: PackageId,
}

/// The files of a package that a connection has in the store.
#[derive(Debug, Default)]
pub struct Stock {
    files: BTreeSet<String>,
    /// Versions of which a package file is here, not only files that clients read before it.
    versions: HashSet<VersionId>,
    /// Versions of which any file is here.
    given: HashSet<VersionId>,
    /// When it was looked up, by [`crate::store::BlobRetention::evictions`].
    evictions: u64,
}

impl Stock {
    fn new(package: &PackageId, rows: Vec<(String, String)>, evictions: u64) -> Self {
        let protocol = package.format().protocol();
        let mut stock = Self {
            evictions,
            ..Self::default()
        };
        for (version, file) in rows {
            let version = protocol.known_version(&version);
            stock.given.insert(version.clone());
            if protocol.is_package_file(&file) {
                stock.versions.insert(version);
            }
            stock.files.insert(file);
        }
        stock
    }

    #[must_use]
    pub fn has_file(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    #[must_use]
    pub fn has_version(&self, package: &PackageId, version: &str) -> bool {
        let version = package.format().protocol().known_version(version);
        self.versions.contains(&version)
    }

    /// Whether the connection gave anything of the version, be it what is read beforehand alone.
    #[must_use]
    pub fn has_given(&self, version: &VersionId) -> bool {
        self.given.contains(version)
    }

    /// The files, in one order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }
}

/// A cache of the stocks of offline connections; clones share it.
#[derive(Clone)]
pub struct Stocks {
    store: Arc<Store>,
    known: Cache<StockKey, Arc<Stock>>,
    /// How often a stock was forgotten: one that was read before is not remembered behind that.
    forgotten: Arc<AtomicU64>,
}

impl Stocks {
    /// `stocks_max` bounds what is known in memory.
    pub(super) fn new(store: &Arc<Store>, stocks_max: u64) -> Self {
        Self {
            store: Arc::clone(store),
            known: Cache::new(stocks_max),
            forgotten: Arc::default(),
        }
    }

    /// Forgets the stock of the asset's package: more of it is here than was.
    pub(super) fn forget(&self, key: &AssetKey) {
        let key = StockKey {
            connection: key.connection.clone(),
            package: key.asset.package.clone(),
        };
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.known.invalidate(&key);
    }

    /// Forgets what the connection has.
    pub(super) fn forget_all(&self, connection: &str) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        for (key, _) in &self.known {
            if *key.connection == *connection {
                self.known.invalidate(key.as_ref());
            }
        }
    }

    /// Finds what of the package is here.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn of_package(
        &self,
        connection: &Connection,
        package: &PackageId,
    ) -> Result<Arc<Stock>, Problem> {
        let key = StockKey {
            connection: connection.name.as_str().into(),
            package: package.clone(),
        };
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let evictions = self.store.retention().evictions();
        if let Some(stock) = self.known.get(&key)
            && stock.evictions == evictions
        {
            return Ok(stock);
        }
        let rows = self
            .store
            .catalog()
            .assets()
            .files_here(&connection.name, package)
            .await?;
        let stock = Arc::new(Stock::new(package, rows, evictions));
        self.known.insert(key.clone(), Arc::clone(&stock));
        if self.forgotten.load(Ordering::Acquire) != forgotten {
            self.known.invalidate(&key);
        }
        Ok(stock)
    }
}
