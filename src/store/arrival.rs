//! One download, shared while it comes in: its leader writes, its followers read the growing file.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::content::Content;
use super::incoming::Growing;
use super::map::{GROWING_WINDOW_BYTES, Pages};
use super::{Blob, NotKept, Onward, Pieces, Relay};
use crate::package::BlobId;
use crate::problem::{Decider, Kind, Problem};
use crate::task::Tasks;

/// How much of the end is held back until the digests match.
pub const HELD_BACK_BYTES: u64 = 64 * 1024;

/// The facts about a download that are known before its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DownloadHead {
    pub size: Option<u64>,
    pub media_type: String,
    pub last_modified: Option<String>,
}

/// How far a download's bytes can be trusted.
#[derive(Clone)]
pub enum DownloadProgress {
    Flowing,
    /// All bytes are in the file and are what was promised.
    Verified {
        blob: BlobId,
        size: u64,
    },
    /// There is no room for the rest: it is brought to each reader, verified on the way.
    Outgrown(Onward),
    Failed(Problem),
}

/// A download under way.
#[derive(Clone)]
pub struct Arrival {
    pub head: DownloadHead,
    content: Content,
    /// Windows on the whole file, where its size is known and it is not sealed.
    pages: Option<Arc<Pages>>,
    written: watch::Receiver<u64>,
    progress: watch::Receiver<DownloadProgress>,
}

impl Arrival {
    #[must_use]
    pub fn new(
        head: DownloadHead,
        Growing {
            content,
            written,
            windows,
        }: Growing,
        progress: watch::Receiver<DownloadProgress>,
    ) -> Self {
        let pages = match (&content, head.size) {
            (Content::Plain(file), Some(size)) => Some(Arc::new(Pages::of(
                Arc::clone(file),
                size,
                GROWING_WINDOW_BYTES,
                &windows,
            ))),
            _ => None,
        };
        Self {
            head,
            content,
            pages,
            written,
            progress,
        }
    }

    /// The name of the blob, once the bytes are verified.
    #[must_use]
    pub fn blob(&self) -> Option<BlobId> {
        match &*self.progress.borrow() {
            DownloadProgress::Verified { blob, .. } => Some(*blob),
            _ => None,
        }
    }

    /// Waits until there is something to hand out: what fails before that can still be told as a
    /// failure, and not only by a connection that is cut.
    ///
    /// # Errors
    /// Where the download failed.
    pub async fn begun(&self) -> Result<(), Problem> {
        self.follow(0, None).readable().await.map(drop)
    }

    /// Waits until all bytes are there and match their promised digests.
    ///
    /// # Errors
    /// Where they are not, or the download failed.
    pub async fn wait_until_verified(&self) -> Result<(), Problem> {
        let mut progress = self.progress.clone();
        let over = progress.wait_for(|progress| !matches!(progress, DownloadProgress::Flowing));
        match &*over.await.map_err(|_| left())? {
            DownloadProgress::Failed(problem) => Err(problem.clone()),
            DownloadProgress::Outgrown(_) => Err(outgrown()),
            DownloadProgress::Verified { .. } | DownloadProgress::Flowing => Ok(()),
        }
    }

    /// A reader of the bytes from `start` up to `end`, at its own speed.
    #[must_use]
    pub fn follow(&self, start: u64, end: Option<u64>) -> Follower {
        Follower {
            pieces: Pieces::of(self.content.clone()),
            arrival: self.clone(),
            at: start,
            end,
            rest: None,
        }
    }
}

pub(super) fn left() -> Problem {
    Problem::internal("the download stopped", "its leader is gone")
}

fn outgrown() -> Problem {
    Problem::new(
        Kind::Upstream,
        Decider::Larder,
        "it is larger than there is room",
    )
    .advice("make room: `cache.max_size`, or the disk")
}

/// One reader of an arrival. Dropping it costs nobody anything.
pub struct Follower {
    arrival: Arrival,
    pieces: Pieces,
    at: u64,
    end: Option<u64>,
    rest: Option<Relay>,
}

/// The part of a download that can be handed out now.
enum Readable {
    Bytes(u64),
    /// All that is not in the file.
    Rest(Onward),
    End,
}

impl Follower {
    /// The next bytes, as pages that the kernel alone should touch; `None` at the end.
    ///
    /// # Errors
    /// Where the download failed: what was handed out so far must not pass for the whole.
    pub async fn next_pages(&mut self, tasks: &Tasks) -> Result<Option<Bytes>, Problem> {
        let Some(pages) = self.arrival.pages.clone() else {
            return self.next(tasks).await;
        };
        let limit = match self.readable().await? {
            Readable::Bytes(limit) => limit,
            Readable::Rest(onward) => return self.rest(&onward).await,
            Readable::End => return Ok(None),
        };
        let piece = pages
            .at(self.at, limit)
            .map_err(|error| Problem::internal("a download cannot be read", error))?;
        self.at += piece.len() as u64;
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// The next bytes, read; `None` at the end.
    ///
    /// # Errors
    /// Returns the next piece in memory, as [`Follower::next_pages`] does in windows.
    pub async fn next(&mut self, tasks: &Tasks) -> Result<Option<Bytes>, Problem> {
        let limit = match self.readable().await? {
            Readable::Bytes(limit) => limit,
            Readable::Rest(onward) => return self.rest(&onward).await,
            Readable::End => return Ok(None),
        };
        let piece = self
            .pieces
            .read(self.at, limit, tasks)
            .await
            .map_err(|error| Problem::internal("a download cannot be read", error))?;
        if piece.is_empty() {
            return Err(Problem::internal(
                "a download is shorter than it was",
                "the file ended early",
            ));
        }
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }

    async fn rest(&mut self, onward: &Onward) -> Result<Option<Bytes>, Problem> {
        let rest = self.rest.get_or_insert_with(|| onward.relay());
        let piece = rest.next().await?;
        self.at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }

    /// The part that may be handed out now, waiting until there is something.
    async fn readable(&mut self) -> Result<Readable, Problem> {
        loop {
            let (limit, is_all) = match &*self.arrival.progress.borrow_and_update() {
                DownloadProgress::Failed(problem) => return Err(problem.clone()),
                // Its length is not known, so all of it was asked for.
                DownloadProgress::Outgrown(onward) if self.at >= onward.at() => {
                    return Ok(Readable::Rest(onward.clone()));
                }
                DownloadProgress::Outgrown(onward) => (onward.at(), false),
                DownloadProgress::Verified { size, .. } => (*size, true),
                DownloadProgress::Flowing => {
                    let written = *self.arrival.written.borrow_and_update();
                    // A part's own end, too: an answer that ends is taken for verified.
                    let limit = self.end.map_or(written, |end| written.min(end));
                    (limit.saturating_sub(HELD_BACK_BYTES), false)
                }
            };
            let limit = self.end.map_or(limit, |end| limit.min(end));
            if limit > self.at {
                return Ok(Readable::Bytes(limit - self.at));
            }
            if is_all || self.end.is_some_and(|end| self.at >= end) {
                return Ok(Readable::End);
            }
            let Arrival {
                written, progress, ..
            } = &mut self.arrival;
            tokio::select! {
                changed = progress.changed() => changed.map_err(|_| left())?,
                // The writer ends before the leader has verified: then progress alone tells.
                Ok(()) = written.changed() => {}
            }
        }
    }
}

/// How far an asset's fetch is.
#[derive(Clone)]
pub enum Phase<T> {
    Opening,
    Arriving(Arrival),
    /// In the store, with what was written down of it.
    Stored(Blob, T),
    /// Upstream has it and the store has no room: each client is passed its own download.
    Unkept(NotKept),
    Failed(Problem),
}

/// Fetches under way, by key.
pub struct Arrivals<K, T> {
    tasks: Tasks,
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Phase<T>>>>>,
}

/// The one who fetches for all.
pub struct Leader<T> {
    phase: watch::Sender<Phase<T>>,
}

impl<T> Leader<T> {
    pub fn is_at(&self, phase: Phase<T>) {
        self.phase.send_replace(phase);
    }
}

impl<K, T> Arrivals<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            under_way: Arc::default(),
        }
    }

    /// Joins the fetch of `key`, or starts one that is led to its end whoever leaves. Resolves to
    /// the first phase that a reply can be made of.
    pub async fn join<F>(&self, key: &K, lead: impl FnOnce(Leader<T>) -> F) -> Phase<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut phase = self.enter(key, lead);
        let settled = phase
            .wait_for(|phase| !matches!(phase, Phase::Opening))
            .await;
        match settled {
            Ok(phase) => phase.clone(),
            Err(_) => Phase::Failed(left()),
        }
    }

    /// Waits until a fetch of `key` that may be under way has ended.
    pub async fn wait_until_done(&self, key: &K) {
        let phase = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned();
        if let Some(mut phase) = phase {
            let under_way = |phase: &Phase<T>| matches!(phase, Phase::Opening | Phase::Arriving(_));
            let _ = phase.wait_for(|phase| !under_way(phase)).await;
        }
    }

    /// The keys of which something has come and is not in the store yet.
    pub fn arriving(&self, is_wanted: impl Fn(&K) -> bool) -> Vec<K> {
        let under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let arriving = under_way.iter().filter(|(key, phase)| {
            is_wanted(key) && !matches!(*phase.borrow(), Phase::Opening | Phase::Failed(_))
        });
        arriving.map(|(key, _)| key.clone()).collect()
    }

    fn enter<F>(&self, key: &K, lead: impl FnOnce(Leader<T>) -> F) -> watch::Receiver<Phase<T>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(phase) = under_way.get(key) {
            return phase.clone();
        }
        let (sender, phase) = watch::channel(Phase::Opening);
        let led = lead(Leader { phase: sender });
        let end = End {
            under_way: Arc::clone(&self.under_way),
            key: key.clone(),
        };
        under_way.insert(key.clone(), phase.clone());
        // A runtime that has ended drops what it is given at once, and the end takes this lock.
        drop(under_way);
        self.tasks.spawn(async move {
            let _end = end;
            led.await;
        });
        phase
    }
}

struct End<K: Eq + Hash, T> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Phase<T>>>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for End<K, T> {
    fn drop(&mut self) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ended = under_way.remove(&self.key);
        drop(under_way);
        // The phase may be the last to hold a file: let go of without the lock.
        drop(ended);
    }
}
