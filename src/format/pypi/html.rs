//! The HTML form of a project's page (PEP 503 with 592, 629, 658, 708, 714, 740).

use std::collections::BTreeMap;

use html5gum::{DefaultEmitter, Token, Tokenizer};
use serde_json::Value;
use url::Url;

use super::page::{File, Page, Place, digests};
use crate::format::{FormatError, Upstream};

/// The attributes that promise a metadata file (PEP 714, 658).
const PROMISES: [&str; 2] = ["data-core-metadata", "data-dist-info-metadata"];

/// `Name=value` pairs of one hash, as PEP 503 and 658 write them.
fn hash_pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

pub fn read(upstream: &Upstream<'_>) -> Result<Page, FormatError> {
    std::str::from_utf8(upstream.bytes)?;
    let mut page = Page {
        is_json: false,
        files: Vec::new(),
        meta: BTreeMap::new(),
        name: None,
    };
    let mut base = upstream.url.clone();
    let mut anchor: Option<File> = None;
    let mut text = String::new();
    let tokens =
        Tokenizer::new_with_emitter(upstream.bytes, DefaultEmitter::<usize>::new_with_span());
    for token in tokens {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let attributes: BTreeMap<String, (String, std::ops::Range<usize>)> = tag
                    .attributes
                    .iter()
                    .map(|(name, value)| {
                        let range = value.span.start..value.span.end;
                        (lossy(name), (lossy(&value.value), range))
                    })
                    .collect();
                let get = |name: &str| attributes.get(name).map(|(value, _)| value.as_str());
                match lossy(&tag.name).as_str() {
                    "base" => {
                        if let Some(url) = get("href").and_then(|href| base.join(href).ok()) {
                            base = url;
                        }
                    }
                    "meta" => meta(&mut page.meta, get("name"), get("content")),
                    "a" => {
                        text.clear();
                        anchor = get("href")
                            .and_then(|href| base.join(href).ok())
                            .map(|url| file(url, tag.span.start, &attributes));
                    }
                    _ => {}
                }
            }
            Token::String(piece) if anchor.is_some() => text.push_str(&lossy(&piece.value)),
            Token::EndTag(tag) if lossy(&tag.name) == "a" => {
                if let Some(mut file) = anchor.take() {
                    file.range.end = tag.span.end;
                    file.name = file_name(&file.url, text.trim());
                    page.files.push(file);
                }
            }
            _ => {}
        }
    }
    Ok(page)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The anchor's text is the file name by PEP 503; some indexes put something else there.
fn file_name(url: &Url, text: &str) -> String {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    let decoded = percent_encoding::percent_decode_str(last).decode_utf8_lossy();
    if decoded.is_empty() {
        text.to_owned()
    } else {
        decoded.into_owned()
    }
}

fn meta(meta: &mut BTreeMap<String, Value>, name: Option<&str>, content: Option<&str>) {
    let (Some(name), Some(content)) = (name.and_then(|name| name.strip_prefix("pypi:")), content)
    else {
        return;
    };
    match name {
        "repository-version" => {
            meta.insert("api-version".to_owned(), Value::from(content));
        }
        // PEP 708 repeats the tag for each.
        "tracks" | "alternate-locations" => {
            if let Value::Array(all) = meta
                .entry(name.to_owned())
                .or_insert_with(|| Value::Array(Vec::new()))
            {
                all.push(Value::from(content));
            }
        }
        _ => {
            meta.insert(name.to_owned(), Value::from(content));
        }
    }
}

fn file(
    mut url: Url,
    start: usize,
    attributes: &BTreeMap<String, (String, std::ops::Range<usize>)>,
) -> File {
    let get = |name: &str| attributes.get(name).map(|(value, _)| value.clone());
    let hashes: BTreeMap<_, _> = url.fragment().and_then(hash_pair).into_iter().collect();
    let bare = {
        url.set_fragment(None);
        url
    };
    let [core, old] = PROMISES;
    let metadata = get(core).or_else(|| get(old));
    let metadata_hashes: BTreeMap<_, _> = metadata
        .as_deref()
        .and_then(hash_pair)
        .into_iter()
        .collect();
    let metadata = metadata.filter(|text| text != "false");
    let promises = PROMISES
        .iter()
        .filter(|_| metadata.is_some())
        .filter_map(|name| Some(attributes.get(*name)?.1.clone()))
        .collect();
    let provenance = get("data-provenance").and_then(|text| bare.join(&text).ok());
    let mut addresses = Vec::new();
    for (attribute, url) in [
        ("href", Some(&bare)),
        ("data-provenance", provenance.as_ref()),
    ] {
        if let (Some((_, range)), Some(url)) = (attributes.get(attribute), url) {
            addresses.push(Place {
                range: range.clone(),
                attribute,
                url: url.clone(),
            });
        }
    }
    File {
        name: String::new(),
        digests: digests(&hashes),
        hashes,
        requires_python: get("data-requires-python"),
        yanked: get("data-yanked"),
        metadata: metadata.map(|_| digests(&metadata_hashes)),
        metadata_hashes,
        promises,
        signed: get("data-gpg-sig").as_deref() == Some("true"),
        provenance,
        // The HTML form has no dates.
        uploaded: None,
        range: start..start,
        addresses,
        url: bare,
    }
}
