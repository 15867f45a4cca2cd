//! Any text as the server's config: settings within their ranges, or a message of one line that names the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recordserver::config::{Command, from_args};

fuzz_target!(|input: (&str, Vec<&str>)| {
    let (text, more) = input;
    let fixed = ["--config", "/server.toml", "--listen", "127.0.0.1:5055", "--storage", "/srv"];
    let arguments = fixed.iter().chain(&more).map(std::ffi::OsString::from);
    match from_args(arguments, |_| Ok(text.to_owned())) {
        Ok(Command::Run(config)) => {
            assert!(config.limits.sessions >= 1 && config.limits.connections >= 1);
            assert!(config.max_file_octets.is_none_or(|octets| octets >= 4096));
            assert!(config.buffer_octets >= 1 << 20);
        }
        Ok(_) => {}
        Err(message) => assert!(!message.is_empty()),
    }
});
