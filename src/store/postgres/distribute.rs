//! The distribution of the tables over a Citus cluster: what `postrider migrate` does after the schema.
//!
//! Everything of an account is in one shard, with the queue lanes that hash into it, so that a
//! transaction on an account stays on one node. Addresses, names of logins, secrets of tokens and
//! objects are in shards of their own, found by what they are asked for. What is rarely written is on
//! every node. Each step asks what is done already: a second run changes nothing, and Citus may be
//! added to a database that holds mail.

use crate::store::error::StoreError;
use crate::store::lanes::Lanes;
use crate::store::postgres::PostgresEngine;
use crate::store::postgres::statement::PostgresConn;
use crate::store::unit::Urgency;

/// Tables on every node: small, and rarely written.
const REFERENCE: [&str; 3] = ["domain", "schema_version", "server_key"];

/// Tables by their distribution column; those of one list are co-located. Parents come first.
const OF_ACCOUNTS: [(&str, &str); 30] = [
    ("account", "id"),
    ("mailbox", "account_id"),
    ("mailbox_subscription", "account_id"),
    ("email", "account_id"),
    ("email_structure", "account_id"),
    ("membership", "account_id"),
    ("keyword", "account_id"),
    ("thread_mailbox", "account_id"),
    ("trash_recount", "account_id"),
    ("thread_key", "account_id"),
    ("change", "account_id"),
    ("type_state", "account_id"),
    ("change_day", "account_id"),
    ("blob_reference", "account_id"),
    ("inline_blob", "account_id"),
    ("identity", "account_id"),
    ("submission", "account_id"),
    ("vacation", "account_id"),
    ("vacation_sent", "account_id"),
    ("delivered", "account_id"),
    ("send_note", "account_id"),
    ("idempotency", "account_id"),
    ("suppression", "account_id"),
    ("template", "account_id"),
    ("commit_mark", "account_id"),
    ("login", "id"),
    ("access", "login_id"),
    ("token", "login_id"),
    ("push_subscription", "login_id"),
    ("push_interest", "account_id"),
];
const OF_LANES: [(&str, &str); 8] = [
    ("incoming", "lane"),
    ("incoming_body", "lane"),
    ("outgoing", "lane"),
    ("index_queue", "lane"),
    ("push_queue", "lane"),
    ("event_outbox", "lane"),
    ("event_lease", "lane"),
    ("webhook_queue", "lane"),
];
const OF_TEXTS: [(&str, &str); 6] = [
    ("address", "address"),
    ("login_name", "name"),
    ("event_head", "domain"),
    ("event_log", "domain"),
    ("webhook", "domain"),
    ("audit", "domain"),
];
const OF_HASHES: [(&str, &str); 2] = [("blob", "hash"), ("token_secret", "secret_hash")];

/// Distributes the tables that are not yet, when the database has Citus; the tables that were.
pub async fn distribute(
    engine: &PostgresEngine,
    postgres: &mut PostgresConn,
) -> Result<Vec<&'static str>, StoreError> {
    let has_citus = number(postgres, "select count(*) from pg_extension where extname = 'citus'").await? == 1;
    if !has_citus {
        return Ok(Vec::new());
    }
    postgres
        .control(
            "set citus.enable_local_reference_table_foreign_keys = off; \
             set citus.shard_replication_factor = 1",
        )
        .await?;
    let mut done = Vec::new();
    for table in REFERENCE {
        if !is_distributed(postgres, table).await? {
            postgres.control(&format!("select create_reference_table('{table}')")).await?;
            done.push(table);
        }
    }
    done.extend(colocate(postgres, &OF_ACCOUNTS, None).await?);
    if !is_distributed(postgres, OF_LANES[0].0).await? {
        move_to_lanes(engine, postgres).await?;
    }
    done.extend(colocate(postgres, &OF_LANES, Some(OF_ACCOUNTS[0].0)).await?);
    done.extend(colocate(postgres, &OF_TEXTS, None).await?);
    done.extend(colocate(postgres, &OF_HASHES, None).await?);
    Ok(done)
}

/// Distributes tables beside each other, and beside another one if one is given.
async fn colocate(
    postgres: &mut PostgresConn,
    tables: &[(&'static str, &str)],
    beside: Option<&'static str>,
) -> Result<Vec<&'static str>, StoreError> {
    let mut done = Vec::new();
    let mut beside = beside;
    for (table, column) in tables {
        if !is_distributed(postgres, table).await? {
            let place = match beside {
                Some(other) => format!("colocate_with => '{other}'"),
                // As many shards as the operator has set (`citus.shard_count`; 32 where nobody did).
                None => "colocate_with => 'none', \
                         shard_count => current_setting('citus.shard_count')::int"
                    .to_owned(),
            };
            postgres
                .control(&format!("select create_distributed_table('{table}', '{column}', {place})"))
                .await?;
            // What was there before has been copied to the shards.
            postgres
                .control(&format!("select truncate_local_data_after_distributing_table('{table}')"))
                .await?;
            tracing::info!(table, "distributed");
            done.push(*table);
        }
        beside = Some(beside.unwrap_or(table));
    }
    Ok(done)
}

/// Before the queues are distributed: what waits, and the accounts, go to the lanes of their shards.
async fn move_to_lanes(engine: &PostgresEngine, postgres: &mut PostgresConn) -> Result<(), StoreError> {
    let mut snapshot = engine.snapshot(Urgency::Background).await?;
    let lanes = Lanes::of_shards(&mut snapshot).await?;
    engine.end_snapshot(snapshot, None);
    let Lanes::Sharded(by_shard) = lanes else { return Ok(()) };
    for row in
        postgres.simple("select id, get_shard_id_for_distribution_column('account', id) from account").await?
    {
        let [account, shard] = row.as_slice() else { continue };
        let lane = by_shard.get(shard).copied().unwrap_or_default();
        // One shard and two local tables, each by itself: a run that is cut short is done again.
        for text in [
            format!("update index_queue set lane = {lane} where account_id = {account}"),
            format!("update outgoing set lane = {lane} where account_id = {account}"),
            format!("update push_queue set lane = {lane} where account_id = {account}"),
            format!("update event_outbox set lane = {lane} where account_id = {account}"),
            format!("update account set lane = {lane} where id = {account}"),
        ] {
            postgres.control(&text).await?;
        }
    }
    Ok(())
}

async fn is_distributed(postgres: &mut PostgresConn, table: &str) -> Result<bool, StoreError> {
    let text = format!("select count(*) from citus_tables where table_name = '{table}'::regclass");
    Ok(number(postgres, &text).await? > 0)
}

async fn number(postgres: &mut PostgresConn, text: &str) -> Result<i64, StoreError> {
    Ok(postgres.simple(text).await?.first().and_then(|row| row.first().copied()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_in_one_list() {
        let schema = concat!(
            include_str!("../../../migrations/postgres/0001_initial.sql"),
            include_str!("../../../migrations/postgres/0002_directory.sql"),
            include_str!("../../../migrations/postgres/0003_web_push.sql"),
            include_str!("../../../migrations/postgres/0004_integrators.sql"),
            include_str!("../../../migrations/postgres/0005_programs.sql"),
        );
        let mut made: Vec<&str> = schema
            .lines()
            .filter_map(|line| line.strip_prefix("create table ")?.strip_suffix(" ("))
            .collect();
        // The runner makes it before the first step.
        made.push("schema_version");
        let lists = [&OF_ACCOUNTS[..], &OF_LANES, &OF_TEXTS, &OF_HASHES].concat();
        let mut listed: Vec<&str> = lists.iter().map(|(table, _)| *table).chain(REFERENCE).collect();
        made.sort_unstable();
        listed.sort_unstable();
        assert_eq!(made, listed);
    }
}
