//! SIPp as the SIP server of a call: takes an INVITE, answers each INFO as the script says, takes the BYE.
//!
//! SIPp checks by itself that each INFO has the value of `Record` that the script names, and its log has the
//! messages on the wire.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{patience, wait_for};

/// One INFO: the value of `Record` it has to have, and the status code it gets; `None`: no answer.
pub(super) type Step = (&'static str, Option<u16>);

/// A running SIPp; killed when dropped.
pub(super) struct Sipp {
    child: Child,
    dir: TempDir,
    /// The address where it takes calls.
    pub(super) address: SocketAddr,
}

impl Sipp {
    /// Starts it and waits until its port is open.
    pub(super) fn start(script: &[Step]) -> Self {
        // Between choosing a free port and taking it, another process may have got it.
        (0..5).find_map(|_| Self::try_start(script)).expect("SIPp on a port of its own")
    }

    fn try_start(script: &[Step]) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("recordd-e2e-sipp-").tempdir().expect("a folder");
        fs::write(dir.path().join("scenario.xml"), scenario(script)).expect("a scenario written");
        let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("bound");
        let port = address.port().to_string();
        let output = File::create(dir.path().join("output")).expect("a log file");
        let mut command = Command::new("sipp");
        command
            .args(["-sf", "scenario.xml", "-m", "1", "-nostdin", "-skip_rlimit"])
            // On a busy machine it would end itself.
            .args(["-watchdog_interval", "0", "-timeout", "60", "-timeout_error"])
            .args(["-i", "127.0.0.1", "-ci", "127.0.0.1", "-mi", "127.0.0.1", "-bind_local", "-p", &port])
            .args(["-trace_msg", "-message_file", "messages", "-trace_err", "-error_file", "errors"])
            .env("TERM", "dumb")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log file"))
            .stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut sipp = Self { child, dir, address };
        let opened = wait_for("SIPp's port", patience(), || match sipp.child.try_wait() {
            Ok(None) => sipp.has_port().then_some(true),
            _ => Some(false),
        });
        opened.then_some(sipp)
    }

    /// Whether the port is this process's, not another's.
    fn has_port(&self) -> bool {
        let folder = format!("/proc/{}/fd", self.child.id());
        let links = fs::read_dir(folder).into_iter().flatten().flatten();
        let sockets: Vec<PathBuf> = links.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let port = format!(":{:04X}", self.address.port());
        table.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(inode)) = (fields.get(1), fields.get(9)) else { return false };
            local.ends_with(&port) && sockets.contains(&PathBuf::from(format!("socket:[{inode}]")))
        })
    }

    /// Waits for the end of the call, which has to have gone by the script, and returns the messages on the
    /// wire.
    pub(super) fn finish(mut self) -> Vec<Message> {
        let status = wait_for("SIPp's end", patience(), || self.child.try_wait().expect("a child"));
        let errors = self.read("errors") + &self.read("output");
        let log = self.read("messages");
        assert!(status.success(), "the call did not go by the script ({status}):\n{errors}\n{log}");
        messages(&log)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- messages of SIPp ---\n{}{}---", self.read("messages"), self.read("errors"));
        }
    }
}

/// A message as SIPp logged it.
pub(super) struct Message {
    /// By SIPp, else by the phone.
    pub(super) sent: bool,
    /// First line, e.g. `INFO sip:server@127.0.0.1:5060 SIP/2.0`.
    pub(super) first_line: String,
    /// Header fields, one a line, as they came.
    pub(super) headers: Vec<String>,
    /// The text after the empty line.
    pub(super) body: String,
}

impl Message {
    /// Values of the header fields of this name, in any case.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// Number and method of `CSeq`.
    pub(super) fn cseq(&self) -> (u32, &str) {
        let (number, method) = self.values("CSeq")[0].split_once(' ').expect("number and method");
        (number.parse().expect("a number"), method)
    }

    /// Status code; `None` of a request.
    pub(super) fn code(&self) -> Option<u16> {
        self.first_line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }
}

/// Takes the log apart: a line of dashes, one that tells the direction, an empty one, the message.
fn messages(log: &str) -> Vec<Message> {
    let entry = |entry: &str| {
        let (about, message) = entry.split_once(" bytes")?;
        let message = message.split_once('\n')?.1.trim_start().replace("\r\n", "\n");
        let (head, body) = message.split_once("\n\n").unwrap_or((&message, ""));
        let mut lines = head.lines().map(str::to_owned);
        Some(Message {
            sent: about.contains("message sent"),
            first_line: lines.next()?,
            headers: lines.collect(),
            body: body.trim_end().to_owned(),
        })
    };
    log.split("-----------------------------------------------").filter_map(entry).collect()
}

const REPLY: &str =
    "[last_Via:]\n[last_From:]\n[last_To:];tag=[call_number]\n[last_Call-ID:]\n[last_CSeq:]\n";

fn scenario(script: &[Step]) -> String {
    let mut xml =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<scenario name=\"recording server\">\n");
    xml.push_str("<recv request=\"INVITE\" />\n");
    let _ = write!(
        xml,
        "<send retrans=\"500\"><![CDATA[\nSIP/2.0 200 OK\n{REPLY}\
         Contact: <sip:server@[local_ip]:[local_port];transport=[transport]>\n\
         Content-Type: application/sdp\nContent-Length: [len]\n\n\
         v=0\no=- 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\n\
         m=audio 9 RTP/AVP 8\na=rtpmap:8 PCMA/8000\n]]></send>\n<recv request=\"ACK\" />\n",
    );
    let reply = REPLY.replace(";tag=[call_number]", "");
    for (record, code) in script {
        let check = format!("regexp=\"^ *{record}$\" search_in=\"hdr\" header=\"Record:\" check_it=\"true\"");
        let _ = writeln!(
            xml,
            "<recv request=\"INFO\"><action><ereg {check} assign_to=\"record\" /></action></recv>"
        );
        if let Some(code) = code {
            let _ = writeln!(
                xml,
                "<send><![CDATA[\nSIP/2.0 {code} Told So\n{reply}Content-Length: 0\n\n]]></send>"
            );
        }
    }
    let _ = writeln!(
        xml,
        "<recv request=\"BYE\" />\n<send><![CDATA[\nSIP/2.0 200 OK\n{reply}Content-Length: 0\n\n]]></send>\n\
         <Reference variables=\"record\" />\n</scenario>",
    );
    xml
}
