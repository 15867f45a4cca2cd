//! The number of concurrent calls that the server stores without losing an octet.
//!
//! `cargo bench -p recordserver --bench calls -- --calls 1000,2000,4000 --seconds 60`
//!
//! The server runs on one core, phones on another: every call has a control connection of its own and
//! sends 50 packets/s, spread evenly over the 20 ms. Every octet of every packet follows from the number
//! of its call and its own, so the files are compared to the packets sent, octet by octet. Prints a table;
//! the exit status is 1 if any call is not complete.

mod check;
mod phones;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

/// The plan of a measurement.
struct Plan {
    calls: Vec<usize>,
    seconds: u32,
    server_cpu: usize,
    phones_cpu: usize,
    folder: PathBuf,
    program: PathBuf,
    keep: bool,
}

fn plan() -> Result<Plan, lexopt::Error> {
    use lexopt::prelude::*;
    let mut plan = Plan {
        calls: vec![500, 1000],
        seconds: 10,
        server_cpu: 1,
        phones_cpu: 0,
        folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        program: PathBuf::from(env!("CARGO_BIN_EXE_recordserver")),
        keep: false,
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("calls") => {
                let list = |text: &str| text.split(',').map(str::parse).collect::<Result<_, _>>();
                plan.calls = args.value()?.parse_with(list)?;
            }
            Long("seconds") => plan.seconds = args.value()?.parse()?,
            Long("server-cpu") => plan.server_cpu = args.value()?.parse()?,
            Long("phones-cpu") => plan.phones_cpu = args.value()?.parse()?,
            Long("storage") => plan.folder = args.value()?.into(),
            Long("program") => plan.program = args.value()?.into(),
            Long("keep") => plan.keep = true,
            // An argument that cargo adds by itself.
            Long("bench") => {}
            other => return Err(other.unexpected()),
        }
    }
    Ok(plan)
}

fn main() -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("calls: {error}");
            return ExitCode::from(2);
        }
    };
    println!(
        "| calls | packets | complete | missing | overruns | server CPU % | us/packet | RSS MiB | late us | end s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut complete = true;
    for calls in &plan.calls {
        match measure(&plan, *calls) {
            Ok(whole) => complete &= whole,
            Err(error) => {
                eprintln!("calls: {calls} calls: {error}");
                complete = false;
            }
        }
    }
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(plan: &Plan, calls: usize) -> std::io::Result<bool> {
    let folder = tempfile::Builder::new().prefix("calls").tempdir_in(&plan.folder)?;
    let mut server = server::Server::start(&plan.program, folder.path(), plan.server_cpu)?;
    phones::pin(plan.phones_cpu)?;
    let mut phones = phones::Phones::connect(server.control, calls)?;
    let before = server.cpu_s()?;
    let sent = phones.talk(plan.seconds)?;
    let cpu_s = server.cpu_s()? - before;
    phones.hang_up()?;
    let overruns = server.metrics("recordserver_packets_overrun_total")?;
    for line in server.metrics("recordserver_packets_dropped_total")? {
        eprintln!("calls: {line}");
    }
    let rss_kib = server.status("VmHWM")?;
    let end_s = server.terminate()?;
    let found = check::check(folder.path(), calls, sent.packets_per_call)?;
    println!(
        "| {calls} | {} | {} | {} | {} | {:.1} | {:.2} | {:.0} | {} | {end_s:.2} |",
        sent.packets,
        found.complete,
        found.missing,
        overruns.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("-"),
        cpu_s / sent.seconds * 100.0,
        cpu_s * 1e6 / sent.packets as f64,
        rss_kib / 1024.0,
        sent.latest_us,
    );
    for trouble in &found.trouble {
        eprintln!("calls: {trouble}");
    }
    if plan.keep {
        eprintln!("calls: kept {}", folder.keep().display());
    }
    Ok(found.complete == calls)
}
