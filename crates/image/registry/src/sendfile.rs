//! Files on their way to a client without being read: sendfile(2) beneath hyper.
//!
//! hyper takes a body in buffers, and hands them on to the connection as they are, in order
//! (`writev`). So a body may give it a buffer that only stands for bytes of a file: a slice of
//! [`STAND_IN`], which is never read. The connection knows it by where it lies, and has the kernel
//! send that many bytes of the file, which it takes from a queue that it shares with the body.
//!
//! Should a buffer ever come in another shape than it was given, the two would be out of step; the
//! connection looks for that before it sends, and ends with an error in place of wrong bytes.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// How many bytes one buffer stands for at most.
pub(crate) const PART_BYTES_MAX: usize = 1 << 20;

/// Where buffers lie that stand for others. Nobody reads it, so it takes no memory.
static STAND_IN: [u8; PART_BYTES_MAX] = [0; PART_BYTES_MAX];

fn is_stand_in(slice: &[u8]) -> bool {
    !slice.is_empty() && STAND_IN.as_ptr_range().contains(&slice.as_ptr())
}

/// Bytes `offset..offset + left` of a file.
#[derive(Debug, Clone)]
pub(crate) struct FilePart {
    pub file: Arc<File>,
    pub offset: u64,
    pub left: u64,
}

/// The parts of files that a connection has yet to send, in the order of the buffers that stand for
/// them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(Arc<Mutex<VecDeque<Queued>>>);

#[derive(Debug)]
struct Queued {
    part: FilePart,
    is_begun: bool,
}

impl Files {
    /// Queues the first bytes of `part`, at most so many, and gives what stands for them.
    pub(crate) fn queue(&self, part: &mut FilePart, bytes_max: u64) -> Bytes {
        let count = part.left.min(bytes_max).min(PART_BYTES_MAX as u64);
        let first = FilePart { left: count, ..part.clone() };
        part.offset += count;
        part.left -= count;
        self.lock().push_back(Queued { part: first, is_begun: false });
        Bytes::from_static(&STAND_IN[..count as usize])
    }

    /// Sends what the first buffer stands for, of which so many bytes are left.
    fn send(&self, socket: &TcpStream, left: usize) -> io::Result<usize> {
        let mut queue = self.lock();
        let Some(Queued { part, is_begun }) = queue.front_mut() else { return Err(out_of_step()) };
        if part.left != left as u64 {
            return Err(out_of_step());
        }
        let sent = loop {
            match rustix::fs::sendfile(socket, &*part.file, Some(&mut part.offset), left) {
                Err(rustix::io::Errno::INTR) => {}
                // Blobs do not shrink: the disk is damaged, and the client must not take it as all.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                sent => break sent?,
            }
        };
        part.left -= sent as u64;
        *is_begun = true;
        if part.left == 0 {
            queue.pop_front();
        }
        Ok(sent)
    }

    /// Whether bytes of a file come next, and nothing else may.
    fn is_begun(&self) -> bool {
        self.lock().front().is_some_and(|queued| queued.is_begun)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Queued>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn out_of_step() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the connection and its body are out of step")
}

/// A connection without TLS, which sends files by itself.
pub(crate) struct Plain {
    socket: TcpStream,
    files: Files,
}

impl Plain {
    pub(crate) fn new(socket: TcpStream) -> Plain {
        Plain { socket, files: Files::default() }
    }

    /// The queue for its bodies.
    pub(crate) fn files(&self) -> Files {
        self.files.clone()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            let send = || self.files.send(&self.socket, left);
            // The file may have to be read from a slow disk.
            let sent = tokio::task::block_in_place(|| self.socket.try_io(Interest::WRITABLE, send));
            match sent {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Empty buffers before it would be a write of nothing.
        let filled = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(slices.len());
        let slices = &slices[filled..];
        let plain = slices.iter().take_while(|slice| !is_stand_in(slice)).count();
        match slices.first() {
            Some(first) if plain == 0 => self.poll_send(cx, first.len()),
            Some(_) if self.files.is_begun() => Poll::Ready(Err(out_of_step())),
            _ => Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..plain]),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::{Read, Write},
    };

    use super::*;

    fn part(bytes: &[u8]) -> FilePart {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        FilePart { file: Arc::new(file), offset: 0, left: bytes.len() as u64 }
    }

    /// Runs on a runtime whose threads may block; the client's end is a plain socket.
    fn with_pair(test: impl AsyncFnOnce(Plain) -> ()) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_nonblocking(true).unwrap();
        runtime.block_on(async { test(Plain::new(TcpStream::from_std(server).unwrap())).await });
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        got
    }

    async fn write(plain: &mut Plain, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *plain).poll_write_vectored(cx, slices)).await
    }

    #[test]
    fn what_stands_for_a_file_is_sent_as_its_bytes() {
        let got = with_pair(async |mut plain| {
            let files = plain.files();
            let mut whole = part(b"0123456789");
            let (first, second) = (files.queue(&mut whole, 4), files.queue(&mut whole, 100));
            assert_eq!((first.len(), second.len(), whole.left), (4, 6, 0));
            let all = [&b""[..], b"head:", &first, &second].map(IoSlice::new);
            assert_eq!(write(&mut plain, &all).await.unwrap(), 5);
            assert_eq!(write(&mut plain, &all[2..]).await.unwrap(), 4);
            assert_eq!(write(&mut plain, &all[3..]).await.unwrap(), 6);
        });
        assert_eq!(got, b"head:0123456789");
    }

    #[test]
    fn out_of_step_nothing_is_sent() {
        let got = with_pair(async |mut plain| {
            let files = plain.files();
            let mut whole = part(&[7; 200]);
            let first = files.queue(&mut whole, 100);
            // Shorter than was queued, and more than was queued.
            for wrong in [&first[1..], &first[..50], &STAND_IN[..101]] {
                let failed = write(&mut plain, &[IoSlice::new(wrong)]).await;
                assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::InvalidData);
            }
            assert_eq!(write(&mut plain, &[IoSlice::new(&first)]).await.unwrap(), 100);
            let failed = write(&mut plain, &[IoSlice::new(&first)]).await;
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::InvalidData, "nothing is queued");
            // Shorter than was promised.
            let mut cut = part(b"abc");
            cut.left = 5;
            let all = files.queue(&mut cut, 5);
            assert_eq!(write(&mut plain, &[IoSlice::new(&all)]).await.unwrap(), 3);
            let other = write(&mut plain, &[IoSlice::new(b"other")]).await;
            assert_eq!(other.unwrap_err().kind(), io::ErrorKind::InvalidData, "the file is begun");
            let failed = write(&mut plain, &[IoSlice::new(&all[3..])]).await;
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        });
        assert_eq!(got.len(), 103);
    }
}
