//! Bodies of responses: nothing, a text at hand, or a part of a file.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::access::Entry;

/// How much of a file is read, and handed to the connection, at once.
const PART_BYTES: u64 = 256 << 10;

/// A body, and the line of the log that is written when it is done or dropped.
pub(crate) struct Body {
    content: Content,
    entry: Option<Entry>,
}

pub(crate) enum Content {
    Empty,
    Text(Bytes),
    File(FilePart),
}

/// Bytes `offset..offset + left` of a file.
pub(crate) struct FilePart {
    pub file: Arc<File>,
    pub offset: u64,
    pub left: u64,
}

impl Body {
    pub(crate) fn empty() -> Body {
        Body { content: Content::Empty, entry: None }
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Body {
        Body { content: Content::Text(text.into()), entry: None }
    }

    pub(crate) fn file(part: FilePart) -> Body {
        Body { content: Content::File(part), entry: None }
    }

    /// Has `entry` written at the end.
    pub(crate) fn logged(mut self, entry: Entry) -> Body {
        self.entry = Some(entry);
        self
    }

    fn left(&self) -> u64 {
        match &self.content {
            Content::Empty => 0,
            Content::Text(text) => text.len() as u64,
            Content::File(part) => part.left,
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let data = match &mut self.content {
            Content::Empty => return Poll::Ready(None),
            Content::Text(text) => std::mem::take(text),
            Content::File(part) if part.left == 0 => return Poll::Ready(None),
            Content::File(part) => match tokio::task::block_in_place(|| part.next()) {
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

impl FilePart {
    fn next(&mut self) -> io::Result<Bytes> {
        let mut buffer = vec![0; self.left.min(PART_BYTES) as usize];
        let count = loop {
            match self.file.read_at(&mut buffer, self.offset) {
                // Blobs do not shrink: the disk is damaged, and the client must not take it as all.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => break count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        };
        buffer.truncate(count);
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(buffer.into())
    }
}
