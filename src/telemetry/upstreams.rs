//! Upstreams that are away, and that are back: told as it happens.

use tokio::sync::broadcast;

/// Turns that wait to be told; whoever is slower misses the oldest.
const WAITING_MAX: usize = 256;

/// An upstream went away, or came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamChange {
    pub connection: String,
    /// Why it is away; none: it is back.
    pub cause: Option<String>,
}

/// Sends each change of an upstream's state to whoever listens.
pub struct Upstreams(broadcast::Sender<UpstreamChange>);

impl Default for Upstreams {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING_MAX))
    }
}

impl Upstreams {
    /// Tells whoever listens; nobody has to.
    pub fn tell(&self, change: UpstreamChange) {
        let _ = self.0.send(change);
    }

    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<UpstreamChange> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn whoever_is_slower_misses_the_oldest_changes() {
        let upstreams = Upstreams::default();
        let mut listener = upstreams.listen();
        let tell = |count: usize| {
            for number in 0..count {
                upstreams.tell(UpstreamChange {
                    connection: number.to_string(),
                    cause: None,
                });
            }
        };
        tell(WAITING_MAX);
        assert_eq!(listener.try_recv().unwrap().connection, "0");
        let mut listener = upstreams.listen();
        tell(WAITING_MAX + 1);
        assert_eq!(listener.try_recv(), Err(TryRecvError::Lagged(1)));
        assert_eq!(listener.try_recv().unwrap().connection, "1");
    }
}
