//! TLS: connections that are accepted are encrypted before the web server sees them.
//!
//! Invariants: a client that does not get on with its handshake keeps nobody waiting, and a limited number
//! of clients may try at once.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once.
const MAX_HANDSHAKES: usize = 256;

/// Reads certificate chain and key, both PEM.
///
/// # Errors
/// A text for the administrator that names the file.
pub(crate) fn read(cert: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let told = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| told(cert, &error))?;
    if chain.is_empty() {
        return Err(told(cert, &"there is no certificate in it; a PEM file with the chain is wanted"));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| told(key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| told(cert, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts connections that are encrypted.
pub(crate) struct TlsListener {
    ready: Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    /// That of a listener for TCP.
    ///
    /// # Errors
    /// The address can't be told.
    pub(crate) fn new(listener: TcpListener, acceptor: TlsAcceptor) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let (out, ready) = channel(16);
        let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let accepting = tokio::spawn(async move {
            let mut listener = listener;
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (stream, peer) = Listener::accept(&mut listener).await;
                let (acceptor, out) = (acceptor.clone(), out.clone());
                tokio::spawn(async move {
                    let _place = place;
                    // One that fails is the client's to tell; a log would grow with every scan.
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        let _ = out.send((stream, peer)).await;
                    }
                });
            }
        });
        Ok(Self { ready, addr, accepting })
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The task that accepts never ends.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;
    use axum::Router;
    use axum::routing::get;
    use std::process::Command;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    #[test]
    fn a_client_that_trusts_the_certificate_is_served_while_another_dawdles() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        assert!(read(&key, &key).err().unwrap().contains("key.pem"));
        assert!(read(&cert, &folder.path().join("none.pem")).err().unwrap().contains("none.pem"));
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let listener = TlsListener::new(listener, read(&cert, &key).unwrap()).unwrap();
            let addr = listener.local_addr().unwrap();
            tokio::spawn(
                axum::serve(listener, Router::new().route("/", get(|| async { "hello" }))).into_future(),
            );
            let _dawdles = TcpStream::connect(addr).await.unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let stream = TcpStream::connect(addr).await.unwrap();
            let name = "localhost".try_into().unwrap();
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text).await;
            assert!(text.starts_with("HTTP/1.1 200") && text.contains("hello"), "{text}");
        });
    }
}
