//! Content types by the end of a name, and which codings a client takes.

use crate::core::ground::decimal;
use crate::core::wire::http::Request;

/// Returns the content type of a file.
pub(super) fn type_of(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    let found = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(end));
    found.map_or("application/octet-stream", |(_, content_type)| content_type)
}

/// The codings that a client takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    pub brotli: bool,
    pub gzip: bool,
}

impl Accepted {
    /// Reads Accept-Encoding over all its lines (RFC 9110, 12.5.3).
    pub fn of(request: &Request) -> Accepted {
        let [brotli, gzip] = [&["br"][..], &["gzip", "x-gzip"]].map(|names| {
            let mut by_star = false;
            for coding in request.header_list("accept-encoding") {
                let Ok(coding) = str::from_utf8(coding) else { continue };
                let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
                let is_wanted = !is_zero(parameters);
                if names.iter().any(|known| known.eq_ignore_ascii_case(name.trim())) {
                    return is_wanted;
                }
                by_star |= name.trim() == "*" && is_wanted;
            }
            by_star
        });
        Accepted { brotli, gzip }
    }
}

/// Returns whether the weight is zero. One that cannot be read is none, which is 1.
fn is_zero(parameters: &str) -> bool {
    let weight = parameters.trim().strip_prefix(['q', 'Q']).map(str::trim_start);
    let weight = weight.and_then(|rest| rest.strip_prefix('=')).map(str::trim);
    weight.and_then(decimal::parse) == Some(0.0)
}

const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("xml", "application/xml"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("wasm", "application/wasm"),
    ("pdf", "application/pdf"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("tar", "application/x-tar"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_the_end_of_the_name() {
        for (path, content_type) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a.b/LOGO.SVG", "image/svg+xml"),
            ("a.html/b", "application/octet-stream"),
            ("a.", "application/octet-stream"),
            ("a.unknown", "application/octet-stream"),
        ] {
            assert_eq!(type_of(path), content_type, "{path}");
        }
    }

    #[test]
    fn a_weight_of_zero_refuses() {
        for (parameters, refuses) in [
            ("", false),
            ("q=0", true),
            (" Q = 0.000 ", true),
            ("q=0.001", false),
            ("q=x", false),
            ("q=1", false),
            ("q=0.0x", false),
            ("level=0", false),
        ] {
            assert_eq!(is_zero(parameters), refuses, "{parameters}");
        }
    }
}
