//! Values of the configuration that need more than a number, a word or a flag: the good ones and the errors.

use super::{
    Device, MAX_ALLOWED_UIDS, MAX_DEVICE_OCTETS, MAX_DIRECTORY_OCTETS, MAX_SANDBOX_ENTRIES,
    MAX_SERVER_ADDR_OCTETS, MAX_SOCKET_PATH_OCTETS,
};
use recfile::seal::MAX_RECIPIENTS;
use recfile::seal::age::Recipient;
use settings::{Problem, Value, integer, invalid, number, text};
use std::net::Ipv6Addr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use store::access::{GroupName, group_name};
use uplink::media_hosts::{MAX_MEDIA_HOSTS, MediaHosts};

pub(super) fn milliseconds(value: &Value<'_>, lowest: u64, highest: u64) -> Result<Duration, Problem> {
    integer(value, lowest, highest).map(Duration::from_millis)
}

pub(super) fn recipients(value: &Value<'_>) -> Result<Vec<Recipient>, Problem> {
    let one = |value: &Value<'_>| {
        let found = text(value)?;
        Recipient::parse(found).map_err(|_| {
            let secret = found.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-");
            // The secret itself goes into no error, and so into no log.
            let found = if secret { "an identity" } else { found };
            invalid(
                found,
                "a recipient, \"age1…\" with 62 characters; recordctl keygen makes one (never the identity)",
            )
        })
    };
    match value {
        Value::Array(list) if list.len() <= MAX_RECIPIENTS => {
            list.iter().map(|value| one(value.get_ref())).collect()
        }
        Value::Array(list) => {
            Err(invalid(&format!("{} recipients", list.len()), &format!("{MAX_RECIPIENTS} at most")))
        }
        value if value.as_str() == Some("") => Ok(Vec::new()),
        value => one(value).map(|recipient| vec![recipient]),
    }
}

pub(super) fn socket_path(value: &Value<'_>) -> Result<PathBuf, Problem> {
    let found = text(value)?;
    if found.is_empty() || found.len() > MAX_SOCKET_PATH_OCTETS || found.contains('\0') {
        return Err(invalid(found, "a path of 1 to 107 octets, as Unix sockets have"));
    }
    Ok(PathBuf::from(found))
}

pub(super) fn group(value: &Value<'_>) -> Result<Option<GroupName>, Problem> {
    match text(value)? {
        "" => Ok(None),
        found => group_name(found).map(Some).map_err(|wanted| invalid(found, wanted)),
    }
}

pub(super) fn octal_mode(value: &Value<'_>) -> Result<u32, Problem> {
    let wanted = "an octal file mode in quotes, \"0000\" to \"0777\", such as \"0660\"";
    let Value::String(found) = value else {
        return Err(Problem::WrongType {
            wanted: "a file mode in quotes, such as \"0660\"",
            found: value.type_str(),
        });
    };
    let digits = found.len() <= 4 && !found.is_empty() && found.bytes().all(|c| c.is_ascii_digit());
    match u32::from_str_radix(found, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(mode),
        _ => Err(invalid(found, wanted)),
    }
}

pub(super) fn texts<T>(
    value: &Value<'_>,
    convert: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let Some(array) = value.as_array() else {
        return Err(Problem::WrongType { wanted: "a list of texts", found: value.type_str() });
    };
    if array.len() > MAX_SANDBOX_ENTRIES {
        return Err(invalid(&format!("{} entries", array.len()), "32 entries at most"));
    }
    array.iter().map(|it| convert(text(it.get_ref())?)).collect()
}

pub(super) fn absolute_path(found: &str) -> Result<PathBuf, Problem> {
    let path = Path::new(found);
    if path.is_absolute() && !found.contains('\0') {
        Ok(path.to_owned())
    } else {
        Err(invalid(found, "a path from the root, such as \"/media\""))
    }
}

pub(super) fn uids(value: &Value<'_>) -> Result<Vec<u32>, Problem> {
    let Some(array) = value.as_array() else {
        return Err(Problem::WrongType { wanted: "an array of user ids", found: value.type_str() });
    };
    if array.len() > MAX_ALLOWED_UIDS {
        return Err(invalid(&format!("{} user ids", array.len()), "64 user ids at most"));
    }
    array.iter().map(|uid| number(uid.get_ref(), 0, u64::from(u32::MAX))).collect()
}

pub(super) fn media_hosts(value: &Value<'_>) -> Result<MediaHosts, Problem> {
    let Some(array) = value.as_array() else {
        return Err(Problem::WrongType { wanted: "an array of hosts", found: value.type_str() });
    };
    if array.len() > MAX_MEDIA_HOSTS {
        return Err(invalid(&format!("{} hosts", array.len()), "64 hosts at most: a network counts as one"));
    }
    let mut entries = Vec::with_capacity(array.len());
    for entry in array {
        let found = text(entry.get_ref())?;
        if MediaHosts::parse([found]).is_none() {
            let wanted = "host names, addresses or networks, without port, such as \"media.example.net\", \
                          \"192.0.2.10\" or \"192.0.2.0/24\"";
            return Err(invalid(found, wanted));
        }
        entries.push(found);
    }
    Ok(MediaHosts::parse(entries).unwrap_or_default())
}

pub(super) fn relative_directory(value: &Value<'_>) -> Result<String, Problem> {
    let found = text(value)?;
    let inside = Path::new(found).components().all(|part| matches!(part, Component::Normal(_)));
    let plain = !found.chars().any(|c| c.is_control() || r#"\:*?"<>|"#.contains(c));
    if !inside || !plain || found.len() > MAX_DIRECTORY_OCTETS {
        let wanted = "a folder below the disk's root, at most 128 octets: no leading \"/\", no \"..\", \
                      none of \\ : * ? \" < > |";
        return Err(invalid(found, wanted));
    }
    Ok(found.to_owned())
}

pub(super) fn server_addr(value: &Value<'_>) -> Result<String, Problem> {
    let found = text(value)?;
    let strange = |c: char| c.is_control() || c.is_whitespace() || "/[]@".contains(c);
    if found.len() > MAX_SERVER_ADDR_OCTETS || found.contains(strange) {
        return Err(invalid(found, "a host name or an IP address, without port; \"\" for no server"));
    }
    // An IPv6 address may have the name of an interface behind it.
    let is_v6 = |text: &str| text.split('%').next().is_some_and(|addr| addr.parse::<Ipv6Addr>().is_ok());
    if found.contains(':') && !is_v6(found) {
        let wanted = match found.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains(':') => {
                format!("{host:?}, without port, and server_port = {port} beside it")
            }
            _ => "a host name or an IP address, without port".to_owned(),
        };
        return Err(invalid(found, &wanted));
    }
    Ok(found.to_owned())
}

pub(super) fn device(value: &Value<'_>) -> Result<Device, Problem> {
    match text(value)? {
        "auto" => Ok(Device::Auto),
        found if found.is_empty() || found.len() > MAX_DEVICE_OCTETS || found.contains(char::is_control) => {
            Err(invalid(found, "\"auto\" or a name of 1 to 64 octets, normally a MAC address"))
        }
        found => Ok(Device::Fixed(found.to_owned())),
    }
}
