//! What Citus says of its nodes and shards, for operators.

use crate::store::Store;
use crate::store::db::everywhere_sql;
use crate::store::error::StoreError;
use crate::store::lanes::Lanes;
use crate::types::id::AccountId;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Host and port.
    pub address: String,
    /// Whether it takes part.
    pub is_active: bool,
    /// Whether new shards may be put there.
    pub takes_shards: bool,
    /// Shards of accounts that it has.
    pub shards: i64,
    /// Octets of all shards that it has, indexes included.
    pub bytes: i64,
}

/// A shard of the accounts, with what is beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Citus's number.
    pub id: i64,
    /// Host and port of its node.
    pub node: String,
    /// The lane of the queues whose rows are beside it; `None` where no small number hashes into the shard,
    /// as in that of one account alone.
    pub lane: Option<i64>,
    /// Octets of the shard of `account` and of all shards beside it, indexes included.
    pub bytes: i64,
}

/// A large account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeAccount {
    /// Its id.
    pub id: AccountId,
    /// Its primary address.
    pub name: String,
    /// Octets of mail that it keeps.
    pub used_bytes: i64,
    /// Emails that it keeps.
    pub used_emails: i64,
    /// The shard that it is in.
    pub shard: i64,
}

/// A cluster as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// By address.
    pub nodes: Vec<Node>,
    /// By number.
    pub shards: Vec<Shard>,
    /// The largest first.
    pub accounts: Vec<LargeAccount>,
}

/// Looks at the cluster; `None` when the database is not sharded.
pub async fn look(store: &Store, largest: usize) -> Result<Option<Cluster>, StoreError> {
    let lanes = store.lanes();
    let Lanes::Sharded(lane_of_shard) = &*lanes else { return Ok(None) };
    let snapshot = &mut *store.read().await?;
    let nodes = everywhere_sql(
        "select n.nodename || ':' || n.nodeport, n.isactive, n.shouldhaveshards, \
         count(s.shardid) filter (where s.table_name = 'account'::regclass), \
         cast(coalesce(sum(s.shard_size), 0) as bigint) from pg_dist_node n \
         left join citus_shards s on s.nodename = n.nodename and s.nodeport = n.nodeport \
         group by 1, 2, 3 order by 1",
    )
    .all(snapshot, |row| {
        Ok(Node {
            address: row.get(0)?,
            is_active: row.get(1)?,
            takes_shards: row.get(2)?,
            shards: row.get(3)?,
            bytes: row.get(4)?,
        })
    })
    .await?;
    // Shards beside each other have the same range of hashes.
    let shards = everywhere_sql(
        "select a.shardid, s.nodename || ':' || s.nodeport, cast(sum(b.shard_size) as bigint) \
         from pg_dist_shard a join citus_shards s on s.shardid = a.shardid \
         join pg_dist_partition p on p.logicalrelid = a.logicalrelid \
         join pg_dist_partition q on q.colocationid = p.colocationid \
         join pg_dist_shard c on c.logicalrelid = q.logicalrelid and c.shardminvalue = a.shardminvalue \
         join citus_shards b on b.shardid = c.shardid \
         where a.logicalrelid = 'account'::regclass group by 1, 2 order by 1",
    )
    .all(snapshot, |row| {
        let id = row.get(0)?;
        Ok(Shard { id, node: row.get(1)?, lane: lane_of_shard.get(&id).copied(), bytes: row.get(2)? })
    })
    .await?;
    let rows = everywhere_sql(
        "select id, name, used_bytes, used_emails from account where removed_at = 0 \
         order by used_bytes desc, id limit $1",
    )
    .bind(largest as i64)
    .all(snapshot, |row| Ok((row.get::<AccountId>(0)?, row.get::<String>(1)?, row.get(2)?, row.get(3)?)))
    .await?;
    let mut accounts = Vec::with_capacity(rows.len());
    for (id, name, used_bytes, used_emails) in rows {
        let shard = everywhere_sql("select get_shard_id_for_distribution_column('account', $1)").bind(id);
        let shard = shard.value(snapshot).await?.unwrap_or_default();
        accounts.push(LargeAccount { id, name, used_bytes, used_emails, shard });
    }
    Ok(Some(Cluster { nodes, shards, accounts }))
}
