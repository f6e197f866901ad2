//! Downloads that are passed on without being kept, because the store has no room: verified all the
//! same, with their last piece held back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::LAST_MODIFIED;

use super::asset::{AssetFetcher, WantedAsset, unverified};
use super::body::DownloadBody;
use super::document::media_type;
use crate::package::Digester;
use crate::problem::Problem;
use crate::store::{self, DownloadHead, Onward, Relay, RelaySender};

/// How much of the end is held back.
const HELD_BACK_BYTES: usize = 64 * 1024;

/// A body on its way through.
pub struct PassThrough {
    pub head: DownloadHead,
    pub pieces: Relay,
}

impl AssetFetcher {
    /// Opens a download for one client alone.
    ///
    /// # Errors
    /// Where upstream does not give it.
    pub async fn pass(self: &Arc<Self>, wanted: &WantedAsset) -> Result<PassThrough, Problem> {
        let ask = self.ask_for(wanted, HeaderMap::new());
        let opened = wanted.connection.ask(&ask).await.map_err(|error| {
            error.problem(&wanted.connection.name, &wanted.key.asset.to_string())
        })?;
        let head = DownloadHead {
            size: opened.length(),
            media_type: media_type(&opened.headers),
            last_modified: opened.header(LAST_MODIFIED),
        };
        let body = DownloadBody::new(opened, self.config.retries);
        let digester = Digester::new(&wanted.algorithms());
        let pieces = self.relay(wanted, body, digester);
        Ok(PassThrough { head, pieces })
    }

    /// The way on of a download for which there is no more room. The first to take it gets the body that
    /// is open, the others ask for the rest themselves.
    pub(super) fn onward(
        self: &Arc<Self>,
        wanted: &WantedAsset,
        body: DownloadBody,
        digester: Digester,
    ) -> Onward {
        let (fetcher, wanted, at, rest) =
            (Arc::clone(self), wanted.clone(), body.at(), body.rest());
        let open = Mutex::new(Some(body));
        Onward::new(at, move || {
            let open = open.lock().unwrap_or_else(PoisonError::into_inner).take();
            fetcher.relay(
                &wanted,
                open.unwrap_or_else(|| rest.rest()),
                digester.clone(),
            )
        })
    }

    /// Passes the pieces of the body on. `digester` has seen what came before them.
    fn relay(
        self: &Arc<Self>,
        wanted: &WantedAsset,
        body: DownloadBody,
        digester: Digester,
    ) -> Relay {
        let (sender, relay) = Relay::new(self.config.pieces_ahead_max);
        let (fetcher, wanted) = (Arc::clone(self), wanted.clone());
        self.tasks.spawn(async move {
            let passed = fetcher.pass_on(&wanted, body, digester, &sender).await;
            sender.end(passed).await;
        });
        relay
    }

    async fn pass_on(
        &self,
        wanted: &WantedAsset,
        mut body: DownloadBody,
        mut digester: Digester,
        sender: &RelaySender,
    ) -> Result<(), Problem> {
        let what = wanted.key.asset.to_string();
        let failed =
            |error: crate::connection::Error| error.problem(&wanted.connection.name, &what);
        let mut held = VecDeque::new();
        let mut held_bytes = 0;
        while let Some(piece) = body.piece(self, wanted).await.map_err(failed)? {
            digester.update(&piece);
            held_bytes += piece.len();
            held.push_back(piece);
            while let Some(first) = held
                .front()
                .filter(|first| held_bytes - first.len() >= HELD_BACK_BYTES)
            {
                held_bytes -= first.len();
                let Some(first) = held.pop_front() else { break };
                if !sender.send(first).await {
                    return Ok(());
                }
            }
        }
        let expected = self.expected(wanted).await.map_err(failed)?;
        if let Some((promised, found)) = expected.broken_by(&digester.finish()) {
            let error = store::Error::Unverified {
                promised,
                found: found.map_or_else(String::new, |found| found.to_string()),
            };
            self.promises.note_broken(&wanted.connection, &what, &error);
            return Err(unverified(wanted, error));
        }
        for piece in held {
            if !sender.send(piece).await {
                return Ok(());
            }
        }
        Ok(())
    }
}
