//! `postrider shards`: how a Citus cluster has spread the mail.

use clap::Args;
use serde_json::json;

use crate::bus::Bus;
use crate::cli::output::{Failure, print, print_json, print_rows};
use crate::config::Config;
use crate::config::engine::DatabaseUrl;
use crate::store::Store;
use crate::store::cluster::shards::{self, Cluster};
use crate::types::clock::Clock;

/// `shards`.
#[derive(Args, Debug)]
pub struct ShardsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How many of the largest accounts to show
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    largest: usize,
}

/// Looks and prints.
pub async fn run(args: ShardsArgs, config: &Config) -> Result<(), Failure> {
    let not_sharded = || {
        Failure::new(
            "the database is not sharded: this wants PostgreSQL with Citus, after `postrider migrate`",
        )
    };
    if matches!(config.database_url, DatabaseUrl::Sqlite(_)) {
        return Err(not_sharded());
    }
    let failed = |error| Failure::new(format!("the database cannot be asked: {error}"));
    let store = Store::open(&config.database_url, 2, Bus::memory(), Clock::system()).await.map_err(failed)?;
    let looked = shards::look(&store, args.largest).await;
    store.close().await;
    let cluster = looked.map_err(failed)?.ok_or_else(not_sharded)?;
    if args.json { print_json(&as_json(&cluster)) } else { print_tables(&cluster) }
}

fn as_json(cluster: &Cluster) -> serde_json::Value {
    json!({
        "nodes": cluster.nodes.iter().map(|node| json!({
            "address": node.address, "isActive": node.is_active, "takesShards": node.takes_shards,
            "shards": node.shards, "bytes": node.bytes,
        })).collect::<Vec<_>>(),
        "shards": cluster.shards.iter().map(|shard| json!({
            "id": shard.id, "node": shard.node, "lane": shard.lane, "bytes": shard.bytes,
        })).collect::<Vec<_>>(),
        "largestAccounts": cluster.accounts.iter().map(|account| json!({
            "id": account.id.to_string(), "account": account.name, "usedBytes": account.used_bytes,
            "usedEmails": account.used_emails, "shard": account.shard,
        })).collect::<Vec<_>>(),
    })
}

fn print_tables(cluster: &Cluster) -> Result<(), Failure> {
    let yes_or_no = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let nodes: Vec<[String; 5]> = cluster
        .nodes
        .iter()
        .map(|node| {
            let (shards, bytes) = (node.shards.to_string(), node.bytes.to_string());
            [node.address.clone(), yes_or_no(node.is_active), yes_or_no(node.takes_shards), shards, bytes]
        })
        .collect();
    print_rows(&nodes, false, ["NODE", "ACTIVE", "TAKES SHARDS", "SHARDS", "BYTES"], Clone::clone, "")?;
    print("\n")?;
    let shards: Vec<[String; 4]> = cluster
        .shards
        .iter()
        .map(|shard| {
            let lane = shard.lane.map_or_else(|| "-".to_owned(), |lane| lane.to_string());
            [shard.id.to_string(), shard.node.clone(), lane, shard.bytes.to_string()]
        })
        .collect();
    print_rows(&shards, false, ["SHARD", "NODE", "LANE", "BYTES"], Clone::clone, "")?;
    print("\n")?;
    let accounts: Vec<[String; 4]> = cluster
        .accounts
        .iter()
        .map(|account| {
            let (bytes, emails) = (account.used_bytes.to_string(), account.used_emails.to_string());
            [account.name.clone(), bytes, emails, account.shard.to_string()]
        })
        .collect();
    print_rows(&accounts, false, ["LARGEST ACCOUNTS", "BYTES", "EMAILS", "SHARD"], Clone::clone, "none yet")
}
