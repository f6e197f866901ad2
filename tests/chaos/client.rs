//! Asks Larder, in time, and judges what every answer has to hold whatever was asked for.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::account::{Account, Wrong};
use super::stock::Format;
use crate::support::Chance;

/// A request without an answer by then hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Before Larder is asked again that is not there.
const PAUSE: Duration = Duration::from_millis(20);

/// Where commands go, on the socket for them.
pub const COMMAND: &str = "/command";

pub struct Ask {
    pub format: Format,
    pub method: Method,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Bytes>,
}

impl Ask {
    pub fn get(format: Format, path: impl Into<String>) -> Self {
        Self {
            format,
            method: Method::GET,
            path: path.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn send(format: Format, method: Method, path: String, body: Bytes) -> Self {
        Self {
            method,
            body: Some(body),
            ..Self::get(format, path)
        }
    }
}

/// An answer that came to its end.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The request and the answer, for whoever has to look into it.
    told: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as it was before it was compressed.
    pub fn unpacked(&self) -> Result<Vec<u8>, std::io::Error> {
        if self.header("content-encoding") != "gzip" {
            return Ok(self.body.to_vec());
        }
        let mut whole = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&self.body[..]);
        std::io::Read::read_to_end(&mut decoder, &mut whole)?;
        Ok(whole)
    }

    /// Whether it says that what was asked for cannot be had now.
    pub fn is_refused(&self) -> bool {
        matches!(self.status, 429 | 502 | 503 | 504)
    }
}

pub struct Client {
    one: reqwest::Client,
    two: reqwest::Client,
    /// Takes what operators do.
    control: reqwest::Client,
    pub url: String,
    pub account: Arc<Account>,
    /// What earlier answers were told apart by.
    pub etags: Mutex<HashMap<String, String>>,
    /// Where a document said that a file is.
    pub links: Mutex<HashMap<String, String>>,
}

impl Client {
    /// At Larder's address, and at the socket by which it takes commands.
    pub fn new(url: String, socket: PathBuf, account: Arc<Account>) -> Self {
        let builder = || {
            reqwest::Client::builder()
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_proxy()
                .timeout(DEADLINE)
                .redirect(reqwest::redirect::Policy::none())
        };
        Self {
            one: builder().http1_only().build().unwrap(),
            two: builder().http2_prior_knowledge().build().unwrap(),
            control: builder().unix_socket(socket).build().unwrap(),
            url,
            account,
            etags: Mutex::default(),
            links: Mutex::default(),
        }
    }

    /// Sends it; `None` where no whole answer came, as happens where Larder is killed.
    pub async fn ask(&self, chance: &mut Chance, ask: &Ask) -> Option<Answer> {
        let is_other = chance.of_100(10);
        let http = match ask.path.as_str() {
            COMMAND => &self.control,
            _ if is_other => &self.two,
            _ => &self.one,
        };
        let mut request = http.request(ask.method.clone(), format!("{}{}", self.url, ask.path));
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &ask.body {
            request = request.body(body.clone());
        }
        let answered = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
        };
        match answered.await {
            Ok((status, headers, body)) => {
                self.account.answered(ask.format);
                let told = told(ask, status, &headers, &body);
                let answer = Answer {
                    status,
                    headers,
                    body,
                    told,
                };
                if status == 500 {
                    self.wrong(Wrong::Internal, "", &answer);
                }
                if answer.is_refused() {
                    self.account.refused(ask.format);
                }
                Some(answer)
            }
            Err(error) if error.is_timeout() => {
                let story = format!("{} {} {:?}", ask.method, ask.path, ask.headers);
                self.account.wrong(Wrong::Hang, &story);
                None
            }
            Err(_) => {
                self.account.broken();
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    pub fn wrong(&self, wrong: Wrong, why: &str, answer: &Answer) {
        self.account
            .wrong(wrong, &format!("{why}\n    {}", answer.told));
    }

    /// The bytes of a file in one of the ways that clients ask for them. Gives the answer's status where
    /// there was one and it did not deliver.
    pub async fn file(
        &self,
        chance: &mut Chance,
        format: Format,
        path: &str,
        bytes: &Bytes,
    ) -> Option<Got> {
        let size = bytes.len() as u64;
        let mut ask = Ask::get(format, path);
        let etag = self.etags.lock().unwrap().get(path).cloned();
        match (chance.below(10), etag) {
            (0, _) => ask.method = Method::HEAD,
            (1, _) => {
                let from = chance.below(size);
                let to = from + chance.below(size - from);
                ask = ask.with("range", format!("bytes={from}-{to}"));
            }
            (2, _) => ask = ask.with("range", format!("bytes={}-", chance.below(size))),
            (3, _) => ask = ask.with("range", format!("bytes=-{}", 1 + chance.below(size))),
            (4, Some(etag)) => ask = ask.with("if-none-match", etag),
            (5, Some(etag)) => {
                let range = format!("bytes={}-", chance.below(size));
                ask = ask.with("range", range).with("if-range", etag);
            }
            _ => {}
        }
        if chance.of_100(50) {
            ask = ask.with("accept-encoding", "gzip");
        }
        let answer = self.ask(chance, &ask).await?;
        let has = |name: &str| ask.headers.iter().any(|(it, _)| *it == name);
        let is_right = match answer.status {
            200 if ask.method == Method::HEAD => {
                // The length of a file that is not here yet is not always known.
                let length = answer.header("content-length");
                length.is_empty() || length == size.to_string()
            }
            200 => answer.unpacked().is_ok_and(|body| body == bytes[..]),
            206 if has("range") => is_part(&answer, bytes),
            304 => has("if-none-match"),
            _ => return Some(Got::Other(answer)),
        };
        if is_right {
            let etag = answer.header("etag").to_owned();
            if !etag.is_empty() {
                self.etags.lock().unwrap().insert(path.to_owned(), etag);
            }
            self.account.verified(format);
        } else {
            let why = format!("{size} bytes were expected");
            self.wrong(Wrong::Bytes, &why, &answer);
        }
        Some(Got::File)
    }
}

/// What came of asking for a file.
pub enum Got {
    /// Bytes, which were compared.
    File,
    Other(Answer),
}

/// Whether the answer is the part of the whole that it says it is.
fn is_part(answer: &Answer, whole: &Bytes) -> bool {
    let part = || {
        let range = answer.header("content-range").strip_prefix("bytes ")?;
        let (range, size) = range.split_once('/')?;
        let (from, to) = range.split_once('-')?;
        let (from, to) = (from.parse::<usize>().ok()?, to.parse::<usize>().ok()?);
        (size == whole.len().to_string()).then_some(())?;
        whole.get(from..=to)
    };
    part().is_some_and(|part| part == &answer.body[..])
}

fn told(ask: &Ask, status: u16, headers: &HeaderMap, body: &Bytes) -> String {
    let said = String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned();
    let sent = ask.body.as_ref().map_or(0, Bytes::len);
    format!(
        "{} {} {:?} ({sent} bytes)\n    {status} {headers:?} {} bytes: {said:?}",
        ask.method,
        ask.path,
        ask.headers,
        body.len()
    )
}
