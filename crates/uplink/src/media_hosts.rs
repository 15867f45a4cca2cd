//! The hosts to which a server's answer may send the audio of a call.
//!
//! Owns: the decision. Commands travel in the clear, so an attacker on the path can name any host in an
//! answer that looks like success. So the audio goes to the server itself, at any port that it names, or to a
//! host that the config names. Never: looks a name up; whether one may be is decided here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

/// Entries of `uplink.media_hosts`.
pub const MAX_MEDIA_HOSTS: usize = 64;
/// Octets of one of them, as for `uplink.server_addr`.
const MAX_HOST_OCTETS: usize = 253;

/// One host or network of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MediaHost {
    /// In small letters, without the dot of the root.
    Name(String),
    /// All addresses that share the first `bits` of this one.
    Network { addr: IpAddr, bits: u32 },
}

/// The hosts beside the server itself that a start answer may send audio to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaHosts(Vec<MediaHost>);

/// The decision on the target of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The audio goes there.
    At(SocketAddr),
    /// A name that the config has: its addresses are to be looked up.
    LookUp(String),
    /// The audio must not go there, and why.
    Refused(&'static str),
}

/// The reason for which a host other than the server gets no audio.
const STRANGER: &str = "it is not the server, and uplink.media_hosts does not have it";

impl MediaHosts {
    /// Reads names, addresses and networks (`10.1.0.0/16`). `None` for an entry that is none of them.
    #[must_use]
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        entries.into_iter().map(MediaHost::parse).collect::<Option<Vec<_>>>().map(Self)
    }

    /// The target of audio if the server, connected as `peer` and named `server_addr` in the config, says
    /// `host` and `port`. An empty or unspecified host is the server itself.
    #[must_use]
    pub fn judge(&self, peer: SocketAddr, server_addr: &str, host: &str, port: u16) -> Target {
        let itself = Target::At(with_port(peer, port));
        let Some(ip) = ip_literal(without_zone(host)) else {
            let name = plain_name(host);
            return match () {
                () if name.is_empty() || name == plain_name(server_addr) => itself,
                () if self.0.iter().any(|known| *known == MediaHost::Name(name.clone())) => {
                    Target::LookUp(name)
                }
                () => Target::Refused(STRANGER),
            };
        };
        if ip.is_unspecified() || ip.to_canonical() == peer.ip().to_canonical() {
            return itself;
        }
        let fault = fault_of(ip, peer);
        match fault.or_else(|| (!self.has_address(ip)).then_some(STRANGER)) {
            Some(fault) => Target::Refused(fault),
            None => Target::At(on_link_of(peer, ip, port)),
        }
    }

    /// The address, of those that a name of the config has, that gets the audio: best of the family of
    /// `peer`.
    #[must_use]
    pub fn choose(peer: SocketAddr, port: u16, found: &[SocketAddr]) -> Option<SocketAddr> {
        let fit = || found.iter().filter(|addr| fault_of(addr.ip(), peer).is_none());
        let same_family = fit().find(|addr| addr.is_ipv4() == peer.is_ipv4());
        same_family.or_else(|| fit().next()).map(|addr| with_port(*addr, port))
    }

    fn has_address(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|known| match known {
            MediaHost::Name(_) => false,
            MediaHost::Network { addr, bits } => shares_bits(*addr, ip.to_canonical(), *bits),
        })
    }
}

impl MediaHost {
    fn parse(text: &str) -> Option<Self> {
        let (host, bits) = match text.split_once('/') {
            Some((host, bits)) if bits.bytes().all(|digit| digit.is_ascii_digit()) => {
                (host, Some(bits.parse::<u32>().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        if let Some(addr) = ip_literal(host) {
            let all = if addr.is_ipv4() { 32 } else { 128 };
            // A v4 address written as a v6 one is the same host.
            let addr = if bits.is_none() { addr.to_canonical() } else { addr };
            let bits = bits.unwrap_or(if addr.is_ipv4() { 32 } else { 128 });
            return (bits <= all).then_some(Self::Network { addr, bits });
        }
        let name = plain_name(host);
        let strange = |c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let numbers_only = name.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
        let good =
            bits.is_none() && !numbers_only && host.len() <= MAX_HOST_OCTETS && !name.contains(strange);
        good.then_some(Self::Name(name))
    }
}

/// The reason for which an address gets no audio, even if the config allows it. This machine is only meant by
/// a server on this machine.
fn fault_of(ip: IpAddr, peer: SocketAddr) -> Option<&'static str> {
    let ip = ip.to_canonical();
    let broadcast = |ip: Ipv4Addr| ip.is_broadcast() || ip.octets()[0] == 0;
    match ip {
        _ if ip.is_multicast() => Some("it is a multicast address, which uplink.media_hosts can't allow"),
        IpAddr::V4(v4) if broadcast(v4) => {
            Some("it is a broadcast address, which uplink.media_hosts can't allow")
        }
        _ if ip.is_unspecified() => Some("it is no address of a host, and uplink.media_hosts can't allow it"),
        _ if ip.is_loopback() && !peer.ip().to_canonical().is_loopback() => {
            Some("it is the phone itself, which uplink.media_hosts can't allow")
        }
        _ => None,
    }
}

fn shares_bits(network: IpAddr, ip: IpAddr, bits: u32) -> bool {
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            (network.to_bits() ^ ip.to_bits()).checked_shr(32 - bits.min(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            (network.to_bits() ^ ip.to_bits()).checked_shr(128 - bits.min(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn plain_name(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_lowercase()
}

/// The address that `host` spells out, with or without the brackets of a URL.
pub(super) fn ip_literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// `host` without the zone of a link-local address (RFC 4007): the peer's name for its interface says nothing
/// here.
fn without_zone(host: &str) -> &str {
    match host.split_once('%') {
        Some((address, _)) => address.strip_prefix('[').unwrap_or(address),
        None => host,
    }
}

/// `ip`, on the link that `peer` is on if it has a meaning on one link only.
fn on_link_of(peer: SocketAddr, ip: IpAddr, port: u16) -> SocketAddr {
    match (ip, peer) {
        (IpAddr::V6(ip), SocketAddr::V6(peer)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, peer.scope_id()).into()
        }
        _ => SocketAddr::new(ip, port),
    }
}

/// The same host, its link included.
pub(super) fn with_port(mut addr: SocketAddr, port: u16) -> SocketAddr {
    addr.set_port(port);
    addr
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(entries: &[&str]) -> MediaHosts {
        MediaHosts::parse(entries.iter().copied()).expect("good entries")
    }

    fn judged(hosts: &MediaHosts, peer: &str, host: &str) -> Target {
        hosts.judge(peer.parse().expect(peer), "Rec.example.org", host, 4000)
    }

    fn at(text: &str) -> Target {
        Target::At(text.parse().expect(text))
    }

    #[test]
    fn the_server_itself_gets_audio_however_it_spells_itself() {
        let none = MediaHosts::default();
        for host in
            ["", "0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1", "rec.example.org", "REC.example.org."]
        {
            assert_eq!(judged(&none, "192.0.2.1:5055", host), at("192.0.2.1:4000"), "{host}");
        }
        assert_eq!(judged(&none, "[2001:db8::1]:5055", "[2001:db8:0::1]"), at("[2001:db8::1]:4000"));
        assert_eq!(judged(&none, "127.0.0.1:5055", "127.0.0.1"), at("127.0.0.1:4000"));
        assert_eq!(judged(&none, "[::ffff:192.0.2.1]:5055", "192.0.2.1"), at("[::ffff:192.0.2.1]:4000"));
    }

    #[test]
    fn others_get_none_unless_the_config_has_them() {
        let some =
            hosts(&["198.51.100.0/24", "2001:db8::/32", "192.0.2.9", "media.example.org", "127.0.0.0/8"]);
        for host in
            ["192.0.2.8", "198.51.101.1", "2001:db9::1", "evil.example", "media.example.org.evil", "10.1"]
        {
            assert_eq!(judged(&some, "192.0.2.1:5055", host), Target::Refused(STRANGER), "{host}");
        }
        for (host, target) in [
            ("198.51.100.255", "198.51.100.255:4000"),
            ("2001:db8:ffff::1", "[2001:db8:ffff::1]:4000"),
            ("192.0.2.9", "192.0.2.9:4000"),
        ] {
            assert_eq!(judged(&some, "192.0.2.1:5055", host), at(target));
        }
        let name = Target::LookUp("media.example.org".into());
        assert_eq!(judged(&some, "192.0.2.1:5055", "MEDIA.example.org."), name);
        assert_eq!(judged(&MediaHosts::default(), "127.0.0.1:5055", "127.0.0.77"), Target::Refused(STRANGER));
        assert_eq!(judged(&some, "127.0.0.1:5055", "127.0.0.77"), at("127.0.0.77:4000"));
    }

    #[test]
    fn some_addresses_get_none_under_any_config() {
        let all = hosts(&["0.0.0.0/0", "::/0"]);
        for host in [
            "239.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.7",
            "127.0.0.1",
            "::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:239.1.2.3",
        ] {
            let refused = judged(&all, "192.0.2.1:5055", host);
            assert!(matches!(refused, Target::Refused(why) if why != STRANGER), "{host}: {refused:?}");
        }
        let peer = "192.0.2.1:5055".parse().unwrap();
        let found = ["[ff02::1]:0", "127.0.0.1:0", "[2001:db8::7]:0", "198.51.100.7:0"];
        let found = found.map(|addr| addr.parse().unwrap());
        assert_eq!(MediaHosts::choose(peer, 9, &found), Some("198.51.100.7:9".parse().unwrap()));
        assert_eq!(MediaHosts::choose(peer, 9, &found[..3]), Some("[2001:db8::7]:9".parse().unwrap()));
        assert_eq!(MediaHosts::choose(peer, 9, &found[..2]), None);
    }

    #[test]
    fn an_entry_is_a_name_an_address_or_a_network() {
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "name/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "a b",
            "http://x",
            "1.2.3",
            "x:5",
        ] {
            assert_eq!(MediaHosts::parse([bad]), None, "{bad}");
        }
        for good in
            ["media", "m_1.example.org.", "bücher.example", "10.0.0.0/0", "[2001:db8::1]", "::ffff:10.0.0.1"]
        {
            assert!(MediaHosts::parse([good]).is_some(), "{good}");
        }
    }
}
