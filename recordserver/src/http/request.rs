//! One HTTP request as text, and the head of its answer. Pure.
//!
//! Owns: the part of HTTP that is understood, a GET without a body, and for whom: a page in a browser of the
//! same machine can be made to ask under a name of its own (DNS rebinding), so `Host` has to be ours. It
//! reads strangers' octets in the process that records: nothing here may panic, and the lints say so.

use std::net::{IpAddr, SocketAddr};

/// Longest request, its headers included.
pub(super) const MAX_REQUEST_OCTETS: usize = 4096;

/// The page asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Counters and gauges.
    Metrics,
    /// The running recordings.
    Sessions,
    /// Whether the loop answers, and whether it takes new recordings.
    Health,
}

/// The reason for which a request gets no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Malformed,
    NotFound,
    NotGet,
    TooSlow,
    Body,
    OtherHost,
    TooLong,
    Busy,
    Version,
}

impl Refused {
    /// Status line and text.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Malformed => ("400 Bad Request", "no HTTP request that is understood\n"),
            Self::NotFound => ("404 Not Found", "there are /metrics, /sessions and /health\n"),
            Self::NotGet => ("405 Method Not Allowed", "only GET\n"),
            Self::TooSlow => ("408 Request Timeout", "the request did not come in time\n"),
            Self::Body => ("413 Content Too Large", "a request has no body here\n"),
            Self::OtherHost => (
                "421 Misdirected Request",
                "Host has to be localhost, a loopback address or the one of the http setting\n",
            ),
            Self::TooLong => ("431 Request Header Fields Too Large", "a request has at most 4096 octets\n"),
            Self::Busy => ("503 Service Unavailable", "the server is busy\n"),
            Self::Version => ("505 HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1\n"),
        }
    }
}

/// Reads the octets so far; `None` if there has to be more. `own` is the address that is served; `None` on a
/// Unix socket, which no page in a browser reaches.
pub(super) fn read(octets: &[u8], own: Option<IpAddr>) -> Option<Result<Page, Refused>> {
    match head(octets) {
        Some(head) if head.len() <= MAX_REQUEST_OCTETS => Some(understand(head, own)),
        Some(_) => Some(Err(Refused::TooLong)),
        None if octets.len() >= MAX_REQUEST_OCTETS => Some(Err(Refused::TooLong)),
        None => None,
    }
}

/// The request line and the headers, without the empty line that ends them.
fn head(octets: &[u8]) -> Option<&[u8]> {
    let mut line_is_empty = false;
    for (at, octet) in octets.iter().enumerate() {
        match octet {
            b'\n' if line_is_empty => return octets.get(..at),
            b'\n' => line_is_empty = true,
            b'\r' => {}
            _ => line_is_empty = false,
        }
    }
    None
}

fn understand(head: &[u8], own: Option<IpAddr>) -> Result<Page, Refused> {
    let text = std::str::from_utf8(head).map_err(|_| Refused::Malformed)?;
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refused::Malformed);
    };
    if !version.starts_with("HTTP/") || method.is_empty() {
        return Err(Refused::Malformed);
    }
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err(Refused::Version);
    }
    let mut host = None;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Refused::Malformed)?;
        // Blanks there are how requests are smuggled past a proxy.
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Refused::Malformed);
        }
        let value = value.trim();
        if name.eq_ignore_ascii_case("host") && host.replace(value).is_some() {
            return Err(Refused::Malformed);
        }
        if name.eq_ignore_ascii_case("transfer-encoding")
            || name.eq_ignore_ascii_case("content-length") && value != "0"
        {
            return Err(Refused::Body);
        }
    }
    match (host, own) {
        (_, None) => {}
        (None, Some(_)) if version == "HTTP/1.0" => {}
        (None, Some(_)) => return Err(Refused::Malformed),
        (Some(host), Some(own)) if is_ours(host, own) => {}
        (Some(_), Some(_)) => return Err(Refused::OtherHost),
    }
    if method != "GET" {
        return Err(Refused::NotGet);
    }
    match target.split('?').next() {
        Some("/metrics") => Ok(Page::Metrics),
        Some("/sessions") => Ok(Page::Sessions),
        Some("/health") => Ok(Page::Health),
        _ => Err(Refused::NotFound),
    }
}

/// Whether a `Host` names this machine's loopback interface or the address that is served, at any port: a
/// tunnel has another one at its near end.
fn is_ours(host: &str, own: IpAddr) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ip = host.parse::<SocketAddr>().map(|addr| addr.ip()).or_else(|_| bare.parse::<IpAddr>());
    if let Ok(ip) = ip {
        return ip.to_canonical().is_loopback() || ip == own;
    }
    let name = match host.split_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => host,
    };
    name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost")
}

/// The head of an answer; without a length, the end of the connection is the end of the answer.
pub(super) fn answer_head(status: &str, content_type: &str, length: Option<usize>) -> String {
    let length = length.map(|octets| format!("Content-Length: {octets}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{length}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 5));

    fn asked(text: &str) -> Option<Result<Page, Refused>> {
        read(text.as_bytes(), Some(OWN))
    }

    #[test]
    fn a_get_of_each_page_is_understood_with_either_line_end_and_a_query() {
        for end in ["\r\n", "\n"] {
            for (target, page) in [
                ("/metrics", Page::Metrics),
                ("/sessions", Page::Sessions),
                ("/health", Page::Health),
                ("/metrics?name[]=x", Page::Metrics),
            ] {
                let text =
                    format!("GET {target} HTTP/1.1{end}Host: localhost:9755{end}Accept: */*{end}{end}");
                assert_eq!(asked(&text), Some(Ok(page)), "{text:?}");
                for cut in 0..text.len() {
                    assert_eq!(asked(&text[..cut]), None, "{:?}", &text[..cut]);
                }
            }
        }
    }

    #[test]
    fn a_request_other_than_a_get_without_a_body_is_refused_by_its_error() {
        let ours = "Host: 127.0.0.1\r\n";
        for (text, refused) in [
            (format!("POST /metrics HTTP/1.1\r\n{ours}\r\n"), Refused::NotGet),
            (format!("HEAD /metrics HTTP/1.1\r\n{ours}\r\n"), Refused::NotGet),
            (format!("GET /metrics HTTP/1.1\r\n{ours}Content-Length: 1000000\r\n\r\n"), Refused::Body),
            (format!("GET /metrics HTTP/1.1\r\n{ours}content-length: -1\r\n\r\n"), Refused::Body),
            (format!("GET /metrics HTTP/1.1\r\n{ours}Transfer-Encoding: chunked\r\n\r\n"), Refused::Body),
            (format!("GET / HTTP/1.1\r\n{ours}\r\n"), Refused::NotFound),
            (format!("GET //metrics HTTP/1.1\r\n{ours}\r\n"), Refused::NotFound),
            (format!("GET /sessions/../metrics HTTP/1.1\r\n{ours}\r\n"), Refused::NotFound),
            (format!("GET http://x/metrics HTTP/1.1\r\n{ours}\r\n"), Refused::NotFound),
            (format!("GET /metrics HTTP/2.0\r\n{ours}\r\n"), Refused::Version),
            (format!("GET  /metrics HTTP/1.1\r\n{ours}\r\n"), Refused::Malformed),
            (format!("GET /metrics\r\n{ours}\r\n"), Refused::Malformed),
            (format!("GET /metrics HTTP/1.1\r\n{ours}{ours}\r\n"), Refused::Malformed),
            (format!("GET /metrics HTTP/1.1\r\n{ours} folded: x\r\n\r\n"), Refused::Malformed),
            (format!("GET /metrics HTTP/1.1\r\n{ours}no colon\r\n\r\n"), Refused::Malformed),
            ("GET /metrics HTTP/1.1\r\n\r\n".into(), Refused::Malformed),
            ("\n\n".into(), Refused::Malformed),
            (format!("GET /metrics HTTP/1.1\r\nX: {}", "a".repeat(5000)), Refused::TooLong),
            (format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(5000)), Refused::TooLong),
        ] {
            assert_eq!(asked(&text), Some(Err(refused)), "{text:.80}");
        }
        assert_eq!(
            read(b"GET /metrics HTTP/1.0\r\nHost: \xff\r\n\r\n", Some(OWN)),
            Some(Err(Refused::Malformed))
        );
    }

    #[test]
    fn only_names_of_this_machine_are_a_host_and_a_unix_socket_needs_none() {
        for ours in [
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:9755",
            "127.9.9.9",
            "[::1]",
            "[::1]:80",
            "::1",
            "127.0.0.5:1",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_ours(ours, OWN), "{ours}");
        }
        let served: IpAddr = "192.0.2.7".parse().expect("address");
        assert!(is_ours("192.0.2.7:9755", served) && !is_ours("192.0.2.7:9755", OWN));
        for others in [
            "",
            ":80",
            "attacker.example",
            "attacker.example:9755",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "localhost:80:80",
            "localhost:x",
            "0.0.0.0",
            "[::]",
            "192.0.2.1",
            "[::1",
            "localhost attacker.example",
            "2130706433",
        ] {
            assert!(!is_ours(others, OWN), "{others}");
        }
        let foreign = b"GET /sessions HTTP/1.1\r\nHost: attacker.example\r\n\r\n";
        assert_eq!(read(foreign, Some(OWN)), Some(Err(Refused::OtherHost)));
        assert_eq!(read(foreign, None), Some(Ok(Page::Sessions)));
        assert_eq!(asked("GET /metrics HTTP/1.0\r\n\r\n"), Some(Ok(Page::Metrics)));
    }

    proptest! {
        #[test]
        fn anything_at_all_is_read_or_refused_and_never_waited_for_beyond_the_limit(
            octets in proptest::collection::vec(any::<u8>(), 0..6000),
            text in "(GET|POST|[A-Z]{0,4}) ?/?(metrics|sessions|\\PC{0,8}) ?HTTP/[0-9.]{0,4}(\r?\n[A-Za-z-]{0,16}:? ?\\PC{0,12}){0,6}\r?\n\r?\n",
        ) {
            let answer = read(&octets, Some(OWN));
            prop_assert!(answer.is_some() || octets.len() < MAX_REQUEST_OCTETS);
            let _ = read(text.as_bytes(), Some(OWN));
        }
    }
}
