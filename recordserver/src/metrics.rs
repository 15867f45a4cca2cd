//! Counters and gauges in the text form that Prometheus reads.
//!
//! Owns: names and meaning of all metrics. They are atomics: the loop counts, the HTTP thread reads.

use crate::refusal::Refusal;
use media::counts::DropCause;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type ByName = Family<Vec<(&'static str, String)>, Counter>;

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Recordings at the moment.
    pub sessions: Gauge,
    /// Control connections at the moment.
    pub connections: Gauge,
    /// UDP ports that no session has.
    pub ports_free: Gauge,
    /// 1 while no new recordings are taken until the last one has ended.
    pub draining: Gauge,
    /// Octets free on the disk, the reserve included.
    pub disk_free_bytes: Gauge,
    /// Octets that wait for the disk.
    pub buffered_bytes: Gauge,
    /// Recordings that began.
    pub sessions_started: Counter,
    /// RTP datagrams that arrived for a session.
    pub packets_received: Counter,
    /// RTP packets that never arrived, by sequence number.
    pub packets_lost: Counter,
    /// Datagrams that the kernel dropped because the server did not fetch them in time.
    pub packets_overrun: Counter,
    /// Packets of others than the sender of the call they came to.
    pub packets_strangers: Counter,
    /// Octets of audio handed to the disk.
    pub audio_bytes: Counter,
    ended: ByName,
    refused: ByName,
    dropped: ByName,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("recordserver"),
            sessions: Gauge::default(),
            connections: Gauge::default(),
            ports_free: Gauge::default(),
            draining: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            buffered_bytes: Gauge::default(),
            sessions_started: Counter::default(),
            packets_received: Counter::default(),
            packets_lost: Counter::default(),
            packets_overrun: Counter::default(),
            packets_strangers: Counter::default(),
            audio_bytes: Counter::default(),
            ended: Family::default(),
            refused: Family::default(),
            dropped: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        for (name, help, gauge) in [
            ("sessions", "Recordings at the moment", &self.sessions),
            ("connections", "Control connections at the moment", &self.connections),
            ("draining", "1 while no new recordings are taken", &self.draining),
            ("rtp_ports_free", "UDP ports without a session", &self.ports_free),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register_with_unit(
            "disk_free",
            "Free on the disk",
            Unit::Bytes,
            self.disk_free_bytes.clone(),
        );
        let buffered = self.buffered_bytes.clone();
        registry.register_with_unit("buffered", "Audio that waits for the disk", Unit::Bytes, buffered);
        for (name, help, counter) in [
            ("sessions_started", "Recordings that began", &self.sessions_started),
            ("packets_received", "RTP datagrams that arrived for a session", &self.packets_received),
            ("packets_lost", "RTP packets that never arrived", &self.packets_lost),
            ("packets_overrun", "Datagrams dropped before the server fetched them", &self.packets_overrun),
            ("packets_strangers", "Packets of others than the sender of the call", &self.packets_strangers),
        ] {
            registry.register(name, help, counter.clone());
        }
        let audio = self.audio_bytes.clone();
        registry.register_with_unit("audio", "Audio handed to the disk", Unit::Bytes, audio);
        registry.register("sessions_ended", "Recordings that ended, by reason", self.ended.clone());
        registry.register("refused", "Connections and recordings not taken, by reason", self.refused.clone());
        registry.register("packets_dropped", "Datagrams not stored, by cause", self.dropped.clone());
    }

    /// A recording ended; `reason` is one of a fixed set of names.
    pub fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    /// A connection or recording was not taken.
    pub fn refused(&self, refusal: Refusal) {
        self.refused.get_or_create(&vec![("reason", refusal.name().to_owned())]).inc();
    }

    /// `count` datagrams were not stored.
    pub fn dropped(&self, cause: DropCause, count: u64) {
        if count > 0 {
            self.dropped.get_or_create(&vec![("cause", cause.name().to_owned())]).inc_by(count);
        }
    }

    /// Everything as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String has no way to fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_metric_with_its_labels() {
        let metrics = Metrics::new();
        metrics.sessions.set(3);
        metrics.packets_received.inc_by(50);
        metrics.refused(Refusal::Ports);
        metrics.ended("stopped");
        metrics.dropped(DropCause::Source, 2);
        metrics.dropped(DropCause::Ssrc, 0);
        let text = metrics.text();
        for line in [
            "recordserver_sessions 3",
            "recordserver_packets_received_total 50",
            "recordserver_refused_total{reason=\"ports\"} 1",
            "recordserver_sessions_ended_total{reason=\"stopped\"} 1",
            "recordserver_packets_dropped_total{cause=\"source\"} 2",
            "recordserver_draining 0",
            "recordserver_disk_free_bytes 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("ssrc"));
    }
}
