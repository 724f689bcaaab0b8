//! A connection's bytes: counted, and cut off where the client does not take them.
//!
//! Reading has its time limits elsewhere: for headers in hyper, for bodies where they are read.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::access::Metrics;

/// So much must be taken within the limit.
const PROGRESS_BYTES: usize = 4096;

/// A connection.
pub(crate) struct Stream<S> {
    inner: S,
    metrics: Arc<Metrics>,
    stall: Duration,
    /// Runs while the client takes nothing.
    limit: Option<Pin<Box<Sleep>>>,
    /// Bytes taken since the limit was set.
    taken: usize,
}

impl<S> Stream<S> {
    pub(crate) fn new(inner: S, metrics: Arc<Metrics>, stall: Duration) -> Stream<S> {
        metrics.connections.fetch_add(1, Relaxed);
        metrics.connections_total.fetch_add(1, Relaxed);
        Stream { inner, metrics, stall, limit: None, taken: 0 }
    }

    /// What a write came to: progress, or waiting for as long as is allowed.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(count)) => {
                self.metrics.sent_bytes.fetch_add(count as u64, Relaxed);
                self.taken = self.taken.saturating_add(count);
                if self.taken >= PROGRESS_BYTES {
                    self.limit = None;
                    self.taken = 0;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Pending => {
                let stall = self.stall;
                let limit = self.limit.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + stall))
                });
                ready!(limit.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            failed => failed,
        }
    }
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        self.metrics.connections.fetch_sub(1, Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let count = buffer.filled().len() - before;
        self.metrics.received_bytes.fetch_add(count as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
