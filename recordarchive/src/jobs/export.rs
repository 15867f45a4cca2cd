//! Packages of evidence: their contents, and how one is written.
//!
//! Owns: the names and files of a package. It is a ZIP without compression, so that any program opens it and
//! the hashes are those of the audio in it. Invariants: each file is in the manifest with its hash, and the
//! manifest is signed; a recording that can't be read is named with the reason, never left out in silence; a
//! package appears under its name when it is whole.

use crate::access::audit::{Entry, Link};
use crate::access::minisig;
use crate::access::site_key::SiteKey;
use crate::access::{Condition, checkpoint::Signed};
use crate::catalogue::export::{Export, State};
use crate::catalogue::model::{CallView, ENCRYPTED_ENDING, Party, RecordingMedia, RecordingView};
use crate::catalogue::{Catalogue, Done};
use crate::clock;
use crate::id::{Id, hex};
use crate::media;
use crate::media::vault::{Media, Vault};
use crate::media::view::{States, View};
use crate::number::masked;
use crate::time::{file_stamp, rfc3339};
use ::media::codec::Codec;
use recfile::name::sidecar_name;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::fs::{Fs, RealFs};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Calls of one package at most.
pub(crate) const MAX_CALLS: usize = 1000;
/// Entries of the audit log about one call or recording.
const MAX_CUSTODY: u32 = 10_000;
/// Octets read at a time.
const PIECE_OCTETS: usize = 256 << 10;
/// Files from here on have sizes of 64 bits.
const LARGE_OCTETS: u64 = 2 << 30;
/// The interval between looks for requested exports.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const SIGNATURE: &str = "manifest.json.minisig";
pub(super) const SUMS: &str = "sha256sums.txt";

/// A recording with its files, and its name in the package.
struct Taken {
    call: usize,
    view: RecordingView,
    media: Option<RecordingMedia>,
}

/// Everything that goes into a package, but the audio.
struct Contents {
    export: Export,
    site: String,
    calls: Vec<CallView>,
    gone: Vec<Id>,
    recordings: Vec<Taken>,
    custody: Vec<Link>,
    checkpoint: Option<Signed>,
    vault: Vault,
}

/// Makes the package of an export. Returns its octets and its SHA-256.
///
/// # Errors
/// A text for the user. There is no package then.
pub(crate) async fn make(
    catalogue: &dyn Catalogue,
    export: &Export,
    site: &str,
    (key, vault): (SiteKey, &Vault),
    to: &Path,
) -> Result<(u64, String), String> {
    let contents = gather(catalogue, export, site, vault).await.map_err(|error| error.to_string())?;
    let to = to.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let done = write(&contents, &key, &to);
        done.map_err(|error| format!("{}: {error}", to.display()))
    });
    written.await.unwrap_or_else(|error| Err(error.to_string()))
}

async fn gather(catalogue: &dyn Catalogue, export: &Export, site: &str, vault: &Vault) -> Done<Contents> {
    let (mut calls, mut gone, mut recordings, mut objects) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for id in &export.calls {
        // The permission for each was checked at the request. Calls that went to the trash since are left
        // out.
        let call = catalogue.call(*id, &Condition::All).await?.filter(|call| call.trash.is_none());
        let Some(call) = call else {
            gone.push(*id);
            continue;
        };
        objects.push(call.id.clone());
        for view in &call.recordings {
            objects.push(view.id.clone());
            let media = match Id::parse(&view.id) {
                Some(id) => catalogue.media(id, &Condition::All).await?,
                None => None,
            };
            recordings.push(Taken { call: calls.len(), view: view.clone(), media });
        }
        calls.push(call);
    }
    let custody = catalogue.audit_about(&objects, MAX_CUSTODY).await?;
    let checkpoint = catalogue.newest_checkpoint().await?;
    let (export, site, vault) = (export.clone(), site.into(), vault.clone());
    Ok(Contents { export, site, calls, gone, recordings, custody, checkpoint, vault })
}

/// A package in the making: each file is hashed on its way.
struct Package {
    zip: ZipWriter<BufWriter<File>>,
    files: Vec<(String, u64, String)>,
}

fn options(octets: u64) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .unix_permissions(0o644)
        .large_file(octets >= LARGE_OCTETS)
}

impl Package {
    /// Adds a file of which `next` gives piece after piece, and an empty one at the end.
    fn add(
        &mut self,
        name: &str,
        octets: u64,
        mut next: impl FnMut() -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        self.zip.start_file(name, options(octets)).map_err(io::Error::other)?;
        let (mut hash, mut count) = (Sha256::new(), 0);
        loop {
            let piece = match next() {
                Ok(piece) => piece,
                Err(error) => {
                    // Half a recording would pass for a whole one.
                    self.zip.abort_file().map_err(io::Error::other)?;
                    return Err(error);
                }
            };
            if piece.is_empty() {
                break;
            }
            self.zip.write_all(&piece)?;
            hash.update(&piece);
            count += piece.len() as u64;
        }
        self.files.push((name.into(), count, hex(&hash.finalize())));
        Ok(())
    }

    fn add_text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let mut pieces = [text.as_bytes().to_vec(), Vec::new()].into_iter();
        self.add(name, text.len() as u64, || Ok(pieces.next().unwrap_or_default()))
    }

    fn add_file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        self.add_media(name, Media::Plain(RealFs.open_read(path)?))
    }

    fn add_media(&mut self, name: &str, mut file: Media) -> io::Result<()> {
        let octets = file.len()?;
        self.add(name, octets, || {
            let mut piece = vec![0; PIECE_OCTETS];
            let count = file.read(&mut piece)?;
            piece.truncate(count);
            Ok(piece)
        })
    }
}

fn write(contents: &Contents, key: &SiteKey, to: &Path) -> io::Result<(u64, String)> {
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let part = to.with_extension("part");
    let _ = std::fs::remove_file(&part);
    let file = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(&part)?;
    let mut package = Package { zip: ZipWriter::new(BufWriter::new(file)), files: Vec::new() };
    let written = fill(contents, key, &mut package).and_then(|()| {
        let file = package.zip.finish().map_err(io::Error::other)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        hashed(&part)
    });
    match written {
        Ok(hashed) => {
            std::fs::rename(&part, to)?;
            Ok(hashed)
        }
        Err(error) => {
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}

fn hashed(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hash, mut octets) = (File::open(path)?, Sha256::new(), 0);
    let mut piece = vec![0; PIECE_OCTETS];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((octets, hex(&hash.finalize()))),
            count => {
                hash.update(&piece[..count]);
                octets += count as u64;
            }
        }
    }
}

fn fill(contents: &Contents, key: &SiteKey, package: &mut Package) -> io::Result<()> {
    let export = &contents.export;
    let mut told: Vec<Value> = contents.calls.iter().map(|call| told(call, export.mask_numbers)).collect();
    let mut table = String::from("\u{feff}");
    let head = "file,call,started,direction,remote_number,remote_name,local_number,local_name,duration_ms,\
                device,site,codec,sha256,problem";
    table.push_str(head);
    table.push_str("\r\n");
    for taken in &contents.recordings {
        let call = &contents.calls[taken.call];
        let name = name(call, &taken.view.id, export.mask_numbers);
        let before = package.files.len();
        let problem = add_recording(package, taken, &name, contents).err().unwrap_or_default();
        let files: Vec<&String> = package.files[before..].iter().map(|(name, ..)| name).collect();
        let view = &taken.view;
        let recording = json!({
            "id": view.id, "recording": view.recording, "source": view.source, "codec": view.codec,
            "duration_ms": view.duration_ms, "segments": view.segments, "gap_ms": view.gap_ms, "lost": view.lost,
            "end_reason": view.end_reason, "sha256_of_audio": view.sha256, "files": files,
            "problem": if problem.is_empty() { Value::Null } else { json!(problem) },
        });
        if let Some(list) = told[taken.call]["recordings"].as_array_mut() {
            list.push(recording);
        }
        let (remote, local) =
            (party(&call.remote, export.mask_numbers), party(&call.local, export.mask_numbers));
        let (file, sha256) = match package.files.get(before) {
            Some((name, _, sha256)) => (name.clone(), sha256.clone()),
            None => (String::new(), String::new()),
        };
        let row = [
            &file,
            &call.id,
            &rfc3339(call.started_us),
            &direction(call).to_owned(),
            &remote.0,
            &remote.1,
            &local.0,
            &local.1,
            &view.duration_ms.to_string(),
            &call.device,
            &call.site,
            &view.codec,
            &sha256,
            &problem,
        ];
        table.push_str(&row.map(|text| cell(text)).join(","));
        table.push_str("\r\n");
    }
    package.add_text("manifest.csv", &table)?;
    let line = |link: &Link| {
        let entry = &link.entry;
        let value = json!({
            "seq": link.seq, "at": rfc3339(entry.at_us), "at_us": entry.at_us, "actor": entry.actor,
            "action": entry.action, "object": entry.object, "result": entry.result, "detail": entry.detail,
            "previous": hex(&link.previous), "hash": hex(&link.hash),
        });
        format!("{value}\n")
    };
    package.add_text("custody.jsonl", &contents.custody.iter().map(line).collect::<String>())?;
    if let Some(checkpoint) = &contents.checkpoint {
        package.add_text("checkpoint.txt", &checkpoint.file())?;
    }
    package.add_text("README.txt", &readme(contents, key))?;
    let files: Vec<Value> = package
        .files
        .iter()
        .map(|(name, octets, sha256)| json!({"name": name, "octets": octets, "sha256": sha256}))
        .collect();
    let gone: Vec<String> = contents.gone.iter().map(Id::to_string).collect();
    let manifest = json!({
        "export": export.id.to_string(), "created": rfc3339(clock::now_us()), "asked": rfc3339(export.asked_us),
        "by": export.by, "reason": export.reason, "site": contents.site, "mask_numbers": export.mask_numbers,
        "originals": export.originals, "program": concat!("recordarchive ", env!("CARGO_PKG_VERSION")),
        "public_key": key.public().line(), "calls": told, "gone": gone, "files": files,
    });
    let manifest = format!("{}\n", serde_json::to_string_pretty(&manifest).map_err(io::Error::other)?);
    package.add_text(MANIFEST, &manifest)?;
    let sums: String = package.files.iter().map(|(name, _, sha256)| format!("{sha256}  {name}\n")).collect();
    package.add_text(SUMS, &sums)?;
    let comment = format!("timestamp:{}\tfile:{MANIFEST}", clock::now_us() / 1_000_000);
    package.add_text(SIGNATURE, &minisig::sign(key, manifest.as_bytes(), &comment))
}

/// Adds the files of a recording; their problems go to the manifest.
fn add_recording(
    package: &mut Package,
    taken: &Taken,
    name: &str,
    contents: &Contents,
) -> Result<(), String> {
    let (export, vault) = (&contents.export, &contents.vault);
    let media = taken.media.as_ref().ok_or("its files are not in the catalogue")?;
    let codec = Codec::from_name(&media.codec).filter(|_| !media.encrypted);
    let unknown =
        "it is encrypted to a key that the archive does not have, or of a codec that it does not know";
    let mut problem = match codec {
        Some(codec) => {
            match View::new(media.clone(), codec, true, Arc::new(States::default()), vault.clone()) {
                Some(view) => playable(package, view, &format!("calls/{name}.wav")).err(),
                None => Some("it is too long for a WAV; the original has it".to_owned()),
            }
        }
        None => Some(unknown.to_owned()),
    };
    if export.originals && !export.mask_numbers {
        if let Some(key) = media.key.as_ref().filter(|_| export.as_stored) {
            let identity = vault.unwrap(key).map(|identity| format!("{}\n", identity.secret_text()));
            let added =
                identity.and_then(|text| package.add_text(&format!("calls/{name}.identity.txt"), &text));
            if let Err(error) = added {
                problem.get_or_insert(error.to_string());
            }
        }
        for segment in &media.segments {
            let path = media::path(&segment.file);
            let base = match media.segments.len() {
                1 => format!("calls/{name}.original"),
                _ => format!("calls/{name}.original-{}", segment.number),
            };
            let is_as_stored = export.as_stored && segment.file.is_encrypted();
            let (ending, opened) = if is_as_stored {
                (ENCRYPTED_ENDING, RealFs.open_read(&path).map(Media::Plain))
            } else {
                ("", vault.open(&segment.file, media.key.as_deref()))
            };
            let added = opened.and_then(|opened| package.add_media(&format!("{base}.wav{ending}"), opened));
            if let Err(error) = added {
                problem.get_or_insert(format!("{}: {error}", segment.file.name));
            }
            let sidecar = path.with_file_name(sidecar_name(&segment.file.name));
            if sidecar.is_file()
                && let Err(error) = package.add_file(&format!("{base}.json"), &sidecar)
            {
                problem.get_or_insert(format!("sidecar of {}: {error}", segment.file.name));
            }
        }
    }
    problem.map_or(Ok(()), Err)
}

fn playable(package: &mut Package, mut view: View, name: &str) -> Result<(), String> {
    // Before its name is in the package.
    view.try_open().map_err(|error| format!("a file of it can't be read: {error}"))?;
    let (mut at, end) = (0, view.len());
    let added = package.add(name, end, || {
        if at >= end {
            return Ok(Vec::new());
        }
        let piece = view.read(at, PIECE_OCTETS)?;
        at += piece.len() as u64;
        if piece.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(piece) }
    });
    added.map_err(|error| format!("a file of it can't be read to its end: {error}"))
}

fn direction(call: &CallView) -> &'static str {
    call.direction.map_or("", recfile::call::Direction::as_str)
}

/// Number and name of a side, as they may be read.
fn party(party: &Party, mask: bool) -> (String, String) {
    if !mask {
        return (party.number.clone(), party.name.clone());
    }
    let name = if party.name.is_empty() { "" } else { "•••" };
    (masked(&party.number), name.into())
}

fn told(call: &CallView, mask: bool) -> Value {
    let side = |side: &Party| {
        let (number, name) = party(side, mask);
        json!({"number": number, "name": name})
    };
    json!({
        "id": call.id, "external_id": call.external_id, "direction": call.direction.map(|_| direction(call)),
        "started": rfc3339(call.started_us), "duration_ms": call.duration_ms, "remote": side(&call.remote),
        "local": side(&call.local), "device": call.device, "site": call.site, "tags": call.tags, "recordings": [],
    })
}

/// The name of a recording: time, direction, other party, and the end of its id.
fn name(call: &CallView, recording: &str, mask: bool) -> String {
    let plain = |number: String| {
        let text: String = number
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(40)
            .map(|c| if c.is_ascii_alphanumeric() || "+*#-".contains(c) { c } else { 'x' })
            .collect();
        if text.is_empty() { "unknown".to_owned() } else { text }
    };
    let direction = match direction(call) {
        "" => "unknown",
        direction => direction,
    };
    let id = &recording[recording.len().saturating_sub(8)..];
    let (remote, local) = (party(&call.remote, mask).0, party(&call.local, mask).0);
    format!("{}_{direction}_{}_{}_{id}", file_stamp(call.started_us), plain(remote), plain(local))
}

/// A cell of a table: quoted where it has to be, and never a formula of a spreadsheet.
fn cell(text: &str) -> String {
    let guarded =
        if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.into() };
    if guarded.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

fn readme(contents: &Contents, key: &SiteKey) -> String {
    let export = &contents.export;
    let (calls, recordings, gone) = (contents.calls.len(), contents.recordings.len(), contents.gone.len());
    let line = key.public().line();
    format!(
        "Recordings of calls, exported by {} at {}\nReason: {}\n\n\
         {calls} call(s), {recordings} recording(s). {gone} call(s) were gone when the package was made.\n\n\
         calls/            recordings as they can be played anywhere, as they are stored, and what the recorder says\n\
         manifest.json     the contents, with the SHA-256 of each file\n\
         manifest.csv      the same as a table\n\
         custody.jsonl     who did what with these calls: entries of the audit log, each with the hash of the one before\n\
         checkpoint.txt    the newest signed checkpoint of the audit log\n\n\
         To check that nothing was changed:\n\n\
         \x20   sha256sum -c sha256sums.txt\n\
         \x20   minisign -V -P {line} -m manifest.json\n\n\
         The key is the archive's; get it from its administrator, not from this package. Or all at once:\n\n\
         \x20   recordarchive verify-export FILE.zip --key {line}\n",
        export.by,
        rfc3339(export.asked_us),
        export.reason,
    )
}

/// The path of an export's package.
pub(crate) fn path(data: &Path, export: Id) -> PathBuf {
    data.join("exports").join(format!("export-{export}.zip"))
}

/// The entries of an export: one for itself, and one for each call, so that a call's history has it.
pub(crate) fn entries(export: &Export, q: Option<&str>) -> Vec<Entry> {
    let said = json!({
        "reason": export.reason, "calls": export.calls.len(), "q": q, "originals": export.originals,
        "as_stored": export.as_stored, "mask_numbers": export.mask_numbers,
    });
    let all = Entry::new(export.asked_us, &export.by, "export.create", export.id).with(&said);
    let said = json!({"export": export.id.to_string(), "reason": export.reason});
    let each = export.calls.iter();
    let each = each.map(|call| Entry::new(export.asked_us, &export.by, "export", call).with(&said));
    std::iter::once(all).chain(each).collect()
}

/// Makes the requested packages, one after another, and removes expired ones. A package that a restart
/// interrupted is made anew.
pub(crate) async fn run(
    catalogue: Arc<dyn Catalogue>,
    data: PathBuf,
    site: String,
    key: impl Fn() -> Result<SiteKey, String>,
    vault: Vault,
) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if let Err(error) = look(&*catalogue, &data, &site, &key, &vault).await {
            log::warn!("exports: {error}");
            tokio::time::sleep(10 * LOOK_EVERY).await;
        }
    }
}

/// One look for requested exports.
pub(crate) async fn look(
    catalogue: &dyn Catalogue,
    data: &Path,
    site: &str,
    key: impl Fn() -> Result<SiteKey, String>,
    vault: &Vault,
) -> Done<()> {
    let (next, over) = catalogue.exports_to_do(clock::now_us()).await?;
    for mut export in over {
        let path = path(data, export.id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("exports: {}: {error}", path.display());
                continue;
            }
            _ => {}
        }
        export.state = State::Expired;
        let entry = Entry::new(clock::now_us(), "(exports)", "export.expire", export.id);
        catalogue.set_export(&export, &entry).await?;
    }
    let Some(mut export) = next else { return Ok(()) };
    let made = match key() {
        Ok(key) => make(catalogue, &export, site, (key, vault), &path(data, export.id)).await,
        Err(problem) => Err(problem),
    };
    match made {
        Ok((octets, sha256)) => {
            export.state = State::Ready;
            (export.octets, export.sha256) = (i64::try_from(octets).unwrap_or(i64::MAX), sha256);
        }
        Err(problem) => {
            log::warn!("exports: {problem}");
            export.state = State::Failed;
            export.problem = problem;
        }
    }
    let said = json!({"state": export.state.name(), "sha256": export.sha256});
    let entry = Entry::new(clock::now_us(), "(exports)", "export.make", export.id).with(&said);
    catalogue.set_export(&export, &entry).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_when_and_with_whom_and_is_a_name_of_a_file_everywhere() {
        let call = CallView {
            started_us: 1_795_774_500_000_000,
            direction: Some(recfile::call::Direction::In),
            remote: Party { number: "+49 30 1234711".into(), ..Party::default() },
            local: Party { number: "../201".into(), ..Party::default() },
            ..CallView::default()
        };
        let id = "01234567-89ab-7def-8123-456789abcdef";
        assert_eq!(name(&call, id, false), "20261127T101500Z_in_+49301234711_xxx201_89abcdef");
        assert_eq!(name(&call, id, true), "20261127T101500Z_in_+49xxxxxxxxx11_xxxx01_89abcdef");
        assert_eq!(
            name(&CallView::default(), id, false),
            "19700101T000000Z_unknown_unknown_unknown_89abcdef"
        );
    }

    #[test]
    fn a_cell_is_never_a_formula() {
        for (text, written) in [
            ("=1+1", "'=1+1"),
            ("+49", "'+49"),
            ("@x", "'@x"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("plain", "plain"),
        ] {
            assert_eq!(cell(text), written);
        }
    }
}
