//! `bench search`: the waiting times of users, measured on a generated catalogue.

use super::media::{Recording, announce};
use super::server::{Client, Server};
use super::synthetic::{BEGIN_US, Chance, SPAN_US, Year, word};
use super::{MARK, told};
use crate::access::audit::Entry;
use crate::access::secret::{key_hash, new_key};
use crate::access::{Grant, Role, Use};
use crate::catalogue::Catalogue;
use crate::catalogue::model::Account;
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::catalogue::sqlite::bulk;
use crate::clock;
use crate::config::Config;
use crate::id::Id;
use crate::time::{SECOND_US, rfc3339};
use media::codec::Codec;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Calls of a page.
const LIMIT: usize = 50;
/// Pages that are turned.
const PAGES: usize = 1000;
/// Recordings that wait for the archive at once.
const BACKLOG: u64 = 20_000;
const BACKLOG_PHONES: u64 = 50;
/// Calls that end in a second, and for how long.
const ENDING_PER_S: u64 = 50;
const ENDING_S: u64 = 20;
/// Concurrent listeners, the octets of each request, and the interval between requests.
const LISTENERS: u64 = 1000;
const PIECE_OCTETS: u64 = 64 * 1024;
const PIECE_EVERY: Duration = Duration::from_secs(8);
const LISTENING: Duration = Duration::from_secs(32);

/// A measurement under way.
struct Bench {
    server: Server,
    catalogue: Arc<SqliteCatalogue>,
    intake: PathBuf,
    year: Year,
    /// Tells the recordings of this run from those of earlier ones: six digits.
    run: i64,
    rounds: usize,
    everybody: String,
    agent: String,
    table: String,
}

type Measured = Result<(), String>;

/// The times measured.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn at(&self, permille: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * permille).div_ceil(1000).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }

    fn told(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        format!("{:.1} | {:.1} | {:.1}", ms(self.at(500)), ms(self.at(990)), ms(self.at(1000)))
    }
}

/// Measures, and gives the table back.
///
/// # Errors
/// A text for the operator that names the obstacle.
pub(crate) async fn search(config: &Config, rounds: usize) -> Result<String, String> {
    let mark = config.data.join(MARK);
    let text = std::fs::read_to_string(&mark).map_err(|error| {
        format!("{}: only a catalogue made by `bench generate` is measured", told(&mark, &error))
    })?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
    let (Some(calls), Some(seed)) = (numbers.next(), numbers.next()) else {
        return Err(format!("{}: it does not say how many calls", mark.display()));
    };
    let year = Year::new(calls, seed);
    let catalogue =
        Arc::new(SqliteCatalogue::open(&config.database()).await.map_err(|error| error.to_string())?);
    let intake = config.data.join("bench-intake");
    std::fs::create_dir_all(&intake).map_err(|error| told(&intake, &error))?;
    let everybody = account(&*catalogue, "bench-supervisor", Role::Supervisor, &[]).await?;
    let own = [0, 1, 2].map(|phone| Year::extension(phone % year.phones()));
    let agent = account(&*catalogue, "bench-agent", Role::Agent, &own).await?;
    let server = Server::start(&config.data, &intake)?;
    let table =
        format!("{calls} calls\n\n| request | p50 ms | p99 ms | longest ms |\n| --- | --- | --- | --- |\n");
    let run = clock::now_us() / SECOND_US % 1_000_000;
    let mut bench = Bench { server, catalogue, intake, year, run, rounds, everybody, agent, table };
    bench.lists().await?;
    bench.pages().await?;
    bench.peers().await?;
    bench.audio().await?;
    bench.backlog().await?;
    bench.findable().await?;
    bench.listeners().await?;
    Ok(bench.table)
}

/// An account with a new token, which is returned.
async fn account(
    catalogue: &dyn Catalogue,
    name: &str,
    role: Role,
    extensions: &[String],
) -> Result<String, String> {
    let failed = |error: crate::catalogue::Failure| error.to_string();
    let entry = Entry::new(clock::now_us(), "(bench)", "account.add", name);
    if catalogue.account(name).await.map_err(failed)?.is_none() {
        let uses =
            extensions.iter().map(|it| Use { extension: it.clone(), from_us: 0, to_us: None }).collect();
        let account =
            Account { id: Id::random(clock::now_us()), name: name.into(), password: None, disabled: false };
        let grant = Grant::of(role, uses);
        catalogue.add_account(&account, &grant, &entry).await.map_err(failed)?;
    }
    let token = new_key();
    let label = rfc3339(clock::now_us());
    catalogue.add_token(name, &label, &key_hash(&token), &[], &entry).await.map_err(failed)?;
    Ok(token)
}

fn broken(error: io::Error) -> String {
    format!("the archive does not answer: {error}")
}

/// The whole year.
fn year_of(path: &str) -> String {
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("/calls{path}{joint}from={}&to={}&limit={LIMIT}", rfc3339(BEGIN_US), rfc3339(BEGIN_US + SPAN_US))
}

impl Bench {
    fn row(&mut self, what: &str, times: &Times) {
        let _ = writeln!(self.table, "| {what} | {} |", times.told());
    }

    fn say(&mut self, what: &str) {
        let _ = writeln!(self.table, "\n{what}");
    }

    async fn client(&self, token: &str) -> Result<Client, String> {
        self.server.client(token).await.map_err(broken)
    }

    /// Requests a random `path` `rounds` times, after a warm-up of a tenth that does not count.
    async fn ask(
        &mut self,
        what: &str,
        token: &str,
        mut path: impl FnMut(&Year, &mut Chance) -> String,
    ) -> Measured {
        let mut client = self.client(token).await?;
        let (mut times, mut found, mut chance) = (Times::default(), 0, Chance::new(99));
        for round in 0..self.rounds + self.rounds / 10 {
            let answer = client.get(&path(&self.year, &mut chance), None).await.map_err(broken)?;
            if round >= self.rounds / 10 {
                times.0.push(answer.whole);
                found += answer.json()["calls"].as_array().map_or(0, Vec::len);
            }
        }
        let hits = found / self.rounds.max(1);
        self.row(&format!("{what} ({hits} hits)"), &times);
        Ok(())
    }

    async fn lists(&mut self) -> Measured {
        let (everybody, agent) = (self.everybody.clone(), self.agent.clone());
        let tail = |year: &Year, chance: &mut Chance, count: usize| {
            let digits = year.caller(chance).digits;
            digits[digits.len().saturating_sub(count)..].to_owned()
        };
        self.ask("last four digits, newest 50", &everybody, |year, chance| {
            year_of(&format!("?q={}", tail(year, chance, 4)))
        })
        .await?;
        self.ask("last seven digits", &everybody, |year, chance| {
            year_of(&format!("?q={}", tail(year, chance, 7)))
        })
        .await?;
        self.ask("whole number", &everybody, |year, chance| {
            year_of(&format!("?q={}", year.caller(chance).digits))
        })
        .await?;
        self.ask("first six digits, newest 50", &everybody, |year, chance| {
            year_of(&format!("?q={}", &year.caller(chance).digits[..6]))
        })
        .await?;
        self.ask("beginning of a name, newest 50", &everybody, |_, chance| {
            year_of(&format!("?q={}", &word(chance)[..3]))
        })
        .await?;
        self.ask("an agent's three extensions over a year", &agent, |_, _| year_of("")).await?;
        self.ask("last four digits, as that agent", &agent, |year, chance| {
            year_of(&format!("?q={}", tail(year, chance, 4)))
        })
        .await?;
        self.ask("calls a day of one extension, counted", &everybody, |year, chance| {
            year_of(&format!("/days?q=ext:{}", Year::extension(chance.below(year.phones()))))
        })
        .await
    }

    async fn pages(&mut self) -> Measured {
        let mut client = self.client(&self.everybody).await?;
        let (mut first, mut last, mut cursor) = (Times::default(), Times::default(), String::new());
        for page in 1..=PAGES {
            let path = format!("{}{cursor}", year_of(""));
            let answer = client.get(&path, None).await.map_err(broken)?;
            match answer.json()["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => {
                    self.say(&format!("There are {page} pages only."));
                    return Ok(());
                }
            }
            if (11..=60).contains(&page) {
                first.0.push(answer.whole);
            } else if page > PAGES - 50 {
                last.0.push(answer.whole);
            }
        }
        self.row("pages 11 to 60", &first);
        self.row("pages 951 to 1,000", &last);
        Ok(())
    }

    /// The same questions as others put them to their databases, on the same rows.
    async fn peers(&mut self) -> Measured {
        let digits = self.year.caller(&mut Chance::new(5)).digits;
        let tail = &digits[digits.len() - 4..];
        for (what, took) in
            bulk::as_peers_ask(&self.catalogue, tail).await.map_err(|error| error.to_string())?
        {
            let times = Times(vec![took]);
            self.row(&format!("once: {what}"), &times);
        }
        Ok(())
    }

    /// Recordings of ten minutes, in the intake and the catalogue; their ids.
    async fn recorded(&mut self, codec: Codec, count: u64) -> Result<Vec<String>, String> {
        let begun_us = clock::now_us() - 3600 * SECOND_US;
        let mut places = Vec::new();
        let device = format!("bench-{}-{:06}", codec.name(), self.run);
        for number in 0..count {
            let started_us = begun_us + i64::try_from(number).unwrap_or(0) * 1_000_000;
            let remote = format!("+4955{:06}{number:05}", self.run);
            let (device, name) = (device.clone(), String::new());
            let recording = Recording { device, remote, name, codec, started_us, duration_ms: 600_000 };
            places.push(recording.write(&self.intake).map_err(|error| told(&self.intake, &error))?);
        }
        announce(&self.intake, &places).map_err(|error| told(&self.intake, &error))?;
        let mut client = self.client(&self.everybody).await?;
        let path = format!("/calls?q=device:{device}&limit=200");
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let list = client.get(&path, None).await.map_err(broken)?.json();
            let calls = list["calls"].as_array().cloned().unwrap_or_default();
            let ids = calls.iter().filter_map(|call| call["recordings"][0]["id"].as_str().map(str::to_owned));
            let ids: Vec<String> = ids.collect();
            if ids.len() as u64 >= count {
                return Ok(ids);
            }
            if Instant::now() > until {
                return Err(format!("{} of {count} recordings are found after two minutes", ids.len()));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn audio(&mut self) -> Measured {
        for codec in [Codec::Pcma, Codec::G722] {
            let ids = self.recorded(codec, 20).await?;
            let mut client = self.client(&self.everybody).await?;
            let (mut times, mut chance) = (Times::default(), Chance::new(3));
            // Their waves, and the decoder's states, are made soon after they were taken in.
            tokio::time::sleep(Duration::from_secs(10)).await;
            for _ in 0..self.rounds {
                let at = usize::try_from(chance.below(ids.len() as u64)).unwrap_or(0);
                let path = format!("/recordings/{}/audio", ids[at]);
                let from = chance.below(4_000_000);
                let answer =
                    client.get(&path, Some((from, from + PIECE_OCTETS - 1))).await.map_err(broken)?;
                if answer.len() as u64 != PIECE_OCTETS {
                    return Err(format!("{path} gives {} octets", answer.len()));
                }
                times.0.push(answer.first);
            }
            self.row(&format!("first octet of {} audio, anywhere in ten minutes", codec.name()), &times);
        }
        Ok(())
    }

    /// Many files at once, while somebody searches.
    async fn backlog(&mut self) -> Measured {
        let begun_us = clock::now_us() - 7200 * SECOND_US;
        let (mut places, mut chance) = (Vec::new(), Chance::new(7));
        for number in 0..BACKLOG {
            // As many have a name as in the year.
            let name = match chance.below(8) {
                0..3 => format!("{} {}", word(&mut chance), word(&mut chance)),
                _ => String::new(),
            };
            let recording = Recording {
                device: format!("backlog-{:06}-{:02}", self.run, number % BACKLOG_PHONES),
                remote: format!("+4966{:06}{number:05}", self.run),
                name,
                codec: Codec::Pcma,
                // A file is named by its second: each phone has one a second.
                started_us: begun_us + i64::try_from(number / BACKLOG_PHONES).unwrap_or(0) * SECOND_US,
                duration_ms: 100,
            };
            places.push(recording.write(&self.intake).map_err(|error| told(&self.intake, &error))?);
        }
        let done = Arc::new(AtomicBool::new(false));
        let searcher = searches(self.client(&self.everybody).await?, self.year.clone(), Arc::clone(&done));
        let searcher = tokio::spawn(searcher);
        announce(&self.intake, &places).map_err(|error| told(&self.intake, &error))?;
        let (before, begun) = (self.server.used().1, Instant::now());
        let mut client = self.client(&self.everybody).await?;
        let last = format!("/calls?q=66{:06}{:05}", self.run, BACKLOG - 1);
        while client.get(&last, None).await.map_err(broken)?.json()["calls"]
            .as_array()
            .is_none_or(Vec::is_empty)
        {
            if begun.elapsed() > Duration::from_secs(300) {
                return Err("the last of many files is not found after five minutes".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (took, spent) = (begun.elapsed(), self.server.used().1.saturating_sub(before));
        done.store(true, Ordering::Relaxed);
        let times = searcher.await.map_err(|error| error.to_string())?.map_err(broken)?;
        self.row("last four digits, while files are taken in", &times);
        let rate = BACKLOG as f64 / took.as_secs_f64();
        self.say(&format!(
            "{BACKLOG} files of 0.1 s taken in at {rate:.0} a second, {:.1} s of processor time.",
            spent.as_secs_f64()
        ));
        Ok(())
    }

    /// Calls end all the time: until one is found.
    async fn findable(&mut self) -> Measured {
        let mut waiting = Vec::new();
        let pace = Duration::from_millis(1000 / ENDING_PER_S);
        for number in 0..ENDING_PER_S * ENDING_S {
            let recording = Recording {
                device: format!("ending-{:06}-{:02}", self.run, number % 50),
                remote: format!("+4977{:06}{number:05}", self.run),
                name: String::new(),
                codec: Codec::Pcma,
                started_us: clock::now_us() - SECOND_US,
                duration_ms: 1000,
            };
            let place = recording.write(&self.intake).map_err(|error| told(&self.intake, &error))?;
            announce(&self.intake, &[place]).map_err(|error| told(&self.intake, &error))?;
            if number % 5 == 0 {
                let client = self.client(&self.everybody).await?;
                waiting.push(tokio::spawn(until_found(
                    client,
                    format!("/calls?q=77{:06}{number:05}", self.run),
                )));
            }
            tokio::time::sleep(pace).await;
        }
        let mut times = Times::default();
        for found in waiting {
            times.0.push(found.await.map_err(|error| error.to_string())?.map_err(broken)?);
        }
        self.row(&format!("from the journal's line to being found, {ENDING_PER_S} calls/s ending"), &times);
        Ok(())
    }

    async fn listeners(&mut self) -> Measured {
        let ids = self.recorded(Codec::Pcmu, 50).await?;
        let mut listening = Vec::new();
        let (before, begun) = (self.server.used().1, Instant::now());
        for number in 0..LISTENERS {
            let mut client = self.client(&self.everybody).await?;
            let at = usize::try_from(number).unwrap_or(0) % ids.len();
            let path = format!("/recordings/{}/audio", ids[at]);
            let offset = PIECE_EVERY.mul_f64(number as f64 / LISTENERS as f64);
            listening.push(tokio::spawn(async move {
                let mut times = Vec::new();
                tokio::time::sleep(offset).await;
                let mut pieces = tokio::time::interval(PIECE_EVERY);
                let mut from = 0;
                while begun.elapsed() < LISTENING {
                    pieces.tick().await;
                    times.push(client.get(&path, Some((from, from + PIECE_OCTETS - 1))).await?.whole);
                    from += PIECE_OCTETS;
                }
                io::Result::Ok(times)
            }));
        }
        let mut times = Times::default();
        for listener in listening {
            times.0.extend(listener.await.map_err(|error| error.to_string())?.map_err(broken)?);
        }
        let (memory, spent) = self.server.used();
        let share = spent.saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
        self.row(&format!("the next 8 s for each of {LISTENERS} listeners"), &times);
        self.say(&format!(
            "{LISTENERS} listeners take {share:.2} of a core; the archive has {} MiB of memory.",
            memory >> 20
        ));
        Ok(())
    }
}

/// Searches until told to end.
async fn searches(mut client: Client, year: Year, done: Arc<AtomicBool>) -> io::Result<Times> {
    let (mut times, mut chance) = (Times::default(), Chance::new(11));
    while !done.load(Ordering::Relaxed) {
        let digits = year.caller(&mut chance).digits;
        let path = year_of(&format!("?q={}", &digits[digits.len() - 4..]));
        times.0.push(client.get(&path, None).await?.whole);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(times)
}

async fn until_found(mut client: Client, path: String) -> io::Result<Duration> {
    let begun = Instant::now();
    while client.get(&path, None).await?.json()["calls"].as_array().is_none_or(Vec::is_empty) {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(io::Error::other("a call that ended is not found after a minute"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(begun.elapsed())
}
