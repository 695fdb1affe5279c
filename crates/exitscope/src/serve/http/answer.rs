//! Requests and their answers, as data.

use exitscope_view::metrics::Exposition;

/// Maximum number of header lines.
const HEADERS: usize = 64;

/// A request, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path, without what follows `?`.
    pub path: String,
    /// Format that is liked most.
    pub format: Exposition,
    /// The answer may be packed by gzip.
    pub gzip: bool,
    /// The header `Authorization`.
    pub authorization: Option<Vec<u8>>,
    /// Another request may follow on the connection.
    pub keep_alive: bool,
}

/// State of the bytes that have come.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More must come.
    Partial,
    /// A request, and its length.
    Whole(Request, usize),
    /// No request that is understood.
    Wrong,
}

/// Reads a request from the bytes that have come.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Wrong,
    };
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version) else {
        return Parsed::Wrong;
    };
    let headers = &*request.headers;
    let text = |name: &str| {
        let values: Vec<_> = values(headers, name).map(String::from_utf8_lossy).collect();
        values.join(",").to_ascii_lowercase()
    };
    // A body is never read: what comes after such a request is not known to be one.
    let has_body = values(headers, "transfer-encoding").next().is_some()
        || values(headers, "content-length").any(|length| length.iter().any(|byte| *byte != b'0'));
    let connection = text("connection");
    let asks = |word: &str| connection.split(',').any(|found| found.trim() == word);
    let keep_alive = !has_body && if version == 0 { asks("keep-alive") } else { !asks("close") };
    let found = Request {
        method: method.to_owned(),
        path: path.split('?').next().unwrap_or(path).to_owned(),
        format: format(&text("accept")),
        gzip: quality(&text("accept-encoding"), "gzip").is_some_and(|quality| quality > 0.0),
        authorization: values(headers, "authorization").next().map(<[u8]>::to_vec),
        keep_alive,
    };
    Parsed::Whole(found, length)
}

/// Values of the headers of this name.
fn values<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Format that a header `Accept` likes most; Prometheus' own where it does not say.
fn format(accept: &str) -> Exposition {
    let openmetrics = quality(accept, "application/openmetrics-text").unwrap_or(0.0);
    let plain = ["text/plain", "text/*", "*/*"].iter().find_map(|kind| quality(accept, kind)).unwrap_or(0.0);
    if openmetrics > 0.0 && openmetrics >= plain { Exposition::OpenMetrics } else { Exposition::Prometheus }
}

/// Quality of an item of such a header, from 0 to 1; `None` where it is not there.
fn quality(header: &str, item: &str) -> Option<f32> {
    let of = |part: &str| {
        let mut words = part.split(';').map(str::trim);
        if words.next() != Some(item) {
            return None;
        }
        Some(
            words
                .find_map(|word| word.strip_prefix("q="))
                .map_or(1.0, |quality| quality.parse().unwrap_or(0.0)),
        )
    };
    header.split(',').filter_map(of).reduce(f32::max)
}

/// The page at `/`.
pub fn landing_page() -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>exitscope</title></head>\n\
         <body><h1>exitscope</h1>\n<p>VM exits of this host's KVM guests, counted by exitscope {}.</p>\n\
         <p><a href=\"metrics\">Metrics</a></p></body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Head of an answer whose body has this length.
pub fn head(status: &str, kind: &str, length: usize, gzip: bool, keep_alive: bool) -> String {
    let packed = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
    let more = match status.get(..3) {
        Some("401") => "WWW-Authenticate: Basic realm=\"exitscope\"\r\n",
        Some("405") => "Allow: GET, HEAD\r\n",
        Some("503") => "Retry-After: 5\r\n",
        _ => "",
    };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{packed}{more}\
         Vary: Accept, Accept-Encoding\r\nX-Content-Type-Options: nosniff\r\nConnection: {connection}\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request {
        match parse(head.as_bytes()) {
            Parsed::Whole(request, length) => {
                assert_eq!(length, head.len());
                request
            }
            other => panic!("{head:?} is {other:?}"),
        }
    }

    #[test]
    fn prometheus_gets_openmetrics_and_a_browser_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;\
                          q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (prometheus, Exposition::OpenMetrics),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Exposition::Prometheus),
            ("", Exposition::Prometheus),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Exposition::Prometheus),
            ("application/openmetrics-text;q=0", Exposition::Prometheus),
            ("application/openmetrics-text; q=nonsense", Exposition::Prometheus),
        ] {
            let head = format!(
                "GET /metrics?x=1 HTTP/1.1\r\nAccept: {accept}\r\nAccept-Encoding: br, gzip;q=0.5\r\n\r\n"
            );
            let request = request(&head);
            assert_eq!(
                (request.path.as_str(), request.format, request.gzip),
                ("/metrics", expected, true),
                "{accept}"
            );
            assert!(request.keep_alive);
        }
    }

    #[test]
    fn connections_stay_only_where_the_next_request_is_found() {
        let keeps = |head: &str| request(head).keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        for closed in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(!keeps(closed), "{closed}");
        }
    }

    #[test]
    fn what_is_no_request() {
        assert_eq!(parse(b"GET / HT"), Parsed::Partial);
        assert_eq!(parse(b"\x16\x03\x01\x02\x00"), Parsed::Wrong);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Parsed::Wrong);
    }
}
