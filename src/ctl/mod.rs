//! `recordctl`: the command line of the recorder.

pub mod offline;
