//! Requests to other programs over HTTP.
//!
//! Owns: connections, TLS with the certificates that the system trusts, limits of time and size. Never: the
//! contents of requests and answers. Invariants: a request has a connection of its own; a redirection is not
//! followed.

use axum::body::{Body, to_bytes};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Request, Response, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Time for a request and its answer.
const ANSWER: Duration = Duration::from_secs(15);
/// The name of the archive in requests.
const NAME: &str = concat!("recordarchive/", env!("CARGO_PKG_VERSION"));

/// Whether a URL is `https://`, or `http://` to this machine: others would be sent secrets in clear.
pub(crate) fn is_https_or_local(url: &str) -> bool {
    let is_local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    let is_host = |rest: &str| rest.is_empty() || rest.starts_with([':', '/']);
    url.starts_with("https://") || is_local.iter().any(|begin| url.strip_prefix(begin).is_some_and(is_host))
}

/// Sends requests.
#[derive(Clone)]
pub(crate) struct Client {
    tls: TlsConnector,
    /// The system trusts some certificates.
    trusts: bool,
}

impl Client {
    /// A client that trusts the system's certificates.
    ///
    /// # Errors
    /// TLS can't be set up, for a person.
    pub(crate) fn new() -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let (good, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), trusts: good > 0 })
    }

    /// Whether requests to a URL can work at all.
    ///
    /// # Errors
    /// Why not, for a person.
    pub(crate) fn may_ask(&self, url: &str) -> Result<(), String> {
        if self.trusts || !url.starts_with("https:") {
            return Ok(());
        }
        Err("the system has no certificates to trust: install ca-certificates".into())
    }

    /// Sends a request with a whole URL, and reads at most `max_octets` of the body of the answer; with 0,
    /// nothing.
    pub(crate) async fn send(
        &self,
        request: Request<Vec<u8>>,
        max_octets: usize,
    ) -> io::Result<Response<Vec<u8>>> {
        let answer = tokio::time::timeout(ANSWER, self.exchange(request, max_octets));
        answer.await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", ANSWER.as_secs())))
        })
    }

    async fn exchange(&self, request: Request<Vec<u8>>, max_octets: usize) -> io::Result<Response<Vec<u8>>> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let (mut parts, body) = request.into_parts();
        let authority = parts.uri.authority().ok_or_else(|| wrong("the URL has no host"))?.clone();
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_tls = parts.uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        parts.uri = path.parse::<Uri>().map_err(io::Error::other)?;
        let named = match authority.port() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        for (name, value) in [
            (header::HOST, HeaderValue::try_from(named).map_err(io::Error::other)?),
            (header::USER_AGENT, HeaderValue::from_static(NAME)),
            (header::CONTENT_LENGTH, body.len().into()),
        ] {
            parts.headers.insert(name, value);
        }
        let request = Request::from_parts(parts, Body::from(body));
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        if is_tls {
            let name = host.try_into().map_err(io::Error::other)?;
            exchange_on(self.tls.connect(name, stream).await?, request, max_octets).await
        } else {
            exchange_on(stream, request, max_octets).await
        }
    }
}

async fn exchange_on<S>(stream: S, request: Request<Body>, max_octets: usize) -> io::Result<Response<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let mut connection = tokio::task::JoinSet::from_iter([connection]);
    let (parts, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    let read = if max_octets == 0 {
        Vec::new()
    } else {
        to_bytes(Body::new(body), max_octets).await.map_err(io::Error::other)?.to_vec()
    };
    connection.abort_all();
    Ok(Response::from_parts(parts, read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::post;

    #[test]
    fn an_answer_is_read_up_to_its_limit_and_a_redirection_is_an_answer() {
        run(async {
            let echo = |headers: HeaderMap, uri: Uri, body: String| async move {
                let host = headers[header::HOST].to_str().unwrap_or_default().to_owned();
                ([(header::LOCATION, "/elsewhere")], format!("{host} {uri} {body}"))
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            tokio::spawn(axum::serve(listener, Router::new().route("/a", post(echo))).into_future());
            let client = Client::new().unwrap();
            let ask = |limit| {
                let request = Request::post(format!("http://{addr}/a?b=1")).body(b"hello".to_vec()).unwrap();
                client.send(request, limit)
            };
            let wanted = format!("{addr} /a?b=1 hello");
            let whole = ask(1000).await.unwrap();
            assert_eq!(String::from_utf8_lossy(whole.body()), wanted);
            assert!(ask(0).await.unwrap().body().is_empty());
            assert!(ask(wanted.len() - 1).await.is_err());
            assert!(client.send(Request::get("/a").body(Vec::new()).unwrap(), 9).await.is_err());
        });
    }
}
