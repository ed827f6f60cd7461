//! The limits of the SMTP servers, in one place. Those that an operator may want to change come
//! from the configuration.

use std::time::Duration;

/// What a connection may cost.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Largest message, in octets.
    pub max_message_size: u64,
    /// Octets above it that are read and dropped before the connection is closed instead.
    pub swallow: u64,
    /// Octets of messages that all connections together hold in memory.
    pub body_memory: usize,
    /// Recipients of one transaction. RFC 5321, 4.5.3.1.8 asks for at least 100; one row of the
    /// incoming queue carries no more.
    pub recipients: usize,
    /// Refused recipients of one connection, after which it is closed: address harvesting.
    pub refused_recipients: u32,
    /// Transactions of one connection.
    pub messages: u32,
    /// Commands of one connection between two messages that are taken.
    pub commands: u32,
    /// Errors of one connection.
    pub errors: u32,
    /// Failed sign-ins of one connection.
    pub sign_in_failures: u32,
    /// Received fields in a message, above which it is in a loop (RFC 5321, 6.3).
    pub received_fields: usize,
    /// How far ahead a message may be submitted.
    pub max_hold: Duration,
    /// How long the next bytes are waited for (RFC 5321, 4.5.3.2.7).
    pub idle: Duration,
    /// How long one transaction may take, from MAIL to the end of the message.
    pub transaction: Duration,
    /// How long a TLS handshake, or the sending of a reply, may take.
    pub handshake: Duration,
    /// How long a message that is on its way is waited for when the server stops.
    pub shutdown: Duration,
    /// Connections of one listener.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: usize,
}

impl Default for Policy {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const DAY: u64 = 24 * 60 * MINUTE;
        Policy {
            max_message_size: 50 << 20,
            swallow: 64 << 20,
            body_memory: 512 << 20,
            recipients: 100,
            refused_recipients: 50,
            messages: 200,
            commands: 1000,
            errors: 10,
            sign_in_failures: 3,
            received_fields: 30,
            max_hold: Duration::from_secs(30 * DAY),
            idle: Duration::from_secs(5 * MINUTE),
            transaction: Duration::from_secs(30 * MINUTE),
            handshake: Duration::from_secs(MINUTE),
            shutdown: Duration::from_secs(5),
            connections: 1000,
            connections_per_address: 20,
        }
    }
}
