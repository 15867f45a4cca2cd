//! Behaviour of the server: sessions on their own, recordings on their own, and the program as a whole
//! with phones that are a literal re-reading of the source document in another language.

mod program;
mod recording;
mod session;
