//! Facts about a package's files, packed: a package may have a million, and each is
//! some bytes here, where it would be hundreds as values of its own.

use std::hash::BuildHasher as _;
use std::ops::Range;

use jiff::Timestamp;
use url::Url;

use super::{
    Algorithm, AssetFacts, Digest, Expectation, Expected, Format, Location, Promise, UpstreamPath,
    VersionId,
};

/// The facts about a whole package at one connection.
#[derive(Debug)]
pub struct Facts {
    format: Format,
    assets: PackedFacts,
    hasher: foldhash::quality::RandomState,
    by_file: Vec<Entry>,
    /// The first asset of each version.
    by_version: Vec<Entry>,
}

/// A key's hash, and where in the packed facts its asset is. In order, so that it can be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: u32,
    at: u32,
}

impl Facts {
    /// The first of two assets of one name stands.
    #[must_use]
    pub fn new(format: Format, mut assets: PackedFacts) -> Self {
        assets.bytes.shrink_to_fit();
        let mut facts = Self {
            format,
            hasher: foldhash::quality::RandomState::default(),
            by_file: Vec::with_capacity(assets.count),
            by_version: Vec::new(),
            assets,
        };
        let mut last = None;
        for asset in facts.assets.iter() {
            let file = facts.hash(asset.file);
            facts.by_file.push(Entry {
                hash: file,
                at: asset.at,
            });
            if last != Some(asset.version) {
                last = Some(asset.version);
                let version = facts.id_of(&asset);
                facts.by_version.push(Entry {
                    hash: facts.hash(version.as_str()),
                    at: asset.at,
                });
            }
        }
        facts.by_file.sort_unstable();
        facts.by_version.sort_unstable();
        facts.keep_first_of_versions();
        facts.by_version.shrink_to_fit();
        facts
    }

    /// Leaves one entry for each version.
    fn keep_first_of_versions(&mut self) {
        let mut kept: Vec<Entry> = Vec::with_capacity(self.by_version.len());
        for entry in &self.by_version {
            let mut of_hash = kept.iter().rev().take_while(|it| it.hash == entry.hash);
            let id = |entry: &Entry| self.assets.asset_at(entry.at).map(|it| self.id_of(&it));
            if !of_hash.any(|other| id(other) == id(entry)) {
                kept.push(*entry);
            }
        }
        self.by_version = kept;
    }

    fn hash(&self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        // One half of it is as good as the other.
        u32::try_from(hash >> 32).unwrap_or_default()
    }

    fn id_of(&self, asset: &PackedAsset<'_>) -> VersionId {
        self.format.protocol().known_version(asset.version)
    }

    pub fn iter(&self) -> impl Iterator<Item = PackedAsset<'_>> {
        self.assets.iter()
    }

    /// The versions, each once, in no order.
    pub fn versions(&self) -> impl Iterator<Item = VersionId> {
        let assets = self.by_version.iter();
        let assets = assets.filter_map(|entry| self.assets.asset_at(entry.at));
        assets.map(|asset| self.id_of(&asset))
    }

    #[must_use]
    pub fn file(&self, file: &str) -> Option<PackedAsset<'_>> {
        let mut found = self.with_hash(&self.by_file, self.hash(file));
        found.find(|asset| asset.file == file)
    }

    /// Any asset of the version, however it is spelled: those of one version share what rules ask about in the formats
    /// that decide by version.
    #[must_use]
    pub fn version(&self, version: &str) -> Option<PackedAsset<'_>> {
        let version = self.format.protocol().known_version(version);
        let mut found = self.with_hash(&self.by_version, self.hash(version.as_str()));
        found.find(|asset| self.id_of(asset) == version)
    }

    fn with_hash<'a>(
        &'a self,
        entries: &'a [Entry],
        hash: u32,
    ) -> impl Iterator<Item = PackedAsset<'a>> {
        let first = entries.partition_point(|entry| entry.hash < hash);
        let from = entries.get(first..).unwrap_or_default();
        let of_hash = from.iter().take_while(move |entry| entry.hash == hash);
        of_hash.filter_map(|entry| self.assets.asset_at(entry.at))
    }

    /// The bytes held, for bounding a cache of facts.
    #[must_use]
    pub fn weight(&self) -> u32 {
        const OWN: usize = 256;
        let entries = self.by_file.capacity() + self.by_version.capacity();
        let bytes = self.assets.bytes.capacity() + entries * size_of::<Entry>() + OWN;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// Facts about assets, one behind the other. A text that the asset before has too is a reference to
/// it, and an address is what comes before the end that it shares with its file's name.
#[derive(Clone, Debug, Default)]
pub struct PackedFacts {
    bytes: Vec<u8>,
    count: usize,
    /// The types of NuGet's services that addresses lie below.
    services: Vec<&'static [&'static str]>,
    /// Texts that the next asset probably has too.
    last_version: Range<usize>,
    last_address: Range<usize>,
    last_runs_on: Range<usize>,
}

/// One asset among packed facts.
#[derive(Clone, Copy, Debug)]
pub struct PackedAsset<'a> {
    pub file: &'a str,
    /// The package version it belongs to, in the format's own spelling.
    pub version: &'a str,
    /// When the registry says that it was published.
    pub published: Option<Timestamp>,
    /// Which interpreters run it; empty: any.
    pub runs_on: &'a str,
    /// Nobody is to choose it who does not name its version.
    pub is_withdrawn: bool,
    is_mutable: bool,
    list: &'a PackedFacts,
    at: u32,
    /// Where its address and what it must be are read from.
    rest: Reader<'a>,
}

const MUTABLE: u8 = 1;
const WITHDRAWN: u8 = 2;
const DATED: u8 = 4;

const PATH: u8 = 0;
const BESIDE: u8 = 1;
const URL: u8 = 2;
const OWN_URL: u8 = 3;
const SERVICE: u8 = 4;

const KNOWN: u8 = 0;
const PROMISED: u8 = 1;
const REQUIRED: u8 = 2;
const FIRST_SEEN: u8 = 3;

/// The length of an asset's facts stands before them.
const LENGTH_BYTES: usize = 4;

impl PackedFacts {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, asset: &AssetFacts) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        self.bytes.push(
            flag(asset.mutable, MUTABLE)
                | flag(asset.is_withdrawn, WITHDRAWN)
                | flag(asset.published.is_some(), DATED),
        );
        self.own_text(asset.file.as_bytes());
        self.last_version = self.shared_text(&asset.version, self.last_version.clone());
        if let Some(published) = asset.published {
            let nanoseconds = published.subsec_nanosecond();
            self.bytes.extend(published.as_second().to_le_bytes());
            self.bytes.extend(nanoseconds.to_le_bytes());
        }
        self.last_runs_on = self.shared_text(&asset.runs_on, self.last_runs_on.clone());
        self.location(&asset.location, &asset.file);
        self.expectation(&asset.expectation, &asset.file);
        let length = self.bytes.len() - start - LENGTH_BYTES;
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = self.bytes.get_mut(start..start + LENGTH_BYTES) {
            place.copy_from_slice(&length);
        }
        self.count += 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = PackedAsset<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let asset = self.asset_at(u32::try_from(at).ok()?)?;
            let length = self.bytes.get(at..at + LENGTH_BYTES)?.try_into().ok()?;
            at += LENGTH_BYTES + usize::try_from(u32::from_le_bytes(length)).ok()?;
            Some(asset)
        })
    }

    fn asset_at(&self, at: u32) -> Option<PackedAsset<'_>> {
        let mut reader = Reader {
            all: &self.bytes,
            at: usize::try_from(at).ok()?.checked_add(LENGTH_BYTES)?,
        };
        let flags = reader.byte()?;
        let file = reader.own_text()?;
        let version = reader.shared_text()?;
        let published = if flags & DATED == 0 {
            None
        } else {
            let second = i64::from_le_bytes(reader.take(8)?.try_into().ok()?);
            let nanosecond = i32::from_le_bytes(reader.take(4)?.try_into().ok()?);
            Some(Timestamp::new(second, nanosecond).ok()?)
        };
        let runs_on = reader.shared_text()?;
        Some(PackedAsset {
            file: std::str::from_utf8(file).ok()?,
            version,
            published,
            runs_on,
            is_withdrawn: flags & WITHDRAWN != 0,
            is_mutable: flags & MUTABLE != 0,
            list: self,
            at,
            rest: reader,
        })
    }

    fn number(&mut self, mut number: usize) {
        loop {
            let low = u8::try_from(number & 0x7f).unwrap_or_default();
            number >>= 7;
            if number == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }

    fn own_text(&mut self, text: &[u8]) {
        self.number(text.len());
        self.bytes.extend_from_slice(text);
    }

    /// Writes a text, or where it stands already: at `last`, or in nothing at all. Returns where it
    /// stands.
    fn shared_text(&mut self, text: &str, last: Range<usize>) -> Range<usize> {
        self.shared_bytes(text.as_bytes(), last)
    }

    fn shared_bytes(&mut self, text: &[u8], last: Range<usize>) -> Range<usize> {
        self.number(text.len());
        if text.is_empty() {
            return last;
        }
        if self.bytes.get(last.clone()) == Some(text) {
            // How far back it is; nothing else begins with more than zero.
            self.number(self.bytes.len() - last.start);
            return last;
        }
        self.number(0);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        start..self.bytes.len()
    }

    /// Writes an address as its beginning and how much of the file's end follows.
    fn address(&mut self, address: &str, file: &str) {
        let pairs = address.bytes().rev().zip(file.bytes().rev());
        let same = pairs.take_while(|(a, b)| a == b).count();
        self.number(same);
        let before = address.as_bytes().get(..address.len() - same);
        let last = self.last_address.clone();
        self.last_address = self.shared_bytes(before.unwrap_or_default(), last);
    }

    fn path(&mut self, path: &UpstreamPath, file: &str) {
        let (encoded, query) = path.parts();
        self.bytes.push(u8::from(encoded.is_some()));
        self.bytes.push(u8::from(query.is_some()));
        if let Some(encoded) = encoded {
            self.address(encoded, file);
        }
        if let Some(query) = query {
            self.own_text(query.as_bytes());
        }
    }

    fn location(&mut self, location: &Location, file: &str) {
        match location {
            Location::Path(path) => {
                self.bytes.push(PATH);
                self.path(path, file);
            }
            Location::Beside(path) => {
                self.bytes.push(BESIDE);
                self.path(path, file);
            }
            Location::Url(url) => {
                self.bytes.push(URL);
                self.address(url.as_str(), file);
            }
            Location::Own(url) => {
                self.bytes.push(OWN_URL);
                self.address(url.as_str(), file);
            }
            Location::Service { types, path } => {
                self.bytes.push(SERVICE);
                let known = self.services.iter().position(|known| known == types);
                let index = known.unwrap_or_else(|| {
                    self.services.push(types);
                    self.services.len() - 1
                });
                self.number(index);
                self.path(path, file);
            }
        }
    }

    fn expectation(&mut self, expectation: &Expectation, file: &str) {
        match expectation {
            Expectation::Known(expected) => {
                self.bytes.push(KNOWN);
                self.number(expected.iter().count());
                for digest in expected.iter() {
                    self.bytes.push(algorithm_byte(Some(digest.algorithm())));
                    self.bytes.extend_from_slice(digest.bytes());
                }
            }
            Expectation::Promised(promises) => self.promises(PROMISED, promises, file),
            Expectation::Required(promises) => self.promises(REQUIRED, promises, file),
            Expectation::FirstSeen => self.bytes.push(FIRST_SEEN),
        }
    }

    fn promises(&mut self, kind: u8, promises: &[Promise], file: &str) {
        self.bytes.push(kind);
        self.number(promises.len());
        for promise in promises {
            self.bytes.push(algorithm_byte(promise.algorithm));
            self.location(&promise.location, file);
        }
    }
}

fn algorithm_byte(algorithm: Option<Algorithm>) -> u8 {
    let number = |algorithm| Algorithm::ALL.iter().position(|it| *it == algorithm);
    let number = algorithm.and_then(number).map_or(0, |number| number + 1);
    u8::try_from(number).unwrap_or_default()
}

impl PackedAsset<'_> {
    /// All facts of the asset; `None` where they were not packed by [`PackedFacts::push`].
    #[must_use]
    pub fn facts(&self) -> Option<AssetFacts> {
        let mut reader = self.rest;
        Some(AssetFacts {
            file: self.file.into(),
            version: self.version.into(),
            location: reader.location(self.list, self.file)?,
            expectation: reader.expectation(self.list, self.file)?,
            published: self.published,
            mutable: self.is_mutable,
            runs_on: self.runs_on.into(),
            is_withdrawn: self.is_withdrawn,
        })
    }
}

/// Reads what [`PackedFacts`] wrote.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.all.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<usize> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
            shift += 7;
        }
    }

    fn own_text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn shared_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        if length == 0 {
            return Some(&[]);
        }
        let from = self.at;
        match self.number()? {
            0 => self.take(length),
            back => {
                let start = from.checked_sub(back)?;
                self.all.get(start..start.checked_add(length)?)
            }
        }
    }

    fn shared_text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.shared_bytes()?).ok()
    }

    fn address(&mut self, file: &str) -> Option<String> {
        let same = self.number()?;
        let before = self.shared_bytes()?;
        let end = file
            .as_bytes()
            .get(file.len().checked_sub(same)?..)
            .unwrap_or_default();
        String::from_utf8([before, end].concat()).ok()
    }

    fn path(&mut self, file: &str) -> Option<UpstreamPath> {
        let (is_encoded, has_query) = (self.byte()? != 0, self.byte()? != 0);
        let encoded = if is_encoded {
            Some(self.address(file)?)
        } else {
            None
        };
        let query = if has_query {
            Some(String::from_utf8(self.own_text()?.to_vec()).ok()?)
        } else {
            None
        };
        Some(UpstreamPath::from_parts(encoded, query))
    }

    fn location(&mut self, list: &PackedFacts, file: &str) -> Option<Location> {
        Some(match self.byte()? {
            PATH => Location::Path(self.path(file)?),
            BESIDE => Location::Beside(self.path(file)?),
            URL => Location::Url(Url::parse(&self.address(file)?).ok()?),
            OWN_URL => Location::Own(Url::parse(&self.address(file)?).ok()?),
            SERVICE => Location::Service {
                types: list.services.get(self.number()?)?,
                path: self.path(file)?,
            },
            _ => return None,
        })
    }

    /// The algorithm of that byte; `None` where it stands for none.
    fn algorithm(byte: u8) -> Option<Algorithm> {
        let index = usize::from(byte).checked_sub(1)?;
        Algorithm::ALL.get(index).copied()
    }

    fn expectation(&mut self, list: &PackedFacts, file: &str) -> Option<Expectation> {
        match self.byte()? {
            KNOWN => {
                let mut expected = Expected::none();
                for _ in 0..self.number()? {
                    let algorithm = Self::algorithm(self.byte()?)?;
                    let rest = self.all.get(self.at..)?;
                    let digest = Digest::from_bytes(algorithm, rest)?;
                    self.at += digest.bytes().len();
                    expected.push(digest);
                }
                Some(Expectation::Known(expected))
            }
            PROMISED => self.promises(list, file).map(Expectation::Promised),
            REQUIRED => self.promises(list, file).map(Expectation::Required),
            FIRST_SEEN => Some(Expectation::FirstSeen),
            _ => None,
        }
    }

    fn promises(&mut self, list: &PackedFacts, file: &str) -> Option<Vec<Promise>> {
        let count = self.number()?;
        let promises = (0..count).map(|_| {
            Some(Promise {
                algorithm: Self::algorithm(self.byte()?),
                location: self.location(list, file)?,
            })
        });
        promises.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url() -> impl Strategy<Value = Url> {
        "[a-z]{1,4}\\.example/[a-zA-Z0-9/._%é-]{0,30}"
            .prop_map(|rest| Url::parse(&format!("https://{rest}")).unwrap())
    }

    fn path() -> impl Strategy<Value = UpstreamPath> {
        ("[a-z./é-]{0,12}", proptest::option::of("[a-z=&]{1,6}")).prop_map(|(path, query)| {
            UpstreamPath::new(&path).with_query(&query.unwrap_or_default())
        })
    }

    fn location() -> impl Strategy<Value = Location> {
        const TYPES: &[&[&str]] = &[&["Flat/1.0"], &["Other", "Other/2"]];
        prop_oneof![
            path().prop_map(Location::Path),
            path().prop_map(Location::Beside),
            url().prop_map(Location::Url),
            url().prop_map(Location::Own),
            (0..2usize, path()).prop_map(|(types, path)| Location::Service {
                types: TYPES[types],
                path
            }),
        ]
    }

    fn expectation() -> impl Strategy<Value = Expectation> {
        let promises = || {
            let algorithm = proptest::option::of(Just(Algorithm::Sha1));
            let one = (location(), algorithm).prop_map(|(location, algorithm)| Promise {
                location,
                algorithm,
            });
            proptest::collection::vec(one, 0..3)
        };
        let digest = |text: [u8; 32]| {
            let short = Digest::from_bytes(Algorithm::Sha1, &text).unwrap();
            let long = Digest::from_bytes(Algorithm::Sha256, &text).unwrap();
            Expectation::Known([short, long].into_iter().collect())
        };
        prop_oneof![
            any::<[u8; 32]>().prop_map(digest),
            promises().prop_map(Expectation::Promised),
            promises().prop_map(Expectation::Required),
            Just(Expectation::FirstSeen),
        ]
    }

    fn asset() -> impl Strategy<Value = AssetFacts> {
        (
            "[a-z0-9./é-]{0,20}",
            "[0-9.]{0,3}",
            location(),
            expectation(),
            proptest::option::of((-1_000_000_000i64..2_000_000_000, 0i32..1_000_000_000)),
            any::<(bool, bool)>(),
            "(>=3)?",
        )
            .prop_map(
                |(file, version, location, expectation, date, flags, runs_on)| AssetFacts {
                    file: file.into(),
                    version: version.into(),
                    location,
                    expectation,
                    published: date.and_then(|(second, rest)| Timestamp::new(second, rest).ok()),
                    mutable: flags.0,
                    runs_on: runs_on.into(),
                    is_withdrawn: flags.1,
                },
            )
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out_again(assets in proptest::collection::vec(asset(), 0..12)) {
            let mut packed = PackedFacts::new();
            for asset in &assets {
                packed.push(asset);
            }
            let facts = Facts::new(Format::Npm, packed);
            let out: Option<Vec<_>> = facts.iter().map(|asset| asset.facts()).collect();
            prop_assert_eq!(out.as_deref(), Some(&assets[..]));
            for asset in &assets {
                let first = assets.iter().find(|it| it.file == asset.file);
                let found = facts.file(&asset.file).unwrap().facts();
                prop_assert_eq!(found.as_ref(), first);
                let of_version = facts.version(&asset.version).unwrap();
                prop_assert_eq!(of_version.version, &*asset.version);
            }
            let versions: std::collections::BTreeSet<_> = assets.iter().map(|it| it.version.clone()).collect();
            prop_assert_eq!(facts.versions().count(), versions.len());
        }
    }

    #[test]
    fn an_asset_of_a_usual_registry_takes_few_bytes() {
        let mut packed = PackedFacts::new();
        for number in 0..1000 {
            packed.push(&AssetFacts {
                file: format!("a-{number}.0.0.tgz").into(),
                version: format!("{number}.0.0").into(),
                location: Location::Url(
                    Url::parse(&format!("https://npm.example/a/-/a-{number}.0.0.tgz")).unwrap(),
                ),
                expectation: Expectation::Known(
                    Digest::from_bytes(Algorithm::Sha1, &[7; 20])
                        .into_iter()
                        .collect(),
                ),
                published: Timestamp::new(1_500_000_000, 0).ok(),
                mutable: false,
                runs_on: Box::default(),
                is_withdrawn: false,
            });
        }
        let facts = Facts::new(Format::Npm, packed);
        assert!(facts.weight() < 100_000, "{}", facts.weight());
        assert!(facts.file("a-7.0.0.tgz").is_some());
        assert!(facts.file("a-1000.0.0.tgz").is_none());
    }
}
