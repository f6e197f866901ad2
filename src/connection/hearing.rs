//! Sockets that are still read where they can no longer be written to: a registry may answer a publish
//! and hang up before it has all of it.

use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::forward::Resolver;

/// Opens such sockets.
#[derive(Clone)]
pub(super) struct HearingConnector(pub HttpConnector<Resolver>);

/// A socket whose other end may have stopped listening: that is learned by reading alone.
pub(super) struct HearingSocket {
    socket: TokioIo<TcpStream>,
    is_broken: bool,
    /// A proxy reads the requests: they name their whole address.
    is_of_a_proxy: bool,
}

impl Service<Uri> for HearingConnector {
    type Response = HearingSocket;
    type Error = <HttpConnector<Resolver> as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<HearingSocket, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let connecting = Service::call(&mut self.0, address);
        Box::pin(async move {
            Ok(HearingSocket {
                socket: connecting.await?,
                is_broken: false,
                is_of_a_proxy: false,
            })
        })
    }
}

impl Connection for HearingSocket {
    fn connected(&self) -> Connected {
        self.socket.connected().proxy(self.is_of_a_proxy)
    }
}

impl Read for HearingSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl HearingSocket {
    pub(super) fn of_a_proxy(self) -> Self {
        Self {
            is_of_a_proxy: true,
            ..self
        }
    }

    /// Bytes that cannot be sent any more count as sent.
    fn heard<T>(&mut self, written: Poll<std::io::Result<T>>, all: T) -> Poll<std::io::Result<T>> {
        match written {
            Poll::Ready(Err(error))
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe
                        | ErrorKind::ConnectionReset
                        | ErrorKind::ConnectionAborted
                ) =>
            {
                self.is_broken = true;
                Poll::Ready(Ok(all))
            }
            written => written,
        }
    }
}

impl Write for HearingSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.is_broken {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.heard(written, bytes.len())
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.is_broken {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        self.heard(flushed, ())
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.is_broken {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.is_broken {
            return Poll::Ready(Ok(all));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.heard(written, all)
    }
}
