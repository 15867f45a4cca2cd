//! What goes from one part of the agent to another.

mod disk;
mod library;
mod requests;
