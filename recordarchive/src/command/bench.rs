//! `bench`: a synthetic catalogue, and the time of searches in it.

use super::{Ended, Outcome, print};
use crate::bench;
use crate::config::Config;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Make a catalogue of calls that nobody made, in a data folder that has none
    Generate {
        /// How many calls, spread over a year
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
        calls: u64,
        /// The same seed makes the same calls
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// Search and listen in it, over HTTP, and print a table of the times
    Search {
        /// How often each search is made
        #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=100_000))]
        rounds: u32,
    },
}

pub(super) async fn run(bench: Bench, config: &Config) -> Outcome {
    match bench {
        Bench::Generate { calls, seed } => {
            print(&bench::generate(config, calls, seed).await.map_err(Ended::Failed)?);
        }
        Bench::Search { rounds } => {
            print(&bench::search::search(config, rounds as usize).await.map_err(Ended::Failed)?);
        }
    }
    Ok(())
}
