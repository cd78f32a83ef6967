//! Files as HTTP answers: ranges and validators (RFC 9110), and a body that holds one chunk of its file at a time.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use super::metrics::Held;

/// What one transfer holds in memory, beside what the connection buffers: 500 at once are 32 MiB.
const CHUNK_BYTES: u64 = 64 * 1024;

/// A file to give out.
pub(super) struct Served {
    /// Where it lies. Made of names that were parsed, never of a text that a client sent.
    pub path: PathBuf,
    /// Its strong validator; a file that has one never changes.
    pub etag: Option<String>,
    /// Counts the transfer.
    pub held: Held,
    /// Called when its last byte was handed to the connection.
    pub sent: Box<dyn FnOnce() + Send>,
}

/// Answers a GET or HEAD.
pub(super) async fn answer(served: Served, request: &HeaderMap) -> Response {
    let etag = served.etag.as_deref();
    if let Some(etag) = etag.filter(|etag| names(request, etag)) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag.to_owned())]).into_response();
    }
    let path = served.path.clone();
    let opened = spawn_blocking(move || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            Ok((file, metadata.len()))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    });
    let (file, size) = match opened.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return StatusCode::NOT_FOUND.into_response();
        }
        Err(error) => {
            tracing::error!(path = %served.path.display(), %error, "can't open a file that devices ask for");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let range = match wanted_range(request, etag, size) {
        Ok(range) => range,
        Err(Unsatisfiable) => {
            let size = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, size).into_response();
        }
    };
    respond(served, file, size, range)
}

fn respond(served: Served, file: File, size: u64, range: Option<(u64, u64)>) -> Response {
    let (start, end) = range.unwrap_or((0, size));
    let body = FileBody {
        file: Arc::new(file),
        at: start,
        end,
        reading: None,
        sent: Some(served.sent).filter(|_| end == size),
        _held: served.held,
    };
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes");
    if let Some(etag) = served.etag {
        response = response
            .header(header::ETAG, etag)
            .header(header::CACHE_CONTROL, "max-age=31536000, immutable");
    } else {
        response = response.header(header::CACHE_CONTROL, "no-cache");
    }
    if range.is_some() {
        let range = format!("bytes {start}-{}/{size}", end.saturating_sub(1));
        response =
            response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    response.body(Body::new(body)).unwrap_or_else(|error| {
        tracing::error!(%error, "can't make an answer");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

fn names(request: &HeaderMap, etag: &str) -> bool {
    let lists = request.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|v| v.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// First byte and the one behind the last; `None` is the whole file. What is no single range of bytes is ignored, as RFC 9110, 14.2
/// allows; a range of a file that changed since is answered with the whole of it (13.1.5).
fn wanted_range(
    request: &HeaderMap,
    etag: Option<&str>,
    size: u64,
) -> Result<Option<(u64, u64)>, Unsatisfiable> {
    if let Some(condition) = request.get(header::IF_RANGE)
        && etag.is_none_or(|etag| condition.as_bytes() != etag.as_bytes())
    {
        return Ok(None);
    }
    let range = request.get(header::RANGE).and_then(|range| range.to_str().ok());
    match range.and_then(parse_range) {
        None => Ok(None),
        Some(Range::From(start)) if start < size => Ok(Some((start, size))),
        Some(Range::Between(start, last)) if start < size => {
            Ok(Some((start, last.saturating_add(1).min(size))))
        }
        Some(Range::Last(length)) if length > 0 && size > 0 => {
            Ok(Some((size.saturating_sub(length), size)))
        }
        Some(Range::From(_) | Range::Between(..) | Range::Last(_)) => Err(Unsatisfiable),
    }
}

enum Range {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

fn parse_range(text: &str) -> Option<Range> {
    let number = |text: &str| {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    match (first, last) {
        ("", length) => number(length).map(Range::Last),
        (start, "") => number(start).map(Range::From),
        (start, last) => {
            let (start, last) = number(start).zip(number(last))?;
            (start <= last).then_some(Range::Between(start, last))
        }
    }
}

struct FileBody {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    sent: Option<Box<dyn FnOnce() + Send>>,
    _held: Held,
}

impl FileBody {
    fn read(&self) -> JoinHandle<io::Result<Bytes>> {
        let (file, at) = (Arc::clone(&self.file), self.at);
        let length = usize::try_from((self.end - at).min(CHUNK_BYTES)).unwrap_or(0);
        spawn_blocking(move || {
            let mut chunk = vec![0; length];
            file.read_exact_at(&mut chunk, at)?;
            Ok(chunk.into())
        })
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.read(),
        };
        let Poll::Ready(chunk) = Pin::new(&mut reading).poll(context) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        let chunk = chunk.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.at += chunk.len() as u64;
        if self.is_end_stream()
            && let Some(sent) = self.sent.take()
        {
            sent();
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.at))
    }
}
