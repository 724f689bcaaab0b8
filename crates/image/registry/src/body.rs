//! Bodies of responses: nothing, a text at hand, or a part of a file, which may be growing.

use std::{
    fs::File,
    future::Future,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

use crate::{
    access::Entry,
    proxy::Progress,
    sendfile::{FilePart, Files},
};

/// How much of a file is read, and handed to the connection, at once, where that cannot send it.
const PART_BYTES: u64 = 256 << 10;

/// A body, and the line of the log that is written when it is done or dropped.
pub(crate) struct Body {
    content: Content,
    entry: Option<Entry>,
    /// Where the connection sends files by itself.
    files: Option<Files>,
}

pub(crate) enum Content {
    Empty,
    Text(Bytes),
    File(FilePart),
    Growing(Growing),
}

/// A part of a file that grows.
pub(crate) struct Growing {
    part: FilePart,
    progress: Option<watch::Receiver<Progress>>,
    /// Waits for more.
    more: Option<Pin<Box<dyn Future<Output = Waited> + Send>>>,
}

/// Who waited, and for what.
type Waited = (watch::Receiver<Progress>, io::Result<u64>);

impl Body {
    pub(crate) fn empty() -> Body {
        Body { content: Content::Empty, entry: None, files: None }
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Body {
        Body { content: Content::Text(text.into()), entry: None, files: None }
    }

    pub(crate) fn file(part: FilePart) -> Body {
        Body { content: Content::File(part), entry: None, files: None }
    }

    /// Sends bytes of a file as they come.
    pub(crate) fn growing(
        file: Arc<File>,
        offset: u64,
        left: u64,
        progress: watch::Receiver<Progress>,
    ) -> Body {
        let part = FilePart { file, offset, left };
        let growing = Growing { part, progress: Some(progress), more: None };
        Body { content: Content::Growing(growing), entry: None, files: None }
    }

    /// Has `entry` written at the end.
    pub(crate) fn logged(mut self, entry: Entry) -> Body {
        self.entry = Some(entry);
        self
    }

    /// Has files sent by the connection, where it can.
    pub(crate) fn sent_by(mut self, files: Option<Files>) -> Body {
        self.files = files;
        self
    }

    fn left(&self) -> u64 {
        match &self.content {
            Content::Empty => 0,
            Content::Text(text) => text.len() as u64,
            Content::File(part) => part.left,
            Content::Growing(growing) => growing.part.left,
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Body { content, files, .. } = &mut *self;
        let data = match content {
            Content::Empty => return Poll::Ready(None),
            Content::Text(text) => std::mem::take(text),
            Content::File(part) | Content::Growing(Growing { part, .. }) if part.left == 0 => {
                return Poll::Ready(None);
            }
            Content::Growing(growing) => match ready!(growing.next(cx, files.as_ref())) {
                Ok(data) => data,
                Err(e) => return Poll::Ready(Some(Err(e))),
            },
            Content::File(part) => match next(part, u64::MAX, files.as_ref()) {
                Ok(data) => data,
                Err(e) => return Poll::Ready(Some(Err(e))),
            },
        };
        if let Content::Text(_) = self.content {
            self.content = Content::Empty;
        }
        if let Some(entry) = &mut self.entry {
            entry.sent += data.len() as u64;
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

impl Growing {
    fn next(&mut self, cx: &mut Context<'_>, files: Option<&Files>) -> Poll<io::Result<Bytes>> {
        let offset = self.part.offset;
        if let Some(progress) = self.progress.take() {
            self.more = Some(Box::pin(wait(progress, offset)));
        }
        let Some(more) = &mut self.more else {
            return Poll::Ready(Err(io::Error::other("polled after its end")));
        };
        let (progress, there) = ready!(more.as_mut().poll(cx));
        self.more = None;
        let there = there?;
        self.progress = Some(progress);
        Poll::Ready(next(&mut self.part, there - offset, files))
    }
}

/// Waits until there is more than `offset` bytes; gives how many there are.
async fn wait(mut progress: watch::Receiver<Progress>, offset: u64) -> Waited {
    let there = match progress.wait_for(|p| p.there > offset || p.ended.is_some()).await {
        Ok(found) if found.there > offset => Ok(found.there),
        Ok(found) => Err(io::Error::other(match &found.ended {
            Some(Err(why)) => why.clone(),
            _ => "it ended too early".to_owned(),
        })),
        Err(_) => Err(io::Error::other("nobody fetches it any more")),
    };
    (progress, there)
}

/// The next bytes of a file, at most so many, or what stands for them.
fn next(part: &mut FilePart, bytes_max: u64, files: Option<&Files>) -> io::Result<Bytes> {
    match files {
        Some(files) => Ok(files.queue(part, bytes_max)),
        None => tokio::task::block_in_place(|| read(part, bytes_max)),
    }
}

fn read(part: &mut FilePart, bytes_max: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; part.left.min(bytes_max).min(PART_BYTES) as usize];
    let count = loop {
        match part.file.read_at(&mut buffer, part.offset) {
            // Blobs do not shrink: the disk is damaged, and the client must not take it as all.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => break count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    };
    buffer.truncate(count);
    part.offset += count as u64;
    part.left -= count as u64;
    Ok(buffer.into())
}
