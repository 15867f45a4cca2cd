//! The rules of the house that a compiler does not know: the imports that each folder may have, the length of
//! a file, and that the documents mention every method, event and setting.

use recordd::api::event::Event;
use recordd::api::request::method_names;
use recordd::config::{Config, SECTIONS};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders with the sources of everything.
const SOURCES: &[&str] = &["src", "crates", "recordctl/src", "recordserver/src", "recordarchive/src"];

/// Code that opens no socket, reads no clock, starts no thread, and does no file I/O of its own.
const PURE: &[&str] = &[
    "crates/media/src",
    "crates/recfile/src",
    "crates/uplink/src",
    "crates/settings/src",
    "crates/store/src/jobs",
    "src/api",
    "src/agent",
];

/// Modules elsewhere that are pure, too.
const PURE_FILES: &[&str] = &["src/config.rs"];

/// The names that pure code never mentions. Addresses (`IpAddr`, `SocketAddr`) are plain numbers, and fine.
const TOUCHES_THE_WORLD: &[&str] = &[
    "mio::",
    "nix::",
    "libc::",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env::",
    "std::os::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "Instant::now",
    "SystemTime::now",
    "crate::runtime",
    "os::confine",
    "store::fs",
    "store::thread",
    "store::writer",
];

/// Imports run one way: who may not know whom within the agent. Between crates the compiler sees to it.
const ONE_WAY: &[(&str, &[&str])] = &[
    ("src/api", &["crate::agent", "store::", "uplink::"]),
    ("crates/store/src", &["media::timeline"]),
    // The parts of the agent do not see each other; `src/agent/routing` sees all.
    ("src/agent/clients", &["agent::recordings", "agent::disk", "agent::library", "agent::routing"]),
    ("src/agent/recordings", &["agent::library", "agent::routing", "disk::Disks", "DiskState"]),
    ("src/agent/disk", &["agent::recordings", "agent::library", "agent::routing"]),
    ("src/agent/library", &["agent::recordings", "agent::routing", "disk::Disks", "DiskState"]),
];

/// More lines than this are more than one thing. Tests may have more.
const MAX_FILE_LINES: usize = 600;

/// Files of tests by another name: what the archive's tests share.
const TEST_FILES: &[&str] = &["recordarchive/src/testing.rs", "recordarchive/src/catalogue/conformance.rs"];

/// Lines of prose in documents.
const MAX_PROSE_COLUMNS: usize = 110;

/// The one crate that may contain `unsafe`.
const UNSAFE_CRATE: &str = "crates/os";

/// Documents that mention every method and event of the local socket, and every key of the configuration.
const LOCAL_API: &str = "docs/local-api.md";
const CONFIGURATION: &str = "docs/configuration.md";

/// Configurations that are shipped.
const EXAMPLES: &[&str] = &["recordd.example.toml"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a file that are code outside of its tests, with their numbers: the whole file but for the
/// items behind `#[cfg(test)]`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut test_item: Option<usize> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("#[cfg(test)]") {
            test_item = Some(indent);
            return None;
        }
        if let Some(begin) = test_item {
            let ends = [';', ',', '}'].iter().any(|end| line.trim_end().ends_with(*end));
            if indent == begin && ends {
                test_item = None;
            }
            return None;
        }
        (!line.trim_start().starts_with("//")).then_some((index + 1, line))
    })
}

/// Every mention of `words` in the code of `files`.
fn mentions(files: &[PathBuf], words: &[&str]) -> String {
    let mut found = String::new();
    for path in files {
        for (number, line) in code(&read(path)) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                let name = path.strip_prefix(root()).unwrap_or(path).display();
                writeln!(found, "{name}:{number}: {word}").unwrap();
            }
        }
    }
    found
}

/// Whether a file of sources is of tests alone.
fn is_test(path: &Path) -> bool {
    let inside = path.strip_prefix(root()).unwrap_or(path);
    let in_tests = inside.components().any(|part| part.as_os_str() == "tests");
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    in_tests || name.ends_with("tests") || TEST_FILES.iter().any(|file| inside.ends_with(file))
}

/// All sources, without those of tests alone.
fn sources() -> Vec<PathBuf> {
    let files = SOURCES.iter().flat_map(|folder| rust_files(&root().join(folder)));
    files.filter(|path| !is_test(path)).collect()
}

fn beneath(folder: &str) -> Vec<PathBuf> {
    let folder = root().join(folder);
    sources().into_iter().filter(|path| path.starts_with(&folder)).collect()
}

#[test]
fn pure_code_touches_nothing_of_the_world() {
    let mut files: Vec<PathBuf> = PURE.iter().flat_map(|folder| beneath(folder)).collect();
    files.extend(PURE_FILES.iter().map(|name| root().join(name)));
    assert!(files.len() > 20, "the folders have moved: tell this guard where");
    let found = mentions(&files, TOUCHES_THE_WORLD);
    assert!(found.is_empty(), "only runtime, store and os may do this:\n{found}");
}

#[test]
fn imports_run_one_way() {
    let found: String =
        ONE_WAY.iter().map(|(folder, forbidden)| mentions(&beneath(folder), forbidden)).collect();
    assert!(found.is_empty(), "imports run one way (ARCHITECTURE.md):\n{found}");
}

/// Folders of sources in which no two files or folders that stand side by side import each other, not even by
/// way of others. A module and the parts in its own folder are one thing.
const WITHOUT_CIRCLES: &[&str] = &[
    "crates/media/src",
    "crates/os/src",
    "crates/recfile/src",
    "crates/settings/src",
    "crates/store/src",
    "crates/uplink/src",
    "recordarchive/src",
    "recordctl/src",
    "recordserver/src",
    "src",
];

type Module = Vec<String>;

/// The modules of a folder of sources, with their code.
fn modules(folder: &Path) -> BTreeMap<Module, String> {
    let files = rust_files(folder).into_iter().filter(|path| !is_test(path));
    let named = files.map(|path| {
        let name = path.strip_prefix(folder).unwrap().with_extension("");
        let mut module: Module = name.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        let text = read(&path);
        (module, code(&text).map(|(_, line)| line).collect::<Vec<_>>().join("\n"))
    });
    named.collect()
}

/// The modules that `code` of a module names by `crate::` and `super::`, as paths from the root.
fn imports(module: &Module, code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for (start, first) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut base = if first == "crate::" { Module::new() } else { module.clone() };
        let mut rest = &code[start..];
        while let Some(next) = rest.strip_prefix("super::") {
            base.pop();
            rest = next;
        }
        rest = rest.strip_prefix("crate::").unwrap_or(rest);
        loop {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if !name.is_empty() {
                base.push(name.to_owned());
            }
            match after.strip_prefix("::") {
                Some(next) if !name.is_empty() => rest = next,
                _ => break,
            }
        }
        // The first names within braces; deeper ones are below them.
        if let Some(list) = rest.strip_prefix('{').and_then(|list| list.split_once('}')) {
            for name in list.0.split(|c: char| !c.is_alphanumeric() && c != '_') {
                found.push([&base[..], &[name.to_owned()]].concat());
            }
        }
        found.push(base);
    }
    found
}

#[test]
fn imports_between_files_have_no_circle() {
    let mut circles = String::new();
    for folder in WITHOUT_CIRCLES {
        let modules = modules(&root().join(folder));
        let mut arrows: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
        for (from, code) in &modules {
            for path in imports(from, code) {
                let known = (1..=path.len()).rev().find_map(|end| modules.get_key_value(&path[..end]));
                let Some((to, _)) = known else { continue };
                let side = from.iter().zip(to).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (from.get(..=side), to.get(..=side)) {
                    arrows.entry(from).or_default().insert(to);
                }
            }
        }
        for start in arrows.keys() {
            let (mut reached, mut waiting) = (BTreeSet::new(), vec![*start]);
            while let Some(at) = waiting.pop() {
                waiting.extend(arrows.get(at).into_iter().flatten().filter(|to| reached.insert(**to)));
            }
            if reached.contains(start) {
                writeln!(circles, "{folder}: {}", start.join("/")).unwrap();
            }
        }
    }
    assert!(circles.is_empty(), "these are on a circle of imports:\n{circles}");
}

#[test]
fn source_files_stay_short() {
    let mut found = String::new();
    for path in sources() {
        let lines = read(&path).lines().count();
        if lines > MAX_FILE_LINES {
            writeln!(found, "{}: {lines} lines", path.display()).unwrap();
        }
    }
    assert!(found.is_empty(), "over {MAX_FILE_LINES} lines, so more than one thing:\n{found}");
}

#[test]
fn unsafe_code_is_in_one_crate() {
    let mut files = sources();
    files.retain(|path| !path.starts_with(root().join(UNSAFE_CRATE)));
    let found = mentions(&files, &["unsafe {", "unsafe fn", "unsafe impl", "expect(unsafe_code"]);
    assert!(found.is_empty(), "unsafe belongs into {UNSAFE_CRATE}:\n{found}");
}

#[test]
fn every_module_says_what_it_is() {
    let mut found = String::new();
    for path in sources() {
        if !read(&path).starts_with("//!") {
            writeln!(found, "{}", path.display()).unwrap();
        }
    }
    assert!(found.is_empty(), "without a header that says what they own:\n{found}");
}

/// Those of `names` that a document does not mention as code.
fn missing<'n>(document: &str, names: impl Iterator<Item = &'n str>) -> String {
    let text = read(&root().join(document));
    // Whole: `play.start` does not mention `play.start_all`.
    let joins = |part: Option<char>| part.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mentioned = |name: &str| {
        text.match_indices(name).any(|(at, _)| {
            let (before, after) = (text[..at].chars().next_back(), text[at + name.len()..].chars().next());
            !joins(before) && !joins(after)
        })
    };
    names.filter(|name| !mentioned(name)).fold(String::new(), |all, name| all + "\n  " + name)
}

#[test]
fn the_document_of_the_local_socket_mentions_every_method() {
    let found = missing(LOCAL_API, method_names());
    assert!(found.is_empty(), "{LOCAL_API} does not mention:{found}");
}

#[test]
fn the_document_of_the_local_socket_mentions_every_event() {
    let found = missing(LOCAL_API, Event::NAMES.into_iter());
    assert!(found.is_empty(), "{LOCAL_API} does not mention:{found}");
}

#[test]
fn the_document_of_the_configuration_mentions_every_key() {
    let sections: Vec<String> = SECTIONS.iter().map(|(section, _)| format!("[{section}]")).collect();
    let text = read(&root().join(CONFIGURATION));
    let absent: Vec<&String> = sections.iter().filter(|section| !text.contains(*section)).collect();
    assert!(absent.is_empty(), "{CONFIGURATION} does not mention: {absent:?}");
    let keys = SECTIONS.iter().flat_map(|(_, keys)| keys.iter().copied());
    let found = missing(CONFIGURATION, keys);
    assert!(found.is_empty(), "{CONFIGURATION} does not mention:{found}");
}

#[test]
fn the_shipped_configurations_load_and_show_every_key() {
    for example in EXAMPLES {
        let text = read(&root().join(example));
        Config::parse(&text, example).unwrap_or_else(|error| panic!("{error}"));
        let shown = |key: &&&str| {
            text.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                line.strip_prefix(**key).is_some_and(|rest| rest.trim_start().starts_with('='))
            })
        };
        let keys = SECTIONS.iter().flat_map(|(_, keys)| keys.iter());
        let absent: Vec<&&str> = keys.filter(|key| !shown(key)).collect();
        assert!(absent.is_empty(), "{example} does not show: {absent:?}");
    }
}

#[test]
fn the_readme_lists_every_document() {
    let readme = read(&root().join("README.md"));
    let documents = fs::read_dir(root().join("docs")).unwrap().map(|it| it.unwrap().file_name());
    for name in documents {
        let link = format!("](docs/{}", name.to_string_lossy());
        assert!(readme.contains(&link), "README.md does not list docs/{}", name.to_string_lossy());
    }
}

#[test]
fn architecture_names_files_that_are_there() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let first = ["src/", "crates/", "recordctl/", "recordserver/", "tests/", "cross/", "docs/"];
    let named = text.split('`').skip(1).step_by(2).filter(|word| first.iter().any(|it| word.starts_with(it)));
    let mut files = 0;
    for path in named {
        files += 1;
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which is not there");
    }
    assert!(files > 50, "ARCHITECTURE.md names {files} files only");
}

#[test]
fn limits_name_files_that_define_them() {
    let files = sources();
    let mut rows = 0;
    for row in read(&root().join("docs/limits.md")).lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split('|').nth(1).unwrap_or_default();
        let words: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        for (at, word) in words.iter().enumerate().filter(|(_, word)| word.ends_with(".rs")) {
            rows += 1;
            let named: Vec<&Path> =
                files.iter().filter(|file| file.ends_with(word)).map(PathBuf::as_path).collect();
            assert!(!named.is_empty(), "docs/limits.md names {word}, which is not there");
            // The file's constants stand before it.
            let of_file = words[..at].iter().rev().take_while(|word| !word.ends_with(".rs"));
            for constant in of_file {
                let definition = format!("const {constant}:");
                let defined = named.iter().any(|file| read(file).contains(&definition));
                assert!(defined, "docs/limits.md: {word} does not define {constant}");
            }
        }
    }
    assert!(rows > 80, "docs/limits.md names {rows} files only");
}

/// Prose that has too long lines: no tables, headings, links that nobody can break, or code.
fn too_long(text: &str) -> impl Iterator<Item = usize> {
    let mut in_block = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        let is_prose =
            !in_block && !fence && !line.starts_with("    ") && !line.trim_start().starts_with(['|', '#']);
        (is_prose && line.chars().count() > MAX_PROSE_COLUMNS && line.trim().contains(' '))
            .then_some(index + 1)
    })
}

#[test]
fn prose_has_lines_that_fit_an_editor() {
    let mut documents: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(|it| root().join(it)).into();
    documents.extend(fs::read_dir(root().join("docs")).unwrap().map(|it| it.unwrap().path()));
    documents.retain(|it| it.extension().is_some_and(|it| it == "md"));
    assert!(documents.len() > 10, "the documents have moved: tell this guard where");
    let mut found = String::new();
    for path in documents {
        for line in too_long(&read(&path)) {
            writeln!(found, "{}:{line}", path.strip_prefix(root()).unwrap().display()).unwrap();
        }
    }
    assert!(found.is_empty(), "longer than {MAX_PROSE_COLUMNS} columns:\n{found}");
}
