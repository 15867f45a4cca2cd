//! The archive under measurement: this program, started beside, and asked over HTTP as a browser would.

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use http_body::Body as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Longest answer that is read.
const MAX_ANSWER_OCTETS: usize = 8 << 20;

/// A running archive, which ends with this value.
pub(super) struct Server {
    child: Child,
    addr: String,
}

impl Server {
    /// Starts it on a data folder and an intake.
    ///
    /// # Errors
    /// If it does not start, for a person.
    pub(super) fn start(data: &Path, intake: &Path) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        // A config of its own: that of the machine is about another archive.
        let mut child = Command::new(program)
            .args(["--config", "/dev/null", "--data"])
            .arg(data)
            .arg("--intake")
            .arg(intake)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the server does not start: {error}"))?;
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let addr = line.trim().rsplit_once("http://").map(|(_, addr)| addr.to_owned());
        match (read, addr) {
            (Ok(_), Some(addr)) => Ok(Self { child, addr }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("the server does not start: {line:?}"))
            }
        }
    }

    /// A connection with the rights of a token.
    pub(super) async fn client(&self, token: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(&self.addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Client { sender, host: self.addr.clone(), authorization: format!("Bearer {token}") })
    }

    /// Its memory now, and its processor time since it began.
    pub(super) fn used(&self) -> (u64, Duration) {
        let folder = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let stat = std::fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
        // Behind the name, which may have blanks: the 12th and 13th are user and system time in hundredths of
        // a second.
        let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            behind.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
        (kib.unwrap_or(0_u64) * 1024, Duration::from_millis(ticks * 10))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).map(nix::unistd::Pid::from_raw);
        if let Ok(pid) = pid {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// A connection to the archive.
pub(super) struct Client {
    sender: SendRequest<Body>,
    host: String,
    authorization: String,
}

/// The result of a request.
pub(super) struct Answer {
    /// Until the first octet of the body.
    pub(super) first: Duration,
    /// Until the last.
    pub(super) whole: Duration,
    octets: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.octets).unwrap_or(Value::Null)
    }

    /// Octets of the body.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }
}

impl Client {
    /// Asks for a path of the API, or for octets of it.
    ///
    /// # Errors
    /// If the connection breaks, or the answer is no success.
    pub(super) async fn get(&mut self, path: &str, range: Option<(u64, u64)>) -> io::Result<Answer> {
        let mut request = Request::get(format!("/api/v1{path}"))
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.authorization);
        if let Some((from, to)) = range {
            request = request.header(header::RANGE, format!("bytes={from}-{to}"));
        }
        let request = request.body(Body::empty()).map_err(io::Error::other)?;
        let begun = Instant::now();
        self.sender.ready().await.map_err(io::Error::other)?;
        let answer = self.sender.send_request(request).await.map_err(io::Error::other)?;
        if !answer.status().is_success() {
            return Err(io::Error::other(format!("{path} answers {}", answer.status())));
        }
        let mut body = answer.into_body();
        let mut octets = Vec::new();
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let first = begun.elapsed();
        if let Some(frame) = frame {
            let frame = frame.map_err(io::Error::other)?;
            octets.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        let rest = to_bytes(Body::new(body), MAX_ANSWER_OCTETS).await.map_err(io::Error::other)?;
        octets.extend_from_slice(&rest);
        Ok(Answer { first, whole: begun.elapsed(), octets })
    }
}
