//! Networks of a test's own: the phone in one network namespace, the servers in another, and a cable between
//! them or a third namespace that is the only way from one to the other. Takes root and iproute2.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::agent::is_emulated;
use super::environment::{own_mounts, skip_here};
use super::peer::Peer;
use super::server::SERVER_ADDR;

/// Set in a run inside a network: the namespace of the servers, and the one in the middle.
pub(crate) const SERVER_NAMESPACE: &str = "SERVER_TEST_NAMESPACE";
const MIDDLE_NAMESPACE: &str = "SERVER_TEST_MIDDLE";

/// Address of the phone; the servers' is [`SERVER_ADDR`].
pub(crate) const PHONE_ADDR: [u8; 4] = [10, 213, 78, 2];

/// The link between phone and servers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A cable.
    Cable,
    /// A namespace with two interfaces, `phone` and `server`, that passes nothing on by itself.
    Middle,
}

/// The namespaces; gone when dropped.
struct Network {
    phone: String,
    server: String,
    middle: String,
}

impl Network {
    fn lay(way: Way) -> Option<Self> {
        // Named namespaces are mounts.
        own_mounts().ok()?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let network =
            Self { phone: format!("rdp{id}"), server: format!("rds{id}"), middle: format!("rdm{id}") };
        let Self { phone, server, middle } = &network;
        let mut steps: Vec<String> = [phone, server, middle].map(|name| format!("netns add {name}")).into();
        steps.extend(match way {
            Way::Cable => vec![format!("-n {phone} link add eth0 type veth peer name eth0 netns {server}")],
            Way::Middle => vec![
                format!("-n {phone} link add eth0 type veth peer name phone netns {middle}"),
                format!("-n {server} link add eth0 type veth peer name server netns {middle}"),
                format!("-n {middle} link set phone up"),
                format!("-n {middle} link set server up"),
            ],
        });
        let [a, b, c, d] = PHONE_ADDR;
        steps.push(format!("-n {phone} addr add {a}.{b}.{c}.{d}/24 dev eth0"));
        steps.push(format!("-n {server} addr add {SERVER_ADDR}/24 dev eth0"));
        for end in [phone, server] {
            steps.extend(["lo", "eth0"].map(|interface| format!("-n {end} link set {interface} up")));
        }
        steps.iter().all(|step| ip(step)).then_some(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.phone, &self.server, &self.middle] {
            ip(&format!("netns del {namespace}"));
        }
    }
}

/// Runs tests of this program in the namespace of a phone, with the servers in another one.
pub(crate) fn across(way: Way, arguments: &[&str]) {
    if is_emulated() {
        return skip_here("this test starts itself in a namespace, which an emulated program can't");
    }
    let Some(network) = Network::lay(way) else {
        return skip_here("network namespaces take root and iproute2");
    };
    let mut again = Command::new("ip");
    again.args(["netns", "exec", &network.phone]).arg(std::env::current_exe().unwrap()).args(arguments);
    again.env(SERVER_NAMESPACE, &network.server).env(MIDDLE_NAMESPACE, &network.middle);
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && !said.contains("running 0 tests"),
        "in the namespace: {}",
        output.status
    );
}

/// Runs the ignored test of this name and no other.
pub(crate) fn inside(way: Way, test: &str) {
    across(way, &["--exact", test, "--ignored", "--nocapture"]);
}

/// `ip` of iproute2; whether it could.
pub(crate) fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

/// The servers' namespace, in a run that [`across`] has started; fails in any other, where such a test would
/// change the machine's own network and mounts.
pub(crate) fn servers_namespace() -> String {
    std::env::var(SERVER_NAMESPACE).expect("started by `across`, in a network of its own")
}

/// The words before a program that is to run in the namespace which this variable names, if it is set.
pub(crate) fn words_into(variable: &str) -> Option<Vec<String>> {
    let namespace = std::env::var(variable).ok()?;
    Some(["ip", "netns", "exec", &namespace].map(Into::into).into())
}

/// Inside [`Way::Middle`]: a bridge that passes frames on, but loses and reorders RTP of the phone. In user
/// space, so that it needs no `netem` in the kernel, does the same each time, and can tell the lost packets.
pub(crate) fn bad_cable() -> Option<Peer> {
    let prefix = words_into(MIDDLE_NAMESPACE).expect("run inside a network");
    Some(Peer::start(&prefix, "lossy.py", &["--between", "phone", "server", "--seed", "18"])?.0)
}
