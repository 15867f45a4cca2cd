//! The program under test: started on one core, watched from outside.

use os::clock;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SETTINGS: &str = "\
rtp_ports = \"10000-31999\"
reserve = \"64 MiB\"
[limits]
sessions = 20000
sessions_per_address = 20000
connections = 20000
connections_per_address = 20000
";

/// Clock ticks of `/proc/PID/stat` in a second, on every Linux.
const TICKS: f64 = 100.0;

pub(crate) struct Server {
    process: Child,
    pub(crate) control: SocketAddr,
    http: SocketAddr,
}

impl Server {
    pub(crate) fn start(program: &Path, folder: &Path, cpu: usize) -> io::Result<Self> {
        let config = folder.join("server.toml");
        std::fs::write(&config, SETTINGS)?;
        let storage = folder.join("rec");
        std::fs::create_dir(&storage)?;
        let mut process = Command::new("taskset")
            .args(["-c", &cpu.to_string()])
            .arg(program)
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--storage")
            .arg(&storage)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(process.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let http = address(&mut log, "http://")?;
        let control = address(&mut log, "listening on ")?;
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("ERROR") || line.contains("WARN") {
                    eprintln!("{line}");
                }
            }
        });
        Ok(Self { process, control, http })
    }

    /// CPU time so far, all threads.
    pub(crate) fn cpu_s(&self) -> io::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
        Ok(f64::from(ticks) / TICKS)
    }

    /// A number from `/proc/PID/status`.
    pub(crate) fn status(&self, key: &str) -> io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        Ok(line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default())
    }

    /// Lines of `/metrics` that begin with `name`.
    pub(crate) fn metrics(&self, name: &str) -> io::Result<Vec<String>> {
        let mut stream = TcpStream::connect(self.http)?;
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect())
    }

    /// Ends it; how many seconds that took.
    pub(crate) fn terminate(&mut self) -> io::Result<f64> {
        let began = clock::mono();
        let pid = i32::try_from(self.process.id()).map_err(io::Error::other)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        let status = self.process.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!("the server ended with {status}")));
        }
        Ok(clock::mono().since(began).as_secs_f64())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The address in the log line that has `before`.
fn address(log: &mut impl BufRead, before: &str) -> io::Result<SocketAddr> {
    loop {
        let mut line = String::new();
        if log.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the server ended early"));
        }
        if let Some((_, rest)) = line.split_once(before) {
            let end = rest.find([',', '/']).unwrap_or(rest.len());
            return rest[..end].parse().map_err(io::Error::other);
        }
    }
}
