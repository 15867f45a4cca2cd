//! The MAC address of the network interface that an address belongs to.

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use std::net::IpAddr;

/// The MAC address of the interface that has `local`, as `0C:11:05:0A:0B:0C`. An interface without one (the
/// loopback, a tunnel) is named by the first that has one and a link, or is at least up, so that a phone is
/// the same phone everywhere.
pub(super) fn mac_address(local: IpAddr) -> Option<String> {
    let all: Vec<Entry> = getifaddrs().ok()?.map(|it| Entry::of(&it)).collect();
    choose(&all, local)
}

/// One address of an interface: of the network or of the link.
struct Entry {
    name: String,
    flags: InterfaceFlags,
    ip: Option<IpAddr>,
    mac: Option<String>,
}

impl Entry {
    fn of(it: &InterfaceAddress) -> Self {
        Self { name: it.interface_name.clone(), flags: it.flags, ip: ip_of(it), mac: mac_of(it) }
    }

    /// Its rank as the phone's name: of an interface that works, that is switched on, or any.
    fn rank(&self) -> u8 {
        [InterfaceFlags::IFF_UP, InterfaceFlags::IFF_RUNNING]
            .iter()
            .map(|&it| u8::from(self.flags.contains(it)))
            .sum()
    }
}

fn choose(all: &[Entry], local: IpAddr) -> Option<String> {
    let name = all.iter().find(|it| it.ip == Some(local)).map(|it| &it.name);
    let own = all.iter().filter(|it| Some(&it.name) == name).find_map(|it| it.mac.clone());
    let best = || {
        let mut with_mac: Vec<&Entry> = all.iter().filter(|it| it.mac.is_some()).collect();
        with_mac.sort_by_key(|it| std::cmp::Reverse(it.rank()));
        with_mac.first().and_then(|it| it.mac.clone())
    };
    own.or_else(best)
}

fn ip_of(interface: &InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
}

fn mac_of(interface: &InterfaceAddress) -> Option<String> {
    let octets = interface.address.as_ref()?.as_link_addr()?.addr()?;
    let text = octets.map(|octet| format!("{octet:02X}")).join(":");
    octets.iter().any(|octet| *octet != 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_mac_address_is_six_pairs_of_digits_or_missing() {
        if let Some(mac) = mac_address(Ipv4Addr::LOCALHOST.into()) {
            let pairs: Vec<&str> = mac.split(':').collect();
            assert_eq!(pairs.len(), 6, "{mac}");
            assert!(
                pairs.iter().all(|pair| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok()),
                "{mac}"
            );
        }
    }

    fn entry(name: &str, flags: InterfaceFlags, ip: Option<[u8; 4]>, mac: Option<&str>) -> Entry {
        Entry { name: name.into(), flags, ip: ip.map(IpAddr::from), mac: mac.map(str::to_owned) }
    }

    #[test]
    fn a_tunnel_is_named_by_an_interface_that_is_up_and_best_by_one_with_a_link() {
        let (none, up) = (InterfaceFlags::empty(), InterfaceFlags::IFF_UP);
        let running = up | InterfaceFlags::IFF_RUNNING;
        let tunnel = || entry("tun0", running, Some([10, 0, 0, 1]), None);
        let down = || entry("wlan0", none, None, Some("down"));
        let idle = || entry("usb0", up, None, Some("idle"));
        let linked = || entry("eth0", running, None, Some("linked"));
        let named = |all: &[Entry]| choose(all, [10, 0, 0, 1].into());
        assert_eq!(named(&[tunnel(), down(), idle(), linked()]).as_deref(), Some("linked"));
        assert_eq!(named(&[tunnel(), down(), idle()]).as_deref(), Some("idle"));
        assert_eq!(named(&[tunnel(), down()]).as_deref(), Some("down"));
        assert_eq!(named(&[tunnel()]), None);
        let own = entry("wlan0", none, Some([10, 0, 0, 1]), None);
        assert_eq!(named(&[linked(), own, down()]).as_deref(), Some("down"), "its own comes first");
    }
}
