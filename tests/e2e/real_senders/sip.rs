//! The callee of a call: answers an INVITE with where media goes, and every other request with 200.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::Codec;

/// A running callee; gone when dropped.
pub(super) struct Callee {
    /// The address where it takes calls.
    pub(super) address: SocketAddr,
    over: Arc<AtomicBool>,
    hung_up: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Callee {
    /// Takes calls, and has their media in `codec` sent to `media`.
    pub(super) fn start(media: SocketAddr, codec: Codec) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let address = socket.local_addr().expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let over = Arc::new(AtomicBool::new(false));
        let hung_up = Arc::new(AtomicBool::new(false));
        let (stop, bye) = (Arc::clone(&over), Arc::clone(&hung_up));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                let Ok((octets, caller)) = socket.recv_from(&mut buffer) else { continue };
                let request = String::from_utf8_lossy(&buffer[..octets]);
                if request.starts_with("BYE ") {
                    bye.store(true, Ordering::Relaxed);
                }
                if let Some(answer) = answer(&request, address, media, codec) {
                    socket.send_to(answer.as_bytes(), caller).expect("an answer sent");
                }
            }
        });
        Self { address, over, hung_up, thread: Some(thread) }
    }

    /// Whether the caller has ended the call.
    pub(super) fn has_hung_up(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed)
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// `None`: no answer is due.
fn answer(request: &str, here: SocketAddr, media: SocketAddr, codec: Codec) -> Option<String> {
    let method = request.split(' ').next()?;
    if method == "ACK" || method == "SIP/2.0" || request.trim().is_empty() {
        return None;
    }
    let mut text = String::from("SIP/2.0 200 OK\r\n");
    for line in request.lines().take_while(|line| !line.trim().is_empty()) {
        let name = line.split(':').next()?.trim().to_ascii_lowercase();
        match name.as_str() {
            "via" | "v" | "from" | "f" | "call-id" | "i" | "cseq" => {
                let _ = write!(text, "{line}\r\n");
            }
            "to" | "t" => {
                let tag = if line.contains(";tag=") { "" } else { ";tag=callee" };
                let _ = write!(text, "{line}{tag}\r\n");
            }
            _ => {}
        }
    }
    let (kind, name) = (codec.payload_type(), codec.name());
    let (host, port) = (media.ip(), media.port());
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP {kind}\r\na=rtpmap:{kind} {name}/8000\r\na=ptime:20\r\n",
    );
    let body = if method == "INVITE" { body } else { String::new() };
    let length = body.len();
    let _ = write!(
        text,
        "Contact: <sip:callee@{here}>\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}",
    );
    Some(text)
}
