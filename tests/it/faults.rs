//! Faults of the database under load: it crashes and is started again, and connections to it are cut in
//! the middle of transactions. Nothing acknowledged is lost, nothing is there twice, and all is well
//! again within ten seconds of the fault's end.

use std::time::Duration;

use crate::load::Load;
use crate::support::postgres::Postgres;
use crate::support::relay::Relay;
use crate::support::server::Server;
use crate::support::smtp_sink::Sink;
use crate::support::stack;

/// From the end of a fault until all is as it was.
const WELL_AGAIN: Duration = Duration::from_secs(10);

#[test]
fn a_database_that_crashes_under_load_loses_nothing() {
    if !stack::is_shared() {
        return;
    }
    let postgres = Postgres::start();
    let sink = Sink::start();
    let server = Server::builder()
        .envs(Load::environment(&sink))
        .env("POSTRIDER_DATABASE_URL", stack::database_on(&postgres.url(), "mail"))
        .start();
    let load = Load::on(&server, sink);
    load.run(|| {
        for pause in [700, 1_500, 400] {
            std::thread::sleep(Duration::from_millis(pause));
            load.note_fault();
            postgres.crash();
            load.goes_on_within(WELL_AGAIN);
        }
    });
    load.assert_kept(&server);
}

#[test]
fn connections_cut_in_the_middle_of_transactions_lose_nothing() {
    if !stack::is_shared() {
        return;
    }
    let postgres = Postgres::start();
    let relay = Relay::start(postgres.address());
    let direct = stack::database_on(&postgres.url(), "mail");
    let through = direct.replace(&postgres.address().to_string(), &relay.address().to_string());
    let sink = Sink::start();
    let server =
        Server::builder().envs(Load::environment(&sink)).env("POSTRIDER_DATABASE_URL", through).start();
    let load = Load::on(&server, sink);
    load.run(|| {
        for cut in 0..8 {
            std::thread::sleep(Duration::from_millis(300 + cut * 137 % 500));
            load.note_fault();
            if cut % 4 == 3 {
                relay.close();
                std::thread::sleep(Duration::from_secs(2));
                relay.open();
            } else {
                relay.cut();
            }
            load.goes_on_within(WELL_AGAIN);
        }
    });
    load.assert_kept(&server);
}
