//! A body as it arrives: plain, gzip or zstd, and cut off as soon as it passes its limit.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use zstd::stream::write::Decoder as ZstdDecoder;

use super::fetcherror::FetchError;

/// A zstd frame may ask for a window of gigabytes; RFC 9659 allows 8 MiB in HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A buffer that refuses to grow past a limit.
pub struct Limited {
    body: Vec<u8>,
    limit: usize,
    passed: bool,
}

impl Limited {
    /// Fills the given buffer, from its start.
    pub fn new(mut body: Vec<u8>, limit: usize) -> Limited {
        body.clear();
        Limited { body, limit, passed: false }
    }
}

impl Write for Limited {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let room = self.limit - self.body.len();
        if piece.len() > room {
            self.passed = true;
            self.body.extend_from_slice(&piece[..room]);
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.body.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub enum Sink {
    Plain(Limited),
    Gzip(Box<MultiGzDecoder<Limited>>),
    Zstd(Box<ZstdDecoder<'static, Limited>>),
}

impl Sink {
    /// For a body with this Content-Encoding.
    pub fn new(encoding: &str, body: Limited) -> Result<Sink, FetchError> {
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Sink::Plain(body)),
            "gzip" | "x-gzip" => Ok(Sink::Gzip(Box::new(MultiGzDecoder::new(body)))),
            "zstd" => {
                let fail = |e: io::Error| FetchError::new(format!("cannot inflate the body: {e}"));
                let mut inflate = ZstdDecoder::new(body).map_err(fail)?;
                inflate.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(fail)?;
                Ok(Sink::Zstd(Box::new(inflate)))
            }
            other => Err(FetchError::new(format!("the body's encoding is {other:?}: only gzip and zstd can be read"))),
        }
    }

    pub fn write(&mut self, piece: &[u8]) -> Result<(), FetchError> {
        let (written, passed) = match self {
            Sink::Plain(body) => (body.write_all(piece), body.passed),
            Sink::Gzip(inflate) => (inflate.write_all(piece), inflate.get_ref().passed),
            Sink::Zstd(inflate) => (inflate.write_all(piece), inflate.get_ref().passed),
        };
        written.map_err(|e| Sink::error(&e, passed))
    }

    /// Nothing more comes: writes what is held back, and checks that it was all.
    pub fn end(&mut self) -> Result<(), FetchError> {
        let (ended, passed) = match self {
            Sink::Plain(body) => (Ok(()), body.passed),
            Sink::Gzip(inflate) => (inflate.try_finish(), inflate.get_ref().passed),
            Sink::Zstd(inflate) => (inflate.do_finish(), inflate.get_ref().passed),
        };
        ended.map_err(|e| Sink::error(&e, passed))
    }

    pub fn finish(mut self) -> Result<Vec<u8>, FetchError> {
        self.end()?;
        match self {
            Sink::Plain(body) => Ok(body.body),
            Sink::Gzip(inflate) => inflate.finish().map(|body| body.body).map_err(|e| Sink::error(&e, false)),
            Sink::Zstd(inflate) => Ok(inflate.into_inner().body),
        }
    }

    /// What has arrived so far.
    pub fn so_far(&self) -> &[u8] {
        match self {
            Sink::Plain(body) => &body.body,
            Sink::Gzip(inflate) => &inflate.get_ref().body,
            Sink::Zstd(inflate) => &inflate.get_ref().body,
        }
    }

    fn error(error: &io::Error, passed: bool) -> FetchError {
        if passed {
            FetchError { past_limit: true, ..FetchError::new("body size limit exceeded") }
        } else {
            FetchError::new(format!("cannot inflate the body: {error}"))
        }
    }
}
