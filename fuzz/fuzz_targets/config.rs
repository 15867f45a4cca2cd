//! Any text as config file: settings, or an error that can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recordd::config::Config;

fuzz_target!(|text: &str| {
    if let Err(error) = Config::parse(text, "recordd.toml") {
        assert!(error.to_string().contains("recordd.toml"));
    }
});
