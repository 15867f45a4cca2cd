//! The MAC address of the network interface that an address belongs to.

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use std::net::IpAddr;

/// The MAC address of the interface that has `local`, as `0C:11:05:0A:0B:0C`. An interface without one (the
/// loopback, a tunnel) is named by the first that has one, so that a phone is the same phone everywhere.
pub(super) fn mac_address(local: IpAddr) -> Option<String> {
    let all: Vec<InterfaceAddress> = getifaddrs().ok()?.collect();
    let name = all.iter().find(|it| ip_of(it) == Some(local)).map(|it| it.interface_name.as_str());
    let own = all.iter().filter(|it| Some(it.interface_name.as_str()) == name).find_map(mac_of);
    own.or_else(|| all.iter().find_map(mac_of))
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
}
