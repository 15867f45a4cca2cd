//! A recording server at its best and worst, as the agent sees it through the loop.
//!
//! It gets silence as audio, so that files which go on at the phone say nothing that the books know.

use super::rng::Rng;
use recordd::agent::{RecordingKey, UplinkAction, UplinkInput};
use std::collections::BTreeMap;
use uplink::phone::Generation;

/// An input for the agent from the server.
#[derive(Debug)]
pub(crate) enum News {
    Connected(Generation),
    ConnectFailed(Generation),
    Said(String),
    Closed { silent: bool },
    RelayFailed(u32),
    RelayRefused,
}

impl News {
    pub(crate) fn input(&self) -> UplinkInput<'_> {
        match self {
            Self::Connected(generation) => UplinkInput::Connected(*generation, None),
            Self::ConnectFailed(generation) => UplinkInput::ConnectFailed(*generation, "refused".into()),
            Self::Said(text) => UplinkInput::Received(text.as_bytes()),
            Self::Closed { silent } => UplinkInput::Closed { error: None, silent: *silent },
            Self::RelayFailed(packets) => UplinkInput::RelayFailed(*packets),
            Self::RelayRefused => UplinkInput::RelayRefused,
        }
    }
}

#[derive(Debug, Default)]
struct Link {
    id: String,
    connected: bool,
    /// RTP is sent on.
    pub(crate) relays: bool,
    news: Vec<(u64, News)>,
}

/// The server, one connection for each recording.
#[derive(Debug, Default)]
pub(crate) struct Server {
    links: BTreeMap<RecordingKey, Link>,
}

impl Server {
    /// Carries out an action of the agent.
    pub(crate) fn act(&mut self, key: RecordingKey, action: UplinkAction, now_ms: u64, rng: &mut Rng) {
        match action {
            UplinkAction::Connect(generation, _) => {
                let mut link = Link::default();
                match rng.below(100) {
                    0..=9 => link.news.push((now_ms + rng.below(900), News::ConnectFailed(generation))),
                    10..=14 => {}
                    _ => link.news.push((now_ms + rng.below(300), News::Connected(generation))),
                }
                self.links.insert(key, link);
            }
            UplinkAction::Send(octets) => {
                let text = String::from_utf8(octets).expect("text");
                // Its last message may be answered after it has gone.
                if let Some(link) = self.links.get_mut(&key) {
                    assert!(link.connected, "sent before it stands");
                    link.hear(&text, now_ms, rng);
                }
            }
            UplinkAction::RelayTo(target) => {
                if let Some(link) = self.links.get_mut(&key) {
                    link.relays = target.is_some();
                }
            }
            UplinkAction::Close => drop(self.links.remove(&key)),
            UplinkAction::Resolve(..) => panic!("the server is given by address"),
            UplinkAction::ConnectMedia(..) | UplinkAction::SendMedia(_) | UplinkAction::CloseMedia => {
                panic!("the server grants no extension")
            }
        }
    }

    /// The next input that has come by now.
    pub(crate) fn news(&mut self, now_ms: u64, rng: &mut Rng) -> Option<(RecordingKey, News)> {
        for (key, link) in &mut self.links {
            link.misbehave(now_ms, rng);
            let Some(at) = link.news.iter().position(|(due, _)| *due <= now_ms) else { continue };
            let (_, news) = link.news.remove(at);
            let key = *key;
            match news {
                News::Connected(_) => link.connected = true,
                News::Closed { .. } | News::ConnectFailed(_) => drop(self.links.remove(&key)),
                _ => {}
            }
            return Some((key, news));
        }
        None
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.links.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.links.clear();
    }
}

impl Link {
    fn hear(&mut self, text: &str, now_ms: u64, rng: &mut Rng) {
        if let Some(id) = text.split('&').find_map(|pair| pair.strip_prefix("id=")) {
            id.clone_into(&mut self.id);
        }
        let id = &self.id;
        let answer = if text.starts_with("cmd=RecordStartRequest&") {
            match rng.below(100) {
                0..=9 => format!("cmd=RecordStartResponse&id={id}&result=failed&reason=full&server=&port="),
                10..=14 => return,
                _ => format!("cmd=RecordStartResponse&id={id}&result=success&reason=&server=&port=7000"),
            }
        } else if text.starts_with("cmd=RecordStopRequest&") {
            match rng.below(100) {
                0..=9 => return,
                _ => format!("cmd=RecordStopResponse&id={id}&result=success"),
            }
        } else {
            return;
        };
        let end = if rng.chance(500) { "\n" } else { "" };
        self.news.push((now_ms + rng.below(200), News::Said(answer + end)));
    }

    fn misbehave(&mut self, now_ms: u64, rng: &mut Rng) {
        if !self.connected || !rng.chance(8) {
            return;
        }
        let id = &self.id;
        let news = match rng.below(10) {
            0..=2 => News::Closed { silent: false },
            3..=4 => News::Closed { silent: true },
            5 => News::Said(format!(
                "cmd=RecordStopRequest&id={id}&remote_number=&remote_name=&local_number=&local_name=&reason=quota"
            )),
            6 => News::Said("nonsense\n".into()),
            7 if self.relays => News::RelayRefused,
            8 if self.relays => News::RelayFailed(3),
            _ => return,
        };
        self.news.push((now_ms, news));
    }
}
