//! A phone that speaks the extension, on sockets of its own, so that a test can cut them.

use crate::support::{Server, files, noise, wait};
use media::blocks::BlockPool;
use media::time::Mono;
use recfile::call::Call;
use recfile::header::HEADER_OCTETS;
use recfile::sidecar::Sidecar;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;
use uplink::media_hosts::MediaHosts;
use uplink::media_stream::outlet::Outlet;
use uplink::media_stream::{Acks, hello};
use uplink::phone::{Action, End, Lasting, Params, Settings};

/// Octets of audio in a packet: 20 ms.
pub(crate) const PACKET_OCTETS: usize = 160;

/// Octets that go out at once.
const SENT_AT_ONCE: usize = 4096;

pub(crate) fn rtp(number: usize, payload: &[u8]) -> Vec<u8> {
    let [.., high, low] = number.to_be_bytes();
    let ticks = u32::try_from(number * PACKET_OCTETS).expect("a call of the test is shorter");
    let mut packet = vec![0x80, 8, high, low];
    packet.extend(ticks.to_be_bytes());
    packet.extend(7_u32.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

pub(crate) struct Phone {
    pub(crate) server: SocketAddr,
    lasting: Lasting,
    pub(crate) outlet: Outlet,
    pool: BlockPool,
    pub(crate) control: Option<TcpStream>,
    pub(crate) media: Option<TcpStream>,
    acks: Acks,
    /// The time of the last item.
    last_ms: u32,
    /// Packets that were made, and their audio.
    packets: usize,
    audio: Vec<u8>,
    pub(crate) end: Option<End>,
    pub(crate) interruptions: usize,
    /// Its clock is ahead of the machine's by the waits that it left out.
    ahead: Duration,
    /// Connections that are gone, and that the server hears nothing of.
    gone: Vec<TcpStream>,
    pub(crate) acknowledged: usize,
}

impl Phone {
    pub(crate) fn start(server: &Server, id: &str) -> Self {
        let settings = Settings {
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(20),
            terminator: b"\r\n",
        };
        let call = Call { remote_number: "+493023125001".into(), ..Call::default() };
        let params = Params {
            host: server.control.ip().to_string(),
            port: server.control.port(),
            id: id.into(),
            device: Some("00:11:22:33:44:55".into()),
            codec: "PCMA".into(),
            call,
            media_hosts: MediaHosts::default(),
            extension: None,
        };
        let mut out = Vec::new();
        let lasting = Lasting::start(settings, params, true, os::clock::mono(), &mut out);
        let mut phone = Self {
            server: server.control,
            lasting,
            outlet: Outlet::default(),
            pool: BlockPool::new(64 << 20),
            control: None,
            media: None,
            acks: Acks::default(),
            last_ms: 0,
            packets: 0,
            audio: noise(4_000_000),
            end: None,
            interruptions: 0,
            ahead: Duration::ZERO,
            gone: Vec::new(),
            acknowledged: 0,
        };
        phone.perform(out);
        phone.until("the recording begins", |phone| phone.media.is_some());
        phone
    }

    /// The audio of the first `packets` packets.
    pub(crate) fn said(&self, packets: usize) -> &[u8] {
        &self.audio[..packets * PACKET_OCTETS]
    }

    /// The time of an item that arrives now, and not before the last one.
    fn at_ms(&mut self) -> u32 {
        let at_ms = u32::try_from(self.lasting.elapsed_ms(self.now())).expect("short");
        self.last_ms = self.last_ms.max(at_ms);
        self.last_ms
    }

    /// Makes the next `packets` packets.
    pub(crate) fn says(&mut self, packets: usize) {
        for _ in 0..packets {
            let audio = &self.audio[self.packets * PACKET_OCTETS..][..PACKET_OCTETS];
            let (packet, at_ms) = (rtp(self.packets, audio), self.at_ms());
            assert!(self.outlet.packet(&packet, at_ms, &mut self.pool), "the test's memory is enough");
            self.packets += 1;
        }
    }

    pub(crate) fn pauses(&mut self) {
        let at_ms = self.at_ms();
        assert!(self.outlet.pause(at_ms, &mut self.pool));
    }

    pub(crate) fn resumes_after(&mut self, ms: u32) {
        // By `ms` later than the last one, whatever time has passed.
        self.last_ms += ms;
        assert!(self.outlet.resume(self.last_ms, &mut self.pool));
    }

    pub(crate) fn stops(&mut self) {
        let mut out = Vec::new();
        self.lasting.stop("hangup", self.outlet.items(), self.now(), &mut out);
        self.perform(out);
    }

    /// Stops, and waits for the end.
    pub(crate) fn ends(&mut self) -> End {
        self.stops();
        self.until("it ends", |phone| phone.end.is_some());
        self.end.take().expect("just seen")
    }

    pub(crate) fn until(&mut self, what: &str, mut reached: impl FnMut(&mut Self) -> bool) {
        let end = os::clock::mono() + Duration::from_secs(60);
        while !reached(self) {
            assert!(os::clock::mono() < end, "{what}: waited for in vain, {:?}", self.end);
            self.step();
        }
    }

    /// Goes on for a while.
    pub(crate) fn goes_on_for(&mut self, span: Duration) {
        let end = os::clock::mono() + span;
        while os::clock::mono() < end {
            self.step();
        }
    }

    /// One turn of the phone's loop.
    pub(crate) fn step(&mut self) {
        let (now, mut out) = (self.now(), Vec::new());
        self.read_control(now, &mut out);
        self.perform(out);
        let mut out = Vec::new();
        if let Err(problem) = self.exchange_media() {
            self.media = None;
            self.outlet.is_cut();
            self.lasting.media_lost(&problem, now, &mut out);
        }
        if self.lasting.is_interrupted() && self.control.is_none() {
            // It waits before it connects again: not here.
            let due = self.lasting.poll_deadline().unwrap_or(now);
            self.ahead += due.since(now);
        }
        self.lasting.timer(self.now(), &mut out);
        self.perform(out);
        wait(Duration::from_millis(1));
    }

    fn now(&self) -> Mono {
        os::clock::mono() + self.ahead
    }

    /// A connection breaks, that for media or the other one. The server hears of it, or not.
    pub(crate) fn is_cut(&mut self, of_media: bool, is_heard: bool) {
        let mut out = Vec::new();
        let cut = if of_media { self.media.take() } else { self.control.take() };
        self.gone.extend(cut.filter(|_| !is_heard));
        if of_media {
            self.outlet.is_cut();
            self.lasting.media_lost("cut", self.now(), &mut out);
        } else {
            self.lasting.peer_closed(Some("cut"), self.now(), &mut out);
        }
        self.perform(out);
    }

    /// Another server is in the place of the former one.
    pub(crate) fn finds(&mut self, server: &Server) {
        self.server = server.control;
    }

    fn read_control(&mut self, now: Mono, out: &mut Vec<Action>) {
        let Some(control) = &mut self.control else { return };
        let mut octets = [0; 4096];
        match control.read(&mut octets) {
            Ok(0) => {
                self.control = None;
                self.lasting.peer_closed(None, now, out);
            }
            Ok(count) => self.lasting.received(&octets[..count], now, out),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                self.control = None;
                self.lasting.peer_closed(Some(&error.to_string()), now, out);
            }
        }
    }

    fn exchange_media(&mut self) -> Result<(), String> {
        let Some(media) = &mut self.media else { return Ok(()) };
        let unsent = self.outlet.unsent(SENT_AT_ONCE);
        match media.write(&unsent) {
            Ok(count) => self.outlet.note_sent(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        let mut octets = [0; 4096];
        match media.read(&mut octets) {
            Ok(0) => Err("closed".into()),
            Ok(count) => {
                let mut heard = Vec::new();
                let read =
                    self.acks.received(&octets[..count], |next, token| heard.push((next, token.to_owned())));
                read.map_err(|error| error.to_string())?;
                for (next, token) in heard {
                    self.acknowledged += 1;
                    self.outlet.acknowledge(next, &mut self.pool).map_err(|error| error.to_string())?;
                    self.lasting.acknowledged(self.outlet.first(), &token);
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let mut more = Vec::new();
        let now = self.now();
        for action in actions {
            match action {
                Action::Connect { generation, .. } => match connect(self.server) {
                    Ok(stream) => {
                        self.control = Some(stream);
                        self.lasting.connected(generation, None, now, &mut more);
                    }
                    Err(error) => self.lasting.connect_failed(generation, &error, now, &mut more),
                },
                Action::Send(octets) => {
                    // One that is gone is noticed when it is read.
                    let _ = self.control.as_mut().map(|control| control.write_all(&octets));
                }
                Action::StreamTo { target, granted } => {
                    self.acks = Acks::default();
                    self.outlet.rewind(granted.next).expect("the server wants what is kept");
                    let first = hello(granted.next, &granted.resume);
                    self.media = connect(target).ok().and_then(|mut media| {
                        media.write_all(&first).ok()?;
                        Some(media)
                    });
                    if self.media.is_some() {
                        self.lasting.media_connected();
                    } else {
                        self.outlet.is_cut();
                        self.lasting.media_lost("no connection", now, &mut more);
                    }
                }
                Action::Interrupted { .. } => {
                    self.interruptions += 1;
                    self.cut_media();
                }
                Action::Close => {
                    self.control = None;
                    self.cut_media();
                }
                Action::Ended(end) => self.end = Some(end),
                Action::Started | Action::Restored | Action::SetRtpTarget(None) => {}
                other => panic!("{other:?}"),
            }
        }
        if !more.is_empty() {
            self.perform(more);
        }
    }

    pub(crate) fn cut_media(&mut self) {
        self.media = None;
        self.outlet.is_cut();
    }

    /// Whether the server has all items on its disk.
    pub(crate) fn is_done(&self) -> bool {
        self.outlet.is_done()
    }
}

fn connect(addr: SocketAddr) -> Result<TcpStream, String> {
    let stream =
        TcpStream::connect_timeout(&addr, Duration::from_secs(2)).map_err(|error| error.to_string())?;
    stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// The sidecars and the audio of all files of a recording, in order, and the audio joined.
pub(crate) fn segments(folder: &Path, id: &str) -> (Vec<Sidecar>, Vec<u8>) {
    let mut found: Vec<(Sidecar, Vec<u8>)> = files(folder, "json")
        .into_iter()
        .filter_map(|path| {
            let sidecar = Sidecar::parse(&std::fs::read(&path).ok()?).ok()?;
            let file = std::fs::read(path.with_extension("wav")).ok()?;
            (sidecar.recording == id).then(|| (sidecar, file[HEADER_OCTETS.min(file.len())..].to_vec()))
        })
        .collect();
    found.sort_by_key(|(sidecar, _)| sidecar.segment);
    let numbers: Vec<u32> = found.iter().map(|(sidecar, _)| sidecar.segment).collect();
    assert!(numbers.iter().copied().eq(1..=u32::try_from(numbers.len()).expect("few")), "{numbers:?}");
    let (sidecars, audio): (Vec<Sidecar>, Vec<Vec<u8>>) = found.into_iter().unzip();
    (sidecars, audio.concat())
}
