//! What goes from one part of the agent to another.

mod library;
mod requests;
