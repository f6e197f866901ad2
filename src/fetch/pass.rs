//! A download that is passed on without being kept, because the store has no room: verified all
//! the same, with its last piece held back.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::LAST_MODIFIED;
use tokio::sync::mpsc;

use super::asset::{AssetFetcher, WantedAsset, unverified};
use super::document::media_type;
use crate::package::Digester;
use crate::problem::Problem;
use crate::store::{self, DownloadHead};

/// How much of the end is held back.
const HELD_BACK_BYTES: usize = 64 * 1024;

/// A body on its way through.
pub struct PassThrough {
    pub head: DownloadHead,
    pub pieces: mpsc::Receiver<Result<Bytes, Problem>>,
}

impl AssetFetcher {
    /// Opens a download for one client alone.
    ///
    /// # Errors
    /// Where upstream does not give it.
    pub async fn pass(self: &Arc<Self>, wanted: &WantedAsset) -> Result<PassThrough, Problem> {
        let what = wanted.key.asset.to_string();
        let ask = self.ask_for(wanted, HeaderMap::new());
        let mut opened = wanted
            .connection
            .ask(&ask)
            .await
            .map_err(|error| error.problem(&wanted.connection.name, &what))?;
        let head = DownloadHead {
            size: opened.length(),
            media_type: media_type(&opened.headers),
            last_modified: opened.header(LAST_MODIFIED),
        };
        let (sender, pieces) = mpsc::channel(self.config.pieces_ahead_max);
        let (fetcher, wanted) = (Arc::clone(self), wanted.clone());
        self.tasks.spawn(async move {
            let mut digester = Digester::new(&wanted.algorithms());
            let mut held = VecDeque::new();
            let mut held_bytes = 0;
            let failed =
                |error: crate::connection::Error| error.problem(&wanted.connection.name, &what);
            loop {
                match opened.piece().await {
                    Ok(Some(piece)) => {
                        digester.update(&piece);
                        held_bytes += piece.len();
                        held.push_back(piece);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        let _ = sender.send(Err(failed(error))).await;
                        return;
                    }
                }
                while let Some(first) = held
                    .front()
                    .filter(|first| held_bytes - first.len() >= HELD_BACK_BYTES)
                {
                    held_bytes -= first.len();
                    let Some(first) = held.pop_front() else { break };
                    if sender.send(Ok(first)).await.is_err() {
                        return;
                    }
                }
            }
            let broken = match fetcher.expected(&wanted).await {
                Ok(expected) => expected.broken_by(&digester.finish()),
                Err(error) => {
                    let _ = sender.send(Err(failed(error))).await;
                    return;
                }
            };
            if let Some((promised, found)) = broken {
                let error = store::Error::Unverified {
                    promised,
                    found: found.map_or_else(String::new, |found| found.to_string()),
                };
                fetcher
                    .promises
                    .note_broken(&wanted.connection, &what, &error);
                let _ = sender.send(Err(unverified(&wanted, error))).await;
                return;
            }
            for piece in held {
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        });
        Ok(PassThrough { head, pieces })
    }
}
