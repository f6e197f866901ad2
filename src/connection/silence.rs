//! A registry that takes requests and says nothing is waited for once. From then on what is stored is
//! given at once, while one request at a time finds out whether the registry is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

/// Whether a registry is silent.
#[derive(Debug, Default)]
pub struct Silence {
    /// The connection's name, for the log.
    name: String,
    is_silent: AtomicBool,
    is_probed: Arc<AtomicBool>,
}

/// The one request that finds out whether a silent registry is back; held while it is under way.
#[derive(Debug)]
pub struct Probe(Arc<AtomicBool>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Silence {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The registry was waited for in vain.
    pub fn begin(&self) {
        if !self.is_silent.swap(true, Ordering::AcqRel) {
            warn!(connection = %self.name, "Connection `{}` does not answer in time; what is stored is served at once, and one request at a time asks whether it is back", self.name);
        }
    }

    /// The registry answered, and its answer came whole.
    pub fn end(&self) {
        // Each answer comes by here: a load leaves the line shared between cores.
        if self.is_on() && self.is_silent.swap(false, Ordering::AcqRel) {
            info!(connection = %self.name, "Connection `{}` answers again", self.name);
        }
    }

    pub fn is_on(&self) -> bool {
        self.is_silent.load(Ordering::Acquire)
    }

    /// The place of the one who asks; `None` where somebody has it.
    pub fn probe(&self) -> Option<Probe> {
        let is_probed = self.is_probed.swap(true, Ordering::AcqRel);
        (!is_probed).then(|| Probe(Arc::clone(&self.is_probed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_while_it_lasts() {
        let silence = Silence::default();
        silence.end();
        assert!(!silence.is_on());
        silence.begin();
        silence.begin();
        assert!(silence.is_on());
        let probe = silence.probe();
        assert!(probe.is_some() && silence.probe().is_none());
        drop(probe);
        assert!(silence.probe().is_some());
        silence.end();
        assert!(!silence.is_on());
    }
}
