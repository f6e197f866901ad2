//! A socket that tells its [`Presence`] what it does, and ends where its client takes nothing.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::place::Presence;

/// The socket of a client.
pub struct WatchedSocket<S> {
    socket: S,
    presence: Arc<Presence>,
    write_timeout: Duration,
    stall: Option<Stall>,
    /// The timer of the last stall, for the next one.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A time in which the client takes nothing.
struct Stall {
    /// Bytes that it had not taken when this was last looked at.
    untaken: Option<u64>,
}

impl<S: AsFd> WatchedSocket<S> {
    pub fn new(socket: S, presence: Arc<Presence>, write_timeout: Duration) -> Self {
        Self {
            socket,
            presence,
            write_timeout,
            stall: None,
            timer: None,
        }
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.stall = None;
            if let Ok(count) = &written {
                self.presence.has_written(*count);
            }
            return Poll::Ready(written);
        }
        let mut timer = self.timer.take();
        if self.stall.is_none() {
            self.presence.is_now_blocked();
            let untaken = untaken(&self.socket);
            self.stall = Some(Stall { untaken });
            let end = Instant::now() + self.write_timeout;
            match &mut timer {
                Some(timer) => timer.as_mut().reset(end),
                None => timer = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        let outcome = self.stalled(context, timer.as_mut());
        self.timer = timer;
        outcome
    }

    fn stalled(
        &mut self,
        context: &mut Context<'_>,
        timer: Option<&mut Pin<Box<Sleep>>>,
    ) -> Poll<io::Result<usize>> {
        let (Some(timer), Some(stall)) = (timer, &mut self.stall) else {
            return Poll::Pending;
        };
        loop {
            ready!(timer.as_mut().poll(context));
            // The system asks for more only when much of what it holds is gone: at a slow reader that
            // takes longer than this.
            let now = untaken(&self.socket);
            let has_progress =
                matches!((now, stall.untaken), (Some(now), Some(before)) if now < before);
            if !has_progress {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client takes nothing (`server.write_timeout`)",
                )));
            }
            stall.untaken = now;
            self.presence.has_moved();
            timer.as_mut().reset(Instant::now() + self.write_timeout);
        }
    }
}

/// Bytes in the system's hands that the other end has not taken; `None` where the system does not say.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "a request of the system that no crate here has a safe word for"
)]
fn untaken(socket: &impl AsFd) -> Option<u64> {
    use rustix::ioctl::{Getter, ioctl};
    // SAFETY: SIOCOUTQ (linux/sockios.h) writes one C integer, and changes nothing.
    let count = unsafe { ioctl(socket.as_fd(), Getter::<SIOCOUTQ, i32>::new()) };
    count.ok().and_then(|count| u64::try_from(count).ok())
}

#[cfg(all(
    target_os = "linux",
    not(any(target_arch = "powerpc64", target_arch = "mips64"))
))]
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
#[cfg(all(target_os = "linux", target_arch = "powerpc64"))]
const SIOCOUTQ: rustix::ioctl::Opcode = 0x4004_7473;
#[cfg(all(target_os = "linux", target_arch = "mips64"))]
const SIOCOUTQ: rustix::ioctl::Opcode = 0x7472;

#[cfg(not(target_os = "linux"))]
fn untaken(_socket: &impl AsFd) -> Option<u64> {
    None
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.presence.has_moved();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for WatchedSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
