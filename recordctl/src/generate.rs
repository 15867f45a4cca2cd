//! Shell completions and man pages, made from the command line's own description.

use super::failure::Failure;
use super::{advice, output, whole_command};
use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell that asks
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Folder for all pages; without it recordctl(1) goes to stdout
    dir: Option<PathBuf>,
}

impl CompletionsArgs {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut whole_command(), "recordctl", &mut script);
        output::raw_line(String::from_utf8_lossy(&script).trim_end())
    }
}

impl ManArgs {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let Some(dir) = &self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(whole_command()).render(&mut page)?;
            return output::raw_line(String::from_utf8_lossy(&page).trim_end());
        };
        let failed = |error: std::io::Error| {
            let text = format!("cannot write man pages to {}: {error}", dir.display());
            Failure::Local(advice::with(text, advice::local(&error)))
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(whole_command(), dir).map_err(failed)
    }
}
