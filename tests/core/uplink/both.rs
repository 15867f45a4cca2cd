//! Both sides of the protocol against each other: each understands the other's messages, and both agree on
//! the end.

use media::codec::Codec;
use media::time::Mono;
use proptest::prelude::*;
use recfile::call::{Call, Direction};
use recfile::text::kept;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use uplink::media_hosts::MediaHosts;
use uplink::message::Parties;
use uplink::phone::{self, Client, End, Generation, Params};
use uplink::server::{self, EndReason, Opening, Session, Timing};

const PORT: u16 = 20_000;

/// The server's answer to the request.
#[derive(Clone, Debug)]
enum Answer {
    Granted,
    Refused(String),
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// Number of the phone's octets that arrive.
    ToServer(usize),
    /// Number of the server's octets that arrive.
    ToPhone(usize),
    /// Time passes, in milliseconds.
    Pass(u64),
    PhoneStops(String),
    ServerStops,
    /// The call's remote end changes.
    Update(String),
    /// The connection breaks.
    Break,
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[ -~äß€&=%\n\r\"';+]{0,24}", 1 => ".{0,24}"].prop_map(|text| kept(&text, 256).text)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..200_usize).prop_map(Event::ToServer),
        8 => (1..200_usize).prop_map(Event::ToPhone),
        4 => (0..8_u64).prop_map(Event::Pass),
        1 => words().prop_map(Event::PhoneStops),
        1 => Just(Event::ServerStops),
        1 => words().prop_map(Event::Update),
        1 => Just(Event::Break),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    (
        words(),
        words(),
        words(),
        words(),
        prop_oneof![Just(None), Just(Some(Direction::In)), Just(Some(Direction::Out)),],
    )
        .prop_map(|(remote_number, remote_name, local_number, local_name, direction)| Call {
            remote_number,
            remote_name,
            local_number,
            local_name,
            direction,
            ..Call::default()
        })
}

/// Both sides and the line between them.
struct World {
    now: Mono,
    client: Client,
    session: Session,
    to_server: VecDeque<u8>,
    to_phone: VecDeque<u8>,
    answer: Answer,
    /// The openings asked for, each granted or refused.
    openings: Vec<Opening>,
    granted: usize,
    finishes: Vec<(EndReason, Option<Parties>)>,
    ends: Vec<End>,
    started: bool,
    target: Option<SocketAddr>,
    /// The phone has closed the line, or the server has.
    phone_closed: bool,
    server_closed: bool,
    broken: bool,
}

impl World {
    fn new(call: Call, terminator: &'static [u8], answer: Answer) -> Self {
        let mut out = Vec::new();
        let now = Mono::new(Duration::from_secs(1));
        let settings = phone::Settings {
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(5),
            terminator,
        };
        let params = Params {
            host: "192.0.2.1".into(),
            port: 5055,
            id: "4f2a".into(),
            device: Some("phone 7 & more".into()),
            codec: "PCMA".into(),
            call,
            media_hosts: MediaHosts::parse([]).expect("no hosts are good hosts"),
            extension: None,
        };
        let timing =
            Timing { start_within: Duration::from_secs(10), idle: None, stop_answer: Duration::from_secs(2) };
        let client = Client::start(settings, params, now, &mut out);
        let mut world = Self {
            now,
            client,
            session: Session::new(timing, now),
            to_server: VecDeque::new(),
            to_phone: VecDeque::new(),
            answer,
            openings: Vec::new(),
            granted: 0,
            finishes: Vec::new(),
            ends: Vec::new(),
            started: false,
            target: None,
            phone_closed: false,
            server_closed: false,
            broken: false,
        };
        world.client.connected(Generation(1), None, now, &mut out);
        world.phone_does(out);
        world
    }

    fn phone_does(&mut self, actions: Vec<phone::Action>) {
        for action in actions {
            match action {
                phone::Action::Send(octets) => self.to_server.extend(octets),
                phone::Action::SetRtpTarget(target) => self.target = target,
                phone::Action::Started => self.started = true,
                phone::Action::Close => self.phone_closed = true,
                phone::Action::Ended(end) => self.ends.push(end),
                phone::Action::Connect { .. } | phone::Action::Resolve { .. } => {}
                phone::Action::StreamTo { .. }
                | phone::Action::Interrupted { .. }
                | phone::Action::Restored => panic!("the extension was not asked for"),
            }
        }
    }

    fn server_does(&mut self, actions: Vec<server::Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                server::Action::Send(octets) => self.to_phone.extend(octets),
                server::Action::Open(opening) => {
                    self.openings.push(*opening);
                    let mut more = Vec::new();
                    match self.answer.clone() {
                        Answer::Granted => {
                            self.granted += 1;
                            self.session.granted("", PORT, None, self.now, &mut more);
                        }
                        Answer::Refused(reason) => self.session.refused(&reason, self.now, &mut more),
                    }
                    actions.extend(more);
                }
                server::Action::Finish { reason, parties } => self.finishes.push((reason, parties)),
                server::Action::Close => self.server_closed = true,
                server::Action::FinishAfter { .. } | server::Action::Detach => {
                    panic!("the extension was not granted")
                }
            }
        }
    }

    fn happens(&mut self, event: Event) {
        let now = self.now;
        let (mut phone, mut server) = (Vec::new(), Vec::new());
        match event {
            Event::ToServer(count) => {
                let octets: Vec<u8> = self.to_server.drain(..count.min(self.to_server.len())).collect();
                if !self.server_closed && !octets.is_empty() {
                    self.session.received(&octets, now, &mut server);
                }
            }
            Event::ToPhone(count) => {
                let octets: Vec<u8> = self.to_phone.drain(..count.min(self.to_phone.len())).collect();
                if !self.phone_closed && !octets.is_empty() {
                    self.client.received(&octets, now, &mut phone);
                }
            }
            Event::Pass(ms) => self.now = now + Duration::from_millis(ms),
            Event::PhoneStops(reason) => self.client.stop(&reason, now, &mut phone),
            Event::ServerStops => self.session.stop(EndReason::DiskFull, now, &mut server),
            Event::Update(remote_name) => {
                self.client.update(Call { remote_name, direction: Some(Direction::In), ..Call::default() });
            }
            Event::Break => {
                self.broken = true;
                self.to_server.clear();
                self.to_phone.clear();
                self.client.peer_closed(Some("broken"), now, &mut phone);
                self.session.peer_closed(now, &mut server);
            }
        }
        self.phone_does(phone);
        self.server_does(server);
        self.timers();
    }

    fn timers(&mut self) {
        let (mut phone, mut server) = (Vec::new(), Vec::new());
        self.client.timer(self.now, &mut phone);
        self.session.timer(self.now, &mut server);
        self.phone_does(phone);
        self.server_does(server);
    }

    /// All that was sent arrives, then a closed end is seen by the other.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.happens(Event::ToServer(usize::MAX));
            self.happens(Event::ToPhone(usize::MAX));
            let (mut phone, mut server) = (Vec::new(), Vec::new());
            if self.phone_closed && self.to_server.is_empty() && !self.server_closed {
                self.session.peer_closed(self.now, &mut server);
            }
            if self.server_closed && self.to_phone.is_empty() && !self.phone_closed {
                self.client.peer_closed(None, self.now, &mut phone);
            }
            self.phone_does(phone);
            self.server_does(server);
            self.happens(Event::Pass(100));
        }
    }
}

proptest! {
    #[test]
    fn both_sides_agree_on_what_is_recorded_and_how_it_ended(
        call in call(),
        terminator in prop_oneof![Just(""), Just("\n"), Just("\r\n")],
        answer in prop_oneof![3 => Just(Answer::Granted), 1 => words().prop_map(Answer::Refused)],
        events in proptest::collection::vec(event(), 0..30),
    ) {
        let mut world = World::new(call.clone(), terminator.as_bytes(), answer.clone());
        let mut present = call.clone();
        let mut phone_stop: Option<(String, Call, bool)> = None;
        let mut server_stop = false;
        for event in events {
            match &event {
                Event::PhoneStops(reason) if phone_stop.is_none() && world.ends.is_empty() => {
                    phone_stop = Some((reason.clone(), present.clone(), world.started));
                }
                Event::Update(name) => {
                    present = Call { remote_name: name.clone(), direction: Some(Direction::In), ..Call::default() };
                }
                // Told to a connection that asks for nothing, it only closes it.
                Event::ServerStops if !world.server_closed => server_stop = true,
                _ => {}
            }
            world.happens(event);
        }
        world.settle();
        // A recording that nobody has ended runs; the phone ends it now.
        if world.ends.is_empty() {
            prop_assert!(world.started && world.granted == 1 && world.finishes.is_empty(), "both record");
            prop_assert_eq!(world.target, Some(SocketAddr::from(([192, 0, 2, 1], PORT))));
            phone_stop = Some(("user".into(), present.clone(), true));
            world.happens(Event::PhoneStops("user".into()));
            world.settle();
        }
        prop_assert_eq!(world.ends.len(), 1);
        prop_assert_eq!(world.target, None);
        prop_assert!(world.openings.len() <= 1);
        prop_assert_eq!(world.finishes.len(), world.granted);
        for opening in &world.openings {
            prop_assert_eq!(&opening.id, "4f2a");
            prop_assert_eq!(&opening.device, "phone 7 & more");
            prop_assert_eq!(&opening.parties, &Parties::from(&call));
            prop_assert_eq!((opening.direction, opening.codec), (call.direction, Codec::Pcma));
            prop_assert!(opening.altered.is_empty());
        }
        if world.broken {
            return Ok(());
        }
        match (phone_stop, server_stop) {
            (None, false) => {
                let Answer::Refused(reason) = answer else { panic!("granted calls run until they are stopped") };
                prop_assert_eq!(&world.ends[0], &End::Refused { text: reason });
            }
            (Some((reason, call, true)), false) => {
                prop_assert_eq!(&world.ends[0], &End::Stopped { confirmed: true });
                let finish = (EndReason::Stopped(reason), Some(Parties::from(&call)));
                prop_assert_eq!(&world.finishes[0], &finish);
            }
            (None, true) => {
                for (reason, _) in &world.finishes {
                    prop_assert_eq!(reason, &EndReason::DiskFull);
                    prop_assert_eq!(&world.ends[0], &End::StoppedByServer { reason: "storage_full".into() });
                }
            }
            // It stopped before it knew that the server records, or both stopped: either side may have been
            // first.
            _ => {}
        }
    }
}
