//! `kill -9` during a load of SMTP, JMAP writes and deliveries, again and again.

use std::time::Duration;

use crate::load::Load;
use crate::support::server::Server;
use crate::support::smtp_sink::Sink;
use crate::support::stack;

/// How often the server is killed.
const KILLS: u64 = 20;

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_there_twice() {
    let sink = Sink::start();
    let server = Server::builder().envs(Load::environment(&sink)).start();
    let load = Load::on(&server, sink);
    load.run(|| {
        for kill in 0..KILLS {
            // Different moments: right after the start, and in the middle of things.
            // Over a network of its own, a start takes longer.
            let start = if stack::is_postgres() { 1_000 } else { 0 };
            std::thread::sleep(Duration::from_millis(start + 50 + kill * 137 % 700));
            load.note_fault();
            server.restart();
        }
    });
    load.assert_kept(&server);
}
