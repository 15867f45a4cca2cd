//! A hostile server: whatever it says and when, a session ends once, says nothing after that, and has a target while it runs.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use media::time::Mono;
use recfile::call::Call;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use uplink::media_hosts::MediaHosts;
use uplink::phone::{Action, Lasting, Params, Settings};

#[derive(arbitrary::Arbitrary, Debug)]
enum Step<'a> {
    Says(&'a [u8]),
    /// An answer that would be a right one, with something of the server's in it.
    Grants {
        server: &'a str,
        port: u16,
        more: &'a str,
        /// The item that is wanted, if the extension is granted.
        next: Option<u16>,
    },
    Waits(u16),
    Leaves(Option<&'a str>),
    RefusesRtp,
    Stop(&'a str),
    /// What was looked up and connected to goes this way from here on.
    Net {
        found: u8,
        connects: bool,
    },
}

const ID: &str = "f00d";

fuzz_target!(|input: (bool, bool, Vec<Step<'_>>)| {
    let (named, extends, steps) = input;
    let settings = Settings {
        connect_timeout: Duration::from_secs(3),
        response_timeout: Duration::from_secs(5),
        terminator: b"",
    };
    let params = Params {
        host: if named { "rec.example.org" } else { "192.0.2.1" }.into(),
        port: 5055,
        id: ID.into(),
        device: None,
        codec: "PCMA".into(),
        call: Call::default(),
        media_hosts: MediaHosts::parse(["media.example.org", "10.1.0.0/16"]).unwrap(),
        extension: None,
    };
    let mut now = Mono::default();
    let mut out = Vec::new();
    let mut client = Lasting::start(settings, params, extends, now, &mut out);
    let (mut found, mut connects) = (1, true);
    let (mut ended, mut started, mut target, mut streams) = (false, false, false, false);
    for step in std::iter::once(Step::Waits(0)).chain(steps) {
        match step {
            Step::Says(octets) => client.received(octets, now, &mut out),
            Step::Grants { server, port, more, next } => {
                let extension =
                    next.map(|next| format!("&ext=1&next={next}&resume=token")).unwrap_or_default();
                let text = format!(
                    "cmd=RecordStartResponse&id={ID}&result=success&reason={more}&server={server}&port={port}{extension}\n"
                );
                client.received(text.as_bytes(), now, &mut out);
            }
            Step::Waits(ms) => {
                now = now + Duration::from_millis(ms.into());
                if client.poll_deadline().is_some_and(|due| due <= now) {
                    client.timer(now, &mut out);
                }
            }
            Step::Leaves(error) => client.peer_closed(error, now, &mut out),
            Step::RefusesRtp => client.udp_refused(now, &mut out),
            Step::Stop(reason) => client.stop(reason, 7, now, &mut out),
            Step::Net { found: hosts, connects: takes } => (found, connects) = (hosts % 8, takes),
        }
        let mut queue = VecDeque::from(std::mem::take(&mut out));
        while let Some(action) = queue.pop_front() {
            assert!(!ended, "something follows the end: {action:?}");
            match action {
                Action::Resolve { generation, .. } => {
                    let addresses =
                        (1..=found).map(|last| SocketAddr::from(([192, 0, 2, last], 0))).collect::<Vec<_>>();
                    client.resolved(generation, &addresses, now, &mut out);
                }
                Action::Connect { generation, .. } if connects => {
                    client.connected(generation, Some("0C:11:05:00:00:01"), now, &mut out);
                }
                Action::Connect { generation, .. } => {
                    client.connect_failed(generation, "refused", now, &mut out)
                }
                Action::SetRtpTarget(to) => {
                    target = to.is_some();
                    assert!(
                        to.is_none_or(|to| !to.ip().is_multicast() && !to.ip().is_unspecified()),
                        "{to:?}"
                    );
                }
                Action::Started => {
                    assert!(!started && (target || streams), "started twice, or without a target");
                    started = true;
                }
                Action::StreamTo { target: to, .. } => {
                    assert!(extends && !to.ip().is_multicast() && !to.ip().is_unspecified(), "{to:?}");
                    streams = true;
                }
                Action::Interrupted { .. } => {
                    assert!(streams, "interrupted without a stream");
                    streams = false;
                }
                Action::Restored => assert!(streams && started, "restored without a stream"),
                Action::Ended(_) => (ended, streams) = (true, false),
                Action::Send(octets) => assert!(octets.len() < 16 * 1024),
                Action::Close => {}
            }
            queue.extend(out.drain(..));
        }
        assert_eq!(client.is_closed(), ended);
        assert!(!ended || !target, "audio goes on after the end");
    }
});
