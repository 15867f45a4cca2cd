//! Both ends with the extension, over a network that cuts connections and a server that crashes: every item
//! gets to the server's disk once, and the phone hears of it.

use media::blocks::BlockPool;
use media::time::Mono;
use proptest::prelude::*;
use recfile::call::Call;
use std::collections::VecDeque;
use std::time::Duration;
use uplink::media_hosts::MediaHosts;
use uplink::media_stream::inlet::{Arrival, Inlet};
use uplink::media_stream::outlet::Outlet;
use uplink::media_stream::{Acks, ack, hello};
use uplink::message::Outcome;
use uplink::message::extension::Granted;
use uplink::phone::{self, End, Lasting, Params, Settings};
use uplink::server::{self, Session, Timing};

const TOKEN: &str = "token.1";

/// Octets under way in one direction.
#[derive(Default)]
struct Pipe(VecDeque<u8>);

impl Pipe {
    fn put(&mut self, octets: &[u8]) {
        self.0.extend(octets);
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        self.0.drain(..most.min(self.0.len())).collect()
    }
}

/// A connection: what goes to the server, what comes from it.
#[derive(Default)]
struct Wire {
    up: Pipe,
    down: Pipe,
}

struct World {
    now: Mono,
    // The phone.
    phone: Lasting,
    outlet: Outlet,
    acks: Acks,
    pool: BlockPool,
    said: Vec<u8>,
    interruptions: u32,
    restorations: u32,
    ends: Vec<End>,
    // The network.
    connecting: Option<phone::Generation>,
    control: Option<Wire>,
    media: Option<Wire>,
    // The server.
    session: Option<Session>,
    inlet: Inlet,
    heard: Vec<u8>,
    durable: u64,
    finish_after: Option<u64>,
    finished: bool,
}

#[derive(Clone, Debug)]
enum Event {
    Packet,
    Pause,
    /// Octets that are carried in each direction, of both connections.
    Carry(usize),
    /// The server's disk has this part of all, in hundredths.
    Sync(u64),
    CutControl,
    CutMedia,
    Crash,
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        12 => Just(Event::Packet),
        1 => Just(Event::Pause),
        12 => (1..3000_usize).prop_map(Event::Carry),
        4 => (0..=100_u64).prop_map(Event::Sync),
        1 => Just(Event::CutControl),
        1 => Just(Event::CutMedia),
        1 => Just(Event::Crash),
        6 => (1..2000_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..400)
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(5),
            terminator: b"\n",
        };
        let params = Params {
            host: "192.0.2.1".into(),
            port: 9099,
            id: "abc".into(),
            device: Some("phone".into()),
            codec: "PCMA".into(),
            call: Call::default(),
            media_hosts: MediaHosts::parse([]).expect("no hosts are good hosts"),
            extension: None,
        };
        let now = Mono::new(Duration::from_secs(1));
        let mut out = Vec::new();
        let phone = Lasting::start(settings, params, true, now, &mut out);
        let mut world = Self {
            now,
            phone,
            outlet: Outlet::default(),
            acks: Acks::default(),
            pool: BlockPool::new(1 << 20),
            said: Vec::new(),
            interruptions: 0,
            restorations: 0,
            ends: Vec::new(),
            connecting: None,
            control: None,
            media: None,
            session: None,
            inlet: Inlet::default(),
            heard: Vec::new(),
            durable: 0,
            finish_after: None,
            finished: false,
        };
        world.phone_does(out);
        world
    }

    fn phone(&mut self, give: impl FnOnce(&mut Lasting, Mono, &mut Vec<phone::Action>)) {
        let mut out = Vec::new();
        give(&mut self.phone, self.now, &mut out);
        self.phone_does(out);
    }

    fn phone_does(&mut self, actions: Vec<phone::Action>) {
        for action in actions {
            assert!(self.ends.is_empty(), "nothing comes after the end");
            match action {
                phone::Action::Connect { generation, .. } => self.connecting = Some(generation),
                phone::Action::Send(octets) => {
                    self.control.iter_mut().for_each(|wire| wire.up.put(&octets));
                }
                phone::Action::StreamTo { granted, .. } => {
                    let next = granted.next.max(self.outlet.first());
                    self.outlet.rewind(next).expect("the item is there");
                    self.acks = Acks::default();
                    self.inlet = Inlet::default();
                    self.phone.media_connected();
                    let mut wire = Wire::default();
                    wire.up.put(&hello(next, &granted.resume));
                    self.media = Some(wire);
                }
                phone::Action::Interrupted { .. } => {
                    self.interruptions += 1;
                    self.media = None;
                    self.outlet.is_cut();
                }
                phone::Action::Restored => self.restorations += 1,
                phone::Action::Close => {
                    self.control = None;
                    self.connecting = None;
                    self.hangs_up();
                }
                phone::Action::Ended(end) => self.ends.push(end),
                phone::Action::Started => {}
                phone::Action::SetRtpTarget(target) => assert_eq!(target, None),
                phone::Action::Resolve { .. } => unreachable!("the server is given by address"),
            }
        }
    }

    fn server(&mut self, give: impl FnOnce(&mut Session, Mono, &mut Vec<server::Action>)) {
        let Some(mut session) = self.session.take() else { return };
        let mut out = Vec::new();
        give(&mut session, self.now, &mut out);
        let mut actions = VecDeque::from(out);
        while let Some(action) = actions.pop_front() {
            let mut more = Vec::new();
            match action {
                server::Action::Send(octets) => {
                    self.control.iter_mut().for_each(|wire| wire.down.put(&octets));
                }
                server::Action::Open(opening) => {
                    let asked = opening.extension.expect("it is asked for");
                    assert_eq!(asked.resume.is_some(), self.interruptions > 0);
                    let next = (self.heard.len() as u64).saturating_sub(1).max(asked.from);
                    let granted = Granted { next, resume: TOKEN.into() };
                    session.granted("", 9100, Some(granted), self.now, &mut more);
                }
                server::Action::FinishAfter { items, .. } => self.finish_after = Some(items),
                server::Action::Detach => {}
                server::Action::Finish { .. } => panic!("it outlives its connection"),
                server::Action::Close => self.control = None,
            }
            actions.extend(more);
        }
        self.session = (!session.is_closed()).then_some(session);
    }

    /// The server notices that the control connection is gone.
    fn hangs_up(&mut self) {
        self.server(|session, now, out| session.peer_closed(now, out));
        self.session = None;
        self.finish_after = None;
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Packet => self.packet(),
            Event::Pause => {
                let at_ms = u32::try_from(self.said.len()).expect("small");
                assert!(self.outlet.pause(at_ms, &mut self.pool));
                self.said.push(0);
            }
            Event::Carry(octets) => self.carry(octets),
            Event::Sync(part) => self.sync(self.heard.len() as u64 * part / 100),
            Event::CutControl => self.cut_control(),
            Event::CutMedia => {
                if self.media.take().is_some() {
                    self.phone(|phone, now, out| phone.media_lost("reset", now, out));
                }
            }
            Event::Crash => {
                self.session = None;
                self.finish_after = None;
                self.heard.truncate(usize::try_from(self.durable).expect("small"));
                self.cut_control();
            }
            Event::Wait(ms) => self.wait(Duration::from_millis(ms)),
        }
    }

    fn packet(&mut self) {
        let number = u8::try_from(self.said.len() % 100 + 1).expect("small");
        let at_ms = u32::try_from(self.said.len()).expect("small");
        assert!(self.outlet.packet(&[0x80, number], at_ms, &mut self.pool));
        self.said.push(number);
    }

    fn cut_control(&mut self) {
        if self.control.take().is_some() {
            self.hangs_up();
            self.phone(|phone, now, out| phone.peer_closed(Some("reset"), now, out));
        }
    }

    fn carry(&mut self, octets: usize) {
        if let Some(generation) = self.connecting.take() {
            self.control = Some(Wire::default());
            let timing = Timing {
                start_within: Duration::from_secs(10),
                idle: None,
                stop_answer: Duration::from_secs(2),
            };
            self.session = Some(Session::new(timing, self.now));
            self.phone(|phone, now, out| phone.connected(generation, None, now, out));
        }
        if self.media.is_some() {
            let batch = self.outlet.unsent(octets);
            self.outlet.note_sent(batch.len());
            self.media.iter_mut().for_each(|wire| wire.up.put(&batch));
        }
        let up = self.media.as_mut().map(|wire| wire.up.take(octets)).unwrap_or_default();
        let (inlet, heard) = (&mut self.inlet, &mut self.heard);
        inlet.received(&up, |arrival| hear(heard, arrival)).expect("a media stream");
        let down = self.media.as_mut().map(|wire| wire.down.take(octets)).unwrap_or_default();
        let Self { acks, outlet, pool, phone, .. } = self;
        acks.received(&down, |next, token| {
            outlet.acknowledge(next, pool).expect("what was sent");
            phone.acknowledged(outlet.first(), token);
        })
        .expect("acknowledgements");
        // A request goes out in one segment; one in pieces is [`super::framing`]'s.
        let up = self.control.as_mut().map(|wire| wire.up.take(usize::MAX)).unwrap_or_default();
        self.server(|session, now, out| session.received(&up, now, out));
        let down = self.control.as_mut().map(|wire| wire.down.take(octets)).unwrap_or_default();
        self.phone(|phone, now, out| phone.received(&down, now, out));
    }

    fn sync(&mut self, items: u64) {
        if items > self.durable {
            self.durable = items;
        }
        let durable = self.durable;
        self.media.iter_mut().for_each(|wire| wire.down.put(&ack(durable, TOKEN)));
        if self.finish_after.is_some_and(|items| items <= durable) {
            self.finish_after = None;
            self.finished = true;
            self.server(|session, now, out| session.finished(Outcome::Success, now, out));
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.phone.poll_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.phone(|phone, now, out| phone.timer(now, out));
        }
        self.now = end;
        self.server(|session, now, out| session.timer(now, out));
    }
}

fn hear(heard: &mut Vec<u8>, arrival: Arrival<'_>) {
    let (number, item) = match arrival {
        Arrival::Hello { .. } => return,
        Arrival::Packet { number, octets, .. } => (number, octets[1]),
        Arrival::Pause { number, .. } | Arrival::Resume { number, .. } => (number, 0),
    };
    let number = usize::try_from(number).expect("small");
    match heard.get(number) {
        Some(known) => assert_eq!(*known, item, "an item that comes again is the same"),
        None => {
            assert_eq!(number, heard.len(), "no item is missing");
            heard.push(item);
        }
    }
}

proptest! {
    #[test]
    fn recording_is_whole_on_the_servers_disk_whatever_breaks(events in events()) {
        let mut world = World::new();
        // The first session is like one without the extension: it has to succeed.
        while world.media.is_none() {
            world.carry(10_000);
        }
        for event in events {
            world.happens(event);
        }
        let items = world.said.len() as u64;
        world.phone(|phone, now, out| phone.stop("hangup", items, now, out));
        for _ in 0..100 {
            if !world.ends.is_empty() {
                break;
            }
            world.wait(Duration::from_millis(250));
            world.carry(100_000);
            world.sync(world.heard.len() as u64);
        }
        prop_assert_eq!(&world.ends[..], &[End::Stopped { confirmed: true }]);
        prop_assert!(world.finished);
        prop_assert_eq!(world.heard, world.said);
        prop_assert!(world.restorations <= world.interruptions);
    }
}

#[test]
fn recording_whose_server_stays_away_ends_half_a_minute_after_its_stop() {
    let mut world = World::new();
    while world.media.is_none() {
        world.carry(10_000);
    }
    world.packet();
    world.cut_control();
    world.phone(|phone, now, out| phone.stop("hangup", 1, now, out));
    world.wait(Duration::from_secs(29));
    assert_eq!(world.ends, []);
    world.wait(Duration::from_secs(2));
    assert_eq!(world.ends, [End::Stopped { confirmed: false }]);
}

#[test]
fn recording_whose_media_never_get_to_the_server_fails_at_once() {
    let mut world = World::new();
    let mut out = Vec::new();
    let generation = world.connecting.take().expect("a session");
    world.phone.connected(generation, None, world.now, &mut out);
    let answer = "cmd=RecordStartResponse&id=abc&result=success&reason=&server=&port=9100";
    let answer = format!("{answer}&ext=1&next=0&resume=t\n");
    world.phone.received(answer.as_bytes(), world.now, &mut out);
    assert!(out.iter().any(|action| matches!(action, phone::Action::StreamTo { .. })), "{out:?}");
    out.clear();
    world.phone.media_lost("permission denied", world.now, &mut out);
    assert!(matches!(out.last(), Some(phone::Action::Ended(End::Failed { .. }))), "{out:?}");
}

#[test]
fn stop_that_the_servers_disk_did_not_take_is_asked_again() {
    let mut world = World::new();
    while world.media.is_none() {
        world.carry(10_000);
    }
    world.packet();
    world.phone(|phone, now, out| phone.stop("hangup", 1, now, out));
    let answer = b"cmd=RecordStopResponse&id=abc&result=failed\n";
    world.phone(|phone, now, out| phone.received(answer, now, out));
    assert_eq!((&world.ends[..], world.interruptions), (&[][..], 1));
}

#[test]
fn server_that_does_not_know_the_extension_any_more_is_left_and_looked_for_again() {
    let mut world = World::new();
    while world.media.is_none() {
        world.carry(10_000);
    }
    world.cut_control();
    world.wait(Duration::from_millis(300));
    let generation = world.connecting.take().expect("a further session");
    world.control = Some(Wire::default());
    world.phone(|phone, now, out| phone.connected(generation, None, now, out));
    let answer = b"cmd=RecordStartResponse&id=abc&result=success&reason=&server=&port=4000\n";
    world.phone(|phone, now, out| phone.received(answer, now, out));
    assert!(world.control.is_none());
    assert_eq!((world.interruptions, world.restorations), (1, 0));
    world.wait(Duration::from_secs(5));
    assert!(world.connecting.is_some());
}
