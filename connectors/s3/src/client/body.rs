//! The contents of an object or of a part, in pieces, as they were gathered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Bytes in pieces. A clone is cheap and shares them, so that a request can be repeated.
#[derive(Debug, Clone, Default)]
pub struct Body {
    pieces: Arc<[Bytes]>,
    length: u64,
}

impl Body {
    /// These pieces, one after the other.
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces: pieces.into(), length }
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces in order. None of them is empty unless the caller of [`new`](Self::new) gave an empty one.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Everything in one piece; copied where there are several.
    pub fn to_bytes(&self) -> Bytes {
        match &*self.pieces {
            [] => Bytes::new(),
            [one] => one.clone(),
            several => several.concat().into(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::new(vec![bytes])
    }
}

/// A [`Body`] on its way: one frame a piece.
#[derive(Debug)]
pub(crate) struct Frames {
    body: Body,
    next: usize,
    left: u64,
}

impl Frames {
    pub(crate) fn new(body: Body) -> Self {
        Self { next: 0, left: body.len(), body }
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let piece = self.body.pieces.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(piece.map(|piece| {
            self.left -= piece.len() as u64;
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
