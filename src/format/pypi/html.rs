//! The HTML form of a project's page (PEP 503 with 592, 629, 658, 708, 714, 740).

use std::collections::BTreeMap;

use html5gum::{DefaultEmitter, Token, Tokenizer};
use serde_json::Value;
use url::Url;

use super::page::{PageFile, Place, SimplePage, Visit, digests, last_segment};
use crate::{FormatError, Upstream, text};

/// The attributes that promise a metadata file (PEP 714, 658).
const PROMISES: [&str; 2] = ["data-core-metadata", "data-dist-info-metadata"];

/// `Name=value` pairs of one hash, as PEP 503 and 658 write them.
fn hash_pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

pub fn read(upstream: &Upstream<'_>, visit: Visit<'_>) -> Result<SimplePage, FormatError> {
    let (_, whole) = text::utf8(upstream.bytes)?;
    let mut page = SimplePage {
        is_tidy: true,
        meta: BTreeMap::new(),
        name: None,
    };
    let mut base: Option<Url> = None;
    let mut anchor: Option<PageFile> = None;
    let mut text = String::new();
    let mut anchors = 0;
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
                        // Ours would be taken relative to it.
                        page.is_tidy = false;
                        if base.is_none() {
                            base = get("href").and_then(|href| upstream.url.join(href).ok());
                        }
                    }
                    "meta" => meta(&mut page.meta, get("name"), get("content")),
                    "a" => {
                        anchors += 1;
                        end(&mut page, &mut anchor, &mut text, None, visit)?;
                        anchor = get("href")
                            .and_then(|href| base.as_ref().unwrap_or(upstream.url).join(href).ok())
                            .filter(|url| matches!(url.scheme(), "http" | "https"))
                            .map(|url| file(url, tag.span.start, &attributes));
                        page.is_tidy &= anchor.is_some() || get("href").is_none();
                    }
                    _ => {}
                }
            }
            Token::String(piece) if anchor.is_some() => text.push_str(&lossy(&piece.value)),
            Token::EndTag(tag) if lossy(&tag.name) == "a" => {
                let at = Some(tag.span.end);
                end(&mut page, &mut anchor, &mut text, at, visit)?;
            }
            Token::Error(_) => page.is_tidy = false,
            _ => {}
        }
    }
    end(&mut page, &mut anchor, &mut text, None, visit)?;
    // Within comments, scripts and what else is not markup to this reader, another may see more.
    page.is_tidy &= anchors == written_anchors(whole);
    Ok(page)
}

/// Ends the link that is open. Readers take a link for one whether it has an end or not.
fn end(
    page: &mut SimplePage,
    anchor: &mut Option<PageFile>,
    text: &mut String,
    at: Option<usize>,
    visit: Visit<'_>,
) -> Result<(), FormatError> {
    if let Some(mut file) = anchor.take() {
        page.is_tidy &= at.is_some();
        file.range.end = at.unwrap_or(file.range.end);
        file.name = file_name(&file.url, text.trim());
        visit(file)?;
    }
    text.clear();
    Ok(())
}

/// How many places some reader could take for the beginning of a link.
fn written_anchors(text: &str) -> usize {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'<', bytes)
        .filter(|at| {
            let is_a = bytes
                .get(at + 1)
                .is_some_and(|byte| matches!(byte, b'a' | b'A'));
            let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_:.".contains(byte);
            is_a && !bytes.get(at + 2).is_some_and(goes_on)
        })
        .count()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The anchor's text is the file name by PEP 503; some indexes put something else there.
fn file_name(url: &Url, text: &str) -> String {
    let last = last_segment(url);
    if last.is_empty() {
        text.to_owned()
    } else {
        last
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
) -> PageFile {
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
    PageFile {
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
