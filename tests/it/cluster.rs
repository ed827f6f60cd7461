//! Two processes of each role over the same engines carry the load, while one of each is killed, and
//! while all of them are restarted one after the other.

use std::time::Duration;

use serde_json::json;

use crate::load::Load;
use crate::support::server::Server;
use crate::support::smtp_sink::Sink;
use crate::support::{PATIENCE, eventually, stack};

/// From the loss of a process until all is as it was: its leases must end.
const WELL_AGAIN: Duration = Duration::from_secs(10);

/// Two processes of each role.
struct Cluster {
    apis: Vec<Server>,
    pushes: Vec<Server>,
    receivers: Vec<Server>,
    /// Those that nobody speaks to.
    workers: Vec<Server>,
}

impl Cluster {
    fn start(sink: &Sink) -> Cluster {
        // A tantivy: index is of one process, which has both of its roles.
        let (api, indexes, apis) = if stack::is_meilisearch() { ("api", 2, 2) } else { ("api,index", 0, 1) };
        let first = Server::builder().roles(api).envs(Load::environment(sink)).start();
        let one =
            |roles: &str| Server::builder().roles(roles).envs(Load::environment(sink)).beside(&first).start();
        let two = |roles: &str| vec![one(roles), one(roles)];
        let (pushes, receivers) = (two("push"), two("receive"));
        let mut workers =
            [two("ingest"), two("deliver"), two("events")].into_iter().flatten().collect::<Vec<_>>();
        workers.extend((0..indexes).map(|_| one("index")));
        let others: Vec<Server> = (1..apis).map(|_| one(api)).collect();
        Cluster { apis: [vec![first], others].into_iter().flatten().collect(), pushes, receivers, workers }
    }

    fn load(&self, sink: Sink) -> Load {
        let (apis, receivers): (Vec<&Server>, Vec<&Server>) =
            (self.apis.iter().collect(), self.receivers.iter().collect());
        Load::over(&self.apis[0], &apis, &receivers, sink)
    }

    fn all(&self) -> impl Iterator<Item = &Server> {
        [&self.apis, &self.pushes, &self.receivers, &self.workers].into_iter().flatten()
    }

    /// A client that is connected to this process hears of a mail that comes in over another.
    fn assert_told(&self, push: &Server, subject: &str) {
        let client = self.apis[0].account();
        let mut listener = client.clone();
        listener.server = push.http();
        let events = listener.events("Email", "no", 0);
        self.receivers[0].deliver(
            "a@sender.test",
            &client.address,
            format!("Subject: {subject}\r\n\r\ntext"),
        );
        let account = client.account.clone();
        events.wait_for("Email", |event| event.state_of(&account, "Email").map(|_| ()));
        let found = eventually("the mail is there", || {
            let ids = client.query(json!({ "subject": subject }));
            (!ids.is_empty()).then_some(ids)
        });
        assert_eq!(found.len(), 1);
    }
}

#[test]
fn one_process_of_each_role_is_killed_and_nobody_notices_for_long() {
    if !stack::is_shared() {
        return;
    }
    let sink = Sink::start();
    let cluster = Cluster::start(&sink);
    let load = cluster.load(sink);
    load.run(|| {
        load.goes_on_within(PATIENCE);
        let second = |servers: &'_ [Server]| servers.len() - 1;
        let mut killed =
            vec![&cluster.receivers[second(&cluster.receivers)], &cluster.pushes[second(&cluster.pushes)]];
        if cluster.apis.len() > 1 {
            killed.push(&cluster.apis[second(&cluster.apis)]);
        }
        // One of each pair.
        killed.extend(cluster.workers.iter().step_by(2));
        for server in killed {
            load.note_fault();
            server.kill();
            load.goes_on_within(WELL_AGAIN);
        }
        cluster.assert_told(&cluster.pushes[0], "after-the-loss");
    });
    load.assert_kept(&cluster.apis[0]);
}

#[test]
fn a_rolling_restart_under_load_breaks_nothing_off() {
    if !stack::is_shared() {
        return;
    }
    let sink = Sink::start();
    let cluster = Cluster::start(&sink);
    let load = cluster.load(sink);
    load.run(|| {
        load.goes_on_within(PATIENCE);
        for server in cluster.all() {
            server.terminate();
            server.start_again();
            load.goes_on_within(WELL_AGAIN);
        }
        for push in &cluster.pushes {
            cluster.assert_told(push, "after-the-restart");
        }
    });
    load.assert_nothing_broke_off();
    // No fault was noted: what is sent twice now has no excuse.
    load.assert_kept(&cluster.apis[0]);
}
