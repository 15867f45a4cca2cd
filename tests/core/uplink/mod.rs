//! Behaviour of server recording's protocol: vectors from the source document, framing, client.

mod client;
mod framing;
mod vectors;
