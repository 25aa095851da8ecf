//! Files of a folder: GET and HEAD, conditional requests (RFC 9110, 13), ranges (14), files that
//! were compressed before.
//!
//! A small file is read in one call of the handler. A larger one goes in pieces, each when the one
//! before is with the kernel: a slow reader holds a piece. A piece is moved into a pipe, or read,
//! by a worker, or, without workers, on the loop.
//!
//! Whatever cannot be served is 404: what is not there, names that begin with a dot, what leads out
//! of the folder, and what is no regular file.

mod body;
mod conditions;
mod media;
mod open;
mod pipe;
mod ranges;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::core::wire::http::{HeaderError, Refusal, Request, Response, Shape, percent_decode};
use body::{FileBody, Shared};
use conditions::{Validators, Verdict};
use open::{Folder, Opened};
use ranges::Wanted;

/// A folder whose files are served.
pub(super) struct Files {
    folder: Arc<Folder>,
    /// What of a path stands before the names: `/`, or `/static/`.
    prefix: String,
    shared: Arc<Shared>,
}

impl Files {
    /// Serves the files of a folder behind a prefix that ends in a slash.
    pub fn new(prefix: &str, folder: PathBuf) -> Files {
        let folder = Arc::new(Folder::new(folder));
        Files { folder, prefix: prefix.to_owned(), shared: Arc::default() }
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Response {
        match self.find(request) {
            Some(Found::File(file)) => self.send(request, file).unwrap_or_else(|_| refused(500)),
            Some(Found::Moved(location)) => {
                let moved = Response::new(301).header("Location", &location);
                moved.unwrap_or_else(|_| refused(404))
            }
            None => refused(404),
        }
    }

    fn find(&self, request: &Request) -> Option<Found> {
        let rest = request.path().strip_prefix(self.prefix.as_str())?;
        let mut names = names(rest)?;
        let is_folder = rest.is_empty() || rest.ends_with('/');
        if is_folder {
            names.push(INDEX.into());
        }
        let path = names.join("/");
        match self.folder.open(&path)? {
            Opened::Folder if is_folder => None,
            Opened::Folder => {
                let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
                Some(Found::Moved(format!("{}/{query}", request.path())))
            }
            Opened::File(file) => {
                let accepted = media::Accepted::of(request);
                let content_type = media::type_of(&path);
                let whole = Picked { path, file, coding: None, content_type };
                Some(Found::File(self.compressed(&whole, accepted).unwrap_or(whole)))
            }
        }
    }

    /// Finds a compressed form of a file that the client takes. One that is older than the file is
    /// left alone: it is of another version.
    fn compressed(&self, whole: &Picked, accepted: media::Accepted) -> Option<Picked> {
        let forms = [("br", ".br", accepted.brotli), ("gzip", ".gz", accepted.gzip)];
        forms.into_iter().filter(|(.., is_accepted)| *is_accepted).find_map(|(coding, end, _)| {
            let path = format!("{}{end}", whole.path);
            match self.folder.open(&path)? {
                Opened::File(file) if file.modified >= whole.file.modified => {
                    let content_type = whole.content_type;
                    Some(Picked { path, file, coding: Some(coding), content_type })
                }
                _ => None,
            }
        })
    }

    fn send(&self, request: &Request, picked: Picked) -> Result<Response, HeaderError> {
        let Picked { path, file, coding, content_type } = picked;
        let validators = Validators::of(&file, SystemTime::now());
        let len = file.len;
        let (status, from, count) = match conditions::check(request, &validators) {
            Verdict::NotModified => return describe(Response::new(304), &validators, coding),
            Verdict::Failed => return describe(refused(412), &validators, None),
            Verdict::Whole => (200, 0, len),
            Verdict::Ranges => match ranges::wanted(request, len) {
                Wanted::Whole => (200, 0, len),
                Wanted::Part { from, count } => (206, from, count),
                Wanted::Nothing => {
                    return refused(416).header("Content-Range", &format!("bytes */{len}"));
                }
            },
        };
        let mut head = describe(Response::new(status), &validators, coding)?;
        if status == 206 {
            let last = from + count - 1;
            head = head.header("Content-Range", &format!("bytes {from}-{last}/{len}"))?;
        }
        let is_head = request.method() == "HEAD";
        if count < PIPED_BYTES_MIN && !is_head {
            return Ok(match body::read(&file, from, count) {
                Some(bytes) => head.bytes(content_type, bytes),
                // It was cut short just now.
                None => refused(503).header("Retry-After", "1")?,
            });
        }
        let folder = self.folder.clone();
        let wanted = if is_head { 0 } else { count };
        let body = FileBody::new(folder, path, file, (from, wanted), &self.shared);
        let shape = Shape { length: Some(count), is_events: false };
        Ok(head.sourced(content_type, shape, Box::new(body)))
    }
}

enum Found {
    File(Picked),
    /// A folder was named without the slash at its end.
    Moved(String),
}

/// The form of a file that is to be sent.
struct Picked {
    path: String,
    file: open::File,
    coding: Option<&'static str>,
    content_type: &'static str,
}

/// Takes a path apart. `None` if a name is none that is served.
fn names(path: &str) -> Option<Vec<String>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let name = |segment: &str| {
        let name = percent_decode(segment)?;
        let is_good = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        is_good.then(|| name.into_owned())
    };
    path.split('/').map(name).collect()
}

/// Adds what a client, and caches, must know of the file.
fn describe(
    response: Response,
    validators: &Validators,
    coding: Option<&str>,
) -> Result<Response, HeaderError> {
    let mut response = response
        .header("ETag", &validators.etag)?
        .header("Last-Modified", &validators.last_modified)?
        .header("Cache-Control", "no-cache")?
        .header("Accept-Ranges", "bytes")?
        .header("Vary", "Accept-Encoding")?;
    if let Some(coding) = coding {
        response = response.header("Content-Encoding", coding)?;
    }
    Ok(response)
}

fn refused(status: u16) -> Response {
    let text = match status {
        404 => "there is nothing here",
        412 => "the file is another one",
        416 => "the file has no such bytes",
        503 => "the file is being changed",
        _ => "the file could not be read",
    };
    Refusal::new(status, text).into()
}

/// The page of a folder.
const INDEX: &str = "index.html";
/// From so many bytes on a file goes through pipes. To copy a smaller one costs less.
const PIPED_BYTES_MIN: u64 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_apart_or_refused() {
        let names = |path: &str| names(path).map(|names| names.join("|"));
        for (path, expected) in [
            ("", ""),
            ("a", "a"),
            ("a/", "a"),
            ("a/b.txt", "a|b.txt"),
            ("a%20b/%C3%A4", "a b|\u{e4}"),
            ("a..b/c...", "a..b|c..."),
            ("a\\..\\b", "a\\..\\b"),
        ] {
            assert_eq!(names(path).as_deref(), Some(expected), "{path}");
        }
        for path in [
            "/",
            "//",
            "a//b",
            "..",
            "../a",
            "a/..",
            "a/../b",
            ".",
            "./a",
            ".git/config",
            "a/.b",
            "%2e%2e/a",
            "%2E",
            "a%2fb",
            "..%2fa",
            "a%00",
            "%",
            "%zz",
            "%ff",
            "%c0%ae%c0%ae/a",
        ] {
            assert_eq!(names(path), None, "{path}");
        }
    }
}
