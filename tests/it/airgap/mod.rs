//! Behind the air gap: what is here, what is missing, what came in and how it is proven.

mod offline;

use crate::support::larder::{IMPATIENT, config};
use crate::support::{TestLarder, Upstream};

/// A Larder before an upstream with all formats, and the text of its configuration.
async fn open_side() -> (Upstream, TestLarder, String) {
    let upstream = Upstream::start().await;
    crate::support::nuget::serve(&upstream);
    let text = config(&upstream, IMPATIENT);
    let larder = TestLarder::with(&text).await;
    (upstream, larder, text)
}
