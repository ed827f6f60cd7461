//! What is of Citus alone: an account that gets a shard of its own, and a database that becomes a cluster
//! when it holds mail already. Tested when POSTRIDER_TEST_CITUS_URL names a cluster.

use serde_json::json;

use crate::support::jmap::Client;
use crate::support::server::Server;
use crate::support::{eventually, stack};

fn deliver(server: &Server, client: &Client, subject: &str) {
    server.deliver("a@sender.test", &client.address, format!("Subject: {subject}\r\n\r\ntext"));
    eventually(subject, || (client.query(json!({ "subject": subject })).len() == 1).then_some(()));
}

/// The address of one node, for a database's owner.
fn coordinator(url: &str) -> String {
    let (before, after) = url.split_at(url.find('@').expect("a user") + 1);
    let (hosts, database) = after.split_once('/').expect("a database");
    let database = database.split('?').next().unwrap_or_default();
    format!("{before}{}/{database}", hosts.split(',').next().expect("a host"))
}

#[test]
fn a_large_account_gets_a_shard_of_its_own_while_it_has_mail() {
    if !stack::is_citus() {
        return;
    }
    let server = Server::start();
    let (large, other) = (server.account(), server.account());
    deliver(&server, &large, "before");
    deliver(&server, &other, "before");
    let before = server.cli_json(&["shards"]);
    let shards = |shown: &serde_json::Value| shown["shards"].as_array().map_or(0, Vec::len);
    let id = crate::support::number_of(&large.account);
    let database = coordinator(server.variable("POSTRIDER_DATABASE_URL").expect("a database"));
    let text = format!(
        "select isolate_tenant_to_new_shard('account', {id}, 'CASCADE', shard_transfer_mode => 'block_writes')"
    );
    stack::execute(&database, text);
    // As the page for operators says: the processes learn of the new shards when they start.
    server.terminate();
    server.start_again();
    assert!(shards(&server.cli_json(&["shards"])) > shards(&before));
    for client in [&large, &other] {
        deliver(&server, client, "after");
        assert_eq!(client.query(json!(null)).len(), 2);
    }
    let states = large.state("Email");
    large.create_email(&large.mailbox("inbox"), "written", "text");
    assert_ne!(large.state("Email"), states);
}

#[test]
fn a_database_with_mail_becomes_a_cluster() {
    let Some(nodes) = stack::citus_nodes() else { return };
    let plain = stack::plain_database_on(&nodes, &format!("grown_{}", std::process::id()));
    let server = Server::builder().env("POSTRIDER_DATABASE_URL", &plain).start();
    let client = server.account();
    for number in 0..5 {
        deliver(&server, &client, &format!("early{number}"));
    }
    let state = client.state("Email");
    server.terminate();
    stack::make_cluster(&nodes, &plain);
    server.start_again();
    assert_eq!(client.state("Email"), state);
    assert_eq!(client.query(json!(null)).len(), 5);
    deliver(&server, &client, "late");
    assert_eq!(client.query(json!(null)).len(), 6);
    let shown = server.cli_json(&["shards"]);
    assert!(shown["shards"].as_array().is_some_and(|shards| shards.len() > 1), "{shown}");
}
