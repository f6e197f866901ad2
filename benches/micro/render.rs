//! What a document costs to render: a large packument with our addresses in it, the same with a
//! rule that hides half of it, and what is read from it: facts, and where a resolver goes next.

use std::fmt::Write as _;

use divan::Bencher;
use divan::counter::BytesCount;
use larder::format::{
    Address, DocumentEvidence, DocumentId, Documents, Prefetch, PrefetchInput, Protocol,
    RenderInput, Subject, Target, Upstream, View, npm,
};
use url::Url;

/// A packument of about ten megabytes.
fn packument() -> String {
    let mut text = String::from(r#"{"name":"big","dist-tags":{"latest":"1.0.0"},"versions":{"#);
    let readme = "Lorem ipsum dolor sit amet, \\\"tarball\\\": consectetur. ".repeat(60);
    for n in 0..2500 {
        let comma = if n == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}"{n}.0.0":{{"name":"big","version":"{n}.0.0","description":"{readme}","dependencies":{{"a":"^1.0.0","b":"^2.0.0"}},"dist":{{"tarball":"https://npm.example/big/-/big-{n}.0.0.tgz","shasum":"a9993e364706816aba3e25717850c26c9cd0d89d"}}}}"#
        )
        .unwrap();
    }
    text.push_str("}}");
    text
}

fn with_upstream<T>(text: &str, work: impl FnOnce(Upstream<'_>) -> T) -> T {
    let base = Url::parse("https://npm.example/").unwrap();
    work(Upstream {
        bytes: text.as_bytes(),
        media_type: "application/json",
        url: &base,
        base: &base,
        directory: None,
    })
}

fn render(bencher: Bencher<'_, '_>, hides: Option<fn(Subject<'_>) -> bool>) {
    let text = packument();
    let document = DocumentId {
        package: Some(npm::Npm.package("big").unwrap()),
        view: View::Npm(npm::NpmView::Packument),
    };
    let address = Address {
        base: "http://127.0.0.1:5273/npm/public/".to_owned(),
        kept: false,
    };
    bencher.counter(BytesCount::of_str(&text)).bench(|| {
        with_upstream(&text, |upstream| {
            let shows = |subject: Subject<'_>| hides.is_none_or(|hides| !hides(subject));
            npm::Npm
                .render(&RenderInput {
                    document: &document,
                    upstream,
                    address: &address,
                    shows: hides.is_some().then_some(&shows),
                    is_only_source: true,
                })
                .unwrap()
        })
    });
}

#[divan::bench]
fn packument_with_our_addresses(bencher: Bencher<'_, '_>) {
    render(bencher, None);
}

#[divan::bench]
fn packument_with_half_of_it_hidden(bencher: Bencher<'_, '_>) {
    render(
        bencher,
        Some(|subject| matches!(subject, Subject::Version(version) if version.len() % 2 == 0)),
    );
}

#[divan::bench]
fn facts_of_a_packument(bencher: Bencher<'_, '_>) {
    let text = packument();
    let package = npm::Npm.package("big").unwrap();
    bencher.counter(BytesCount::of_str(&text)).bench(|| {
        with_upstream(&text, |upstream| {
            npm::Npm
                .facts(&package, &upstream, larder::package::PackedFacts::new())
                .unwrap()
        })
    });
}

#[divan::bench]
fn leads_of_a_packument(bencher: Bencher<'_, '_>) {
    let text = packument();
    let of = Target::Document(DocumentId {
        package: Some(npm::Npm.package("big").unwrap()),
        view: View::Npm(npm::NpmView::Packument),
    });
    bencher.counter(BytesCount::of_str(&text)).bench(|| {
        with_upstream(&text, |upstream| {
            let input = PrefetchInput {
                of: &of,
                upstream,
                range: Some("^1.0.0"),
                shows: None,
            };
            npm::Npm.prefetch_hints(&input).unwrap()
        })
    });
}
