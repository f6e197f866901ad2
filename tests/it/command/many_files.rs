//! More files than are kept open at one time are read again and again.

use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use tokio::time::timeout;

use super::{Setup, signal};
use crate::support::larder::config;
use crate::support::{Reply, Upstream, sha1};

const FILES: usize = 4000;
const READERS: usize = 8;
const PASSES: usize = 10;

/// As different as files are, and larger than what is served from memory here.
fn content(number: usize) -> Bytes {
    format!("{number:08}").repeat(256).into()
}

fn path(number: usize) -> String {
    format!("x/a{number}/1/a{number}-1.jar")
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_files_are_read_larder_goes_on_answering_and_ends() {
    let upstream = Upstream::start().await;
    for number in 0..FILES {
        let (path, content) = (format!("/maven2/{}", path(number)), content(number));
        let checksum = Reply::typed("text/plain", sha1(&content));
        upstream.put(&format!("{path}.sha1"), checksum);
        upstream.put(&path, Reply::bytes(content));
    }
    // All go through pages, and a part of them has to leave again.
    let cache = "[cache]\nrendered_disk = 0\nmin_free = 0\nsmall_blob = \"1KiB\"\nblob_mapped = \"1MiB\"\n[log]\nlevel = \"warn\"\n";
    let setup = Setup::new(&config(&upstream, cache));
    let (mut child, url) = setup.serve_unheard(std::process::Stdio::null()).await;
    let client = |idle| {
        let client = reqwest::Client::builder().pool_max_idle_per_host(idle);
        client.timeout(Duration::from_secs(20)).build().unwrap()
    };
    let (kept, new) = (client(READERS), client(0));
    for pass in 0..PASSES {
        let client = if pass % 2 == 0 { &kept } else { &new };
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (client, url) = (client.clone(), url.clone());
                tokio::spawn(async move {
                    for number in (reader..FILES).step_by(READERS) {
                        let asked = client.get(format!("{url}/maven/public/{}", path(number)));
                        let answer = asked.send().await.unwrap();
                        assert_eq!(answer.status(), 200, "pass {pass}, file {number}");
                        assert!(answer.bytes().await.unwrap() == content(number));
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }
    }
    let ready = new.get(format!("{url}/-/ready")).send().await.unwrap();
    assert_eq!(ready.status(), 200);
    signal(&child, Signal::TERM);
    let ended = timeout(Duration::from_secs(20), child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
}
