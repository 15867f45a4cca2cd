//! Values that machines read: hosts and ports as peers write them.

use std::net::IpAddr;

/// A value that machines read, without the blanks, quotes and separators around it.
fn plain(value: &str) -> &str {
    value.trim_matches(|c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\u{FEFF}' | ';' | ',')
    })
}

/// The host of a `server`, and its port if it has one: `host:port` and `[v6]:port` are taken apart.
pub(crate) fn host_and_port(server: &str) -> (&str, Option<u16>) {
    let said = plain(server);
    let address = said.split_once('%').map_or(said, |(address, _)| address);
    if address.parse::<IpAddr>().is_ok() {
        return (said, None);
    }
    let split = match said.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => rest.strip_prefix(':').map(|port| (host, port)),
        None => said.split_once(':').filter(|(_, port)| !port.contains(':')),
    };
    match split {
        Some((host, "")) => (host, None),
        Some((host, port)) => port_from(port).map_or((said, None), |port| (host, Some(port))),
        None => (said, None),
    }
}

/// The port that `text` begins with. Words may trail behind it, another number may not.
pub(super) fn port_from(text: &str) -> Option<u16> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (port, rest) = text.split_at_checked(digits)?;
    let goes_on = rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'));
    if goes_on || rest.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    port.parse().ok().filter(|&port| port != 0)
}
