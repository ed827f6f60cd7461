//! Figures of those who are connected.

/// One client that is connected, counted for as long as it is kept.
pub struct Online(&'static str);

impl Online {
    /// On a WebSocket.
    pub fn web_socket() -> Online {
        Online::of("websocket")
    }

    /// On an event stream.
    pub fn event_source() -> Online {
        Online::of("eventsource")
    }

    fn of(kind: &'static str) -> Online {
        metrics::gauge!("postrider_push_connections", "kind" => kind).increment(1);
        Online(kind)
    }

    /// Counts a client that we let go, and why.
    pub fn drop_of(reason: &'static str) {
        metrics::counter!("postrider_push_dropped_total", "reason" => reason).increment(1);
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        metrics::gauge!("postrider_push_connections", "kind" => self.0).decrement(1);
    }
}
