//! A load generator: sockets that ask for one thing again and again and read every byte of the
//! answer, as a client does. Each thread waits on its own share of the sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// What is asked, of whom, and by how many.
#[derive(Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub request: Vec<u8>,
    pub sockets: usize,
    pub threads: usize,
    pub time: Duration,
}

/// What was had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Had {
    pub requests: u64,
    pub body_bytes: u64,
    pub seconds: f64,
    /// CPU seconds of the generator's own threads.
    pub cpu: f64,
}

/// Asks for `load.time`. Every answer has to be a 200 whose body is as long as `body_bytes`.
pub fn run(load: &Load, body_bytes: u64) -> Result<Had, String> {
    let share = load.sockets.div_ceil(load.threads);
    let started = Instant::now();
    let threads: Vec<_> = (0..load.threads)
        .map(|_| {
            let load = load.clone();
            std::thread::spawn(move || generate(&load, share, body_bytes))
        })
        .collect();
    let mut had = Had::default();
    for thread in threads {
        let part = thread.join().map_err(|_| "a generator panicked")??;
        had.requests += part.requests;
        had.body_bytes += part.body_bytes;
        had.cpu += part.cpu;
    }
    had.seconds = started.elapsed().as_secs_f64();
    Ok(had)
}

struct Socket {
    stream: TcpStream,
    unsent: usize,
    answer: Answer,
}

fn generate(load: &Load, sockets: usize, body_bytes: u64) -> Result<Had, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", load.address);
    let mut poll = Poll::new().map_err(failed)?;
    let mut open = Vec::new();
    for index in 0..sockets {
        let mut stream = TcpStream::connect(load.address).map_err(failed)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(index), interest)
            .map_err(failed)?;
        open.push(Socket {
            stream,
            unsent: 0,
            answer: Answer::default(),
        });
    }
    let mut had = Had::default();
    let mut events = Events::with_capacity(sockets);
    let mut buffer = vec![0; 256 * 1024];
    let end = Instant::now() + load.time;
    let mut under_way = sockets;
    while under_way > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(30)))
            .map_err(failed)?;
        if events.is_empty() {
            return Err(format!("{}: nothing for 30 seconds", load.address));
        }
        for event in &events {
            let socket = &mut open[event.token().0];
            loop {
                if socket.unsent < load.request.len() {
                    match socket.stream.write(&load.request[socket.unsent..]) {
                        Ok(count) => socket.unsent += count,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) if error.kind() == ErrorKind::NotConnected => break,
                        Err(error) => return Err(failed(error)),
                    }
                    continue;
                }
                let count = match socket.stream.read(&mut buffer) {
                    Ok(0) => return Err(format!("{}: closed", load.address)),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(failed(error)),
                };
                let Some(body) = socket.answer.take(&buffer[..count])? else {
                    continue;
                };
                if body != body_bytes {
                    return Err(format!(
                        "{}: {body} bytes where {body_bytes} were due",
                        load.address
                    ));
                }
                had.requests += 1;
                had.body_bytes += body;
                socket.answer = Answer::default();
                if Instant::now() < end {
                    socket.unsent = 0;
                } else {
                    under_way -= 1;
                    break;
                }
            }
        }
    }
    had.cpu = thread_seconds();
    Ok(had)
}

/// CPU seconds of this thread.
fn thread_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// An answer as far as it has come.
#[derive(Default)]
struct Answer {
    head: Vec<u8>,
    frame: Option<Frame>,
    body: u64,
}

enum Frame {
    Length(u64),
    Chunked(Chunks),
}

impl Answer {
    /// Takes bytes; the body's length when the answer is whole.
    fn take(&mut self, mut bytes: &[u8]) -> Result<Option<u64>, String> {
        if self.frame.is_none() {
            let from = self.head.len().saturating_sub(3);
            self.head.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(&self.head[from..], b"\r\n\r\n") else {
                return Ok(None);
            };
            let end = from + end + 4;
            let before = self.head.len() - bytes.len();
            bytes = &bytes[end - before..];
            self.frame = Some(frame(&self.head[..end])?);
        }
        match self.frame.as_mut() {
            Some(Frame::Length(length)) => {
                self.body += bytes.len() as u64;
                Ok((self.body >= *length).then_some(self.body))
            }
            Some(Frame::Chunked(chunks)) => chunks.take(&mut self.body, bytes),
            None => Ok(None),
        }
    }
}

fn frame(head: &[u8]) -> Result<Frame, String> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200") && !text.starts_with("http/1.1 206") {
        return Err(text.lines().next().unwrap_or_default().to_owned());
    }
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    if let Some(length) = value("content-length:") {
        return Ok(Frame::Length(
            length.trim().parse().map_err(|_| text.clone())?,
        ));
    }
    Ok(Frame::Chunked(Chunks::default()))
}

/// A chunked body (RFC 9112 §7.1) on its way.
#[derive(Default)]
struct Chunks {
    /// Of the chunk under way.
    left: u64,
    /// A size line as far as it has come.
    line: Vec<u8>,
    is_last: bool,
}

impl Chunks {
    fn take(&mut self, body: &mut u64, mut bytes: &[u8]) -> Result<Option<u64>, String> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len() as u64);
                self.left -= count;
                *body += count;
                bytes = &bytes[count as usize..];
                continue;
            }
            self.line.push(bytes[0]);
            bytes = &bytes[1..];
            if !self.line.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let size = String::from_utf8_lossy(&line).trim().to_owned();
            if size.is_empty() {
                // The line end behind a chunk; behind the last one, the end of all.
                if self.is_last {
                    return Ok(Some(*body));
                }
                continue;
            }
            self.left = u64::from_str_radix(&size, 16).map_err(|_| format!("chunk `{size}`"))?;
            self.is_last = self.left == 0;
        }
        Ok(None)
    }
}
