//! Behaviour of server recording's protocol: vectors from the source document, framing, client, both sides.

mod both;
mod client;
mod framing;
mod lasting;
mod media_stream;
mod vectors;
