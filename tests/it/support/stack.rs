//! The engines that the servers of the tests run on: the embedded ones, or those that `tests/run` has
//! started and names by environment variables.

use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::support::s3::{Bucket, server};

/// A PostgreSQL server in which databases may be made, such as `postgres://postgres@127.0.0.1:5433`.
const POSTGRES: &str = "POSTRIDER_TEST_POSTGRES";
/// The nodes of a Citus cluster instead, the coordinator first, such as
/// `postgres://postgres@127.0.0.1:5500,127.0.0.1:5501`.
const CITUS: &str = "POSTRIDER_TEST_CITUS_URL";

/// `s3`: blobs are kept in a bucket of a server in the test process.
const BLOBS: &str = "POSTRIDER_TEST_BLOBS";
/// A Redis server to share, such as `redis://127.0.0.1:6380`.
const REDIS: &str = "POSTRIDER_TEST_REDIS";

/// A Meilisearch server to share, such as `http://127.0.0.1:7700`, and its key, if it wants one.
pub const MEILISEARCH: &str = "POSTRIDER_TEST_MEILI_URL";
pub const MEILISEARCH_KEY: &str = "POSTRIDER_TEST_MEILI_KEY";

/// Whether several processes can work on the same mail: none of the engines is of one process.
pub fn is_shared() -> bool {
    is_postgres() && is_s3() && named(REDIS).is_some()
}

/// Whether the database is sharded.
pub fn is_citus() -> bool {
    named(CITUS).is_some()
}

/// Whether texts are searched in Meilisearch.
pub fn is_meilisearch() -> bool {
    named(MEILISEARCH).is_some()
}

/// Whether the servers of the tests run on PostgreSQL.
pub fn is_postgres() -> bool {
    named(POSTGRES).is_some() || named(CITUS).is_some()
}

pub fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|url| !url.is_empty())
}

/// The environment of a new server: a database, a place in a bucket and names in Redis of its own.
pub fn environment() -> Vec<(String, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("it_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut variables = Vec::new();
    let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
    match (named(CITUS), named(POSTGRES)) {
        (Some(nodes), _) => set("POSTRIDER_DATABASE_URL", on_citus(&nodes, &name)),
        (None, Some(server)) => set("POSTRIDER_DATABASE_URL", on_postgres(&server, &name)),
        (None, None) => {}
    }
    if is_s3() {
        static BUCKET: OnceLock<Bucket> = OnceLock::new();
        let bucket = BUCKET.get_or_init(Bucket::start);
        set("POSTRIDER_BLOB_URL", bucket.server.url(&format!("mail/{name}")));
        set("POSTRIDER_S3_ACCESS_KEY_ID", server::KEY_ID.to_owned());
        set("POSTRIDER_S3_SECRET_ACCESS_KEY", server::SECRET.to_owned());
    }
    if let Some(redis) = named(REDIS) {
        set("POSTRIDER_CACHE_URL", format!("{redis}?prefix={name}"));
    }
    if let Some(meilisearch) = named(MEILISEARCH) {
        set("POSTRIDER_SEARCH_URL", format!("meilisearch:{meilisearch}?index={name}"));
        if let Some(key) = named(MEILISEARCH_KEY) {
            set("POSTRIDER_SEARCH_KEY", key);
        }
    }
    variables
}

/// Whether the servers of the tests keep their blobs in a bucket.
pub fn is_s3() -> bool {
    named(BLOBS).as_deref() == Some("s3")
}

/// A new database, its schema made, in a PostgreSQL server of the test's own.
pub fn database_on(server: &str, name: &str) -> String {
    execute(&format!("{server}/postgres"), format!("create database {name}"));
    migrate(&format!("{server}/{name}"));
    format!("{server}/{name}")
}

fn on_postgres(server: &str, name: &str) -> String {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let template = format!("it_template_{}", std::process::id());
        execute(&format!("{server}/postgres"), format!("create database {template}"));
        migrate(&format!("{server}/{template}"));
        template
    });
    execute(&format!("{server}/postgres"), format!("create database {name} template {template}"));
    format!("{server}/{name}")
}

/// The nodes of the cluster, the coordinator first, if there is one.
pub fn citus_nodes() -> Option<String> {
    named(CITUS)
}

/// A new database, its schema made, on the coordinator and without the extension.
pub fn plain_database_on(nodes: &str, name: &str) -> String {
    let (before, hosts) = nodes.split_at(nodes.rfind('@').map_or("postgres://".len(), |at| at + 1));
    database_on(&format!("{before}{}", hosts.split(',').next().expect("a host")), name)
}

/// Nodes that are joined at the same time stand in each other's way.
static ONE_BY_ONE: Mutex<()> = Mutex::new(());

/// Makes a plain database the coordinator's of a cluster, and distributes what is in it.
pub fn make_cluster(nodes: &str, plain: &str) {
    let _turn = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = plain.rsplit('/').next().expect("a name");
    let (before, hosts) = nodes.split_at(nodes.rfind('@').map_or("postgres://".len(), |at| at + 1));
    for host in hosts.split(',').skip(1) {
        execute(&format!("{before}{host}/postgres"), format!("create database {name}"));
    }
    join(before, hosts, name);
    migrate(plain);
}

/// Brings the databases of that name on all nodes together.
fn join(before: &str, hosts: &str, name: &str) {
    for host in hosts.split(',') {
        execute(&format!("{before}{host}/{name}"), "create extension citus".to_owned());
    }
    let coordinator = format!("{before}{}/{name}", hosts.split(',').next().expect("a host"));
    for (place, host) in hosts.split(',').enumerate() {
        let (host, port) = host.split_once(':').unwrap_or((host, "5432"));
        let call = if place == 0 { "citus_set_coordinator_host" } else { "citus_add_node" };
        execute(&coordinator, format!("select {call}('{host}', {port})"));
    }
}

/// Any node serves, and whatever asks more than one shard without saying so is refused.
fn on_citus(nodes: &str, name: &str) -> String {
    let _turn = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (before, hosts) = nodes.split_at(nodes.rfind('@').map_or("postgres://".len(), |at| at + 1));
    for host in hosts.split(',') {
        execute(&format!("{before}{host}/postgres"), format!("create database {name}"));
    }
    join(before, hosts, name);
    let coordinator = format!("{before}{}/{name}", hosts.split(',').next().expect("a host"));
    migrate(&coordinator);
    format!("{nodes}/{name}?options=-c%20citus.multi_task_query_log_level%3Derror")
}

fn migrate(url: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POSTRIDER_")) {
        command.env_remove(name);
    }
    let migrated = command.arg("migrate").env("POSTRIDER_DATABASE_URL", url).output();
    let migrated = migrated.expect("the program runs");
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
}

/// Runs a statement in a database.
pub fn execute(database: &str, text: String) {
    let options = PgConnectOptions::from_str(database).expect("the address of a database");
    let work = async move {
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await
    };
    // Some tests are on a runtime already, and may not block it.
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work)
    };
    std::thread::spawn(run).join().expect("a thread").expect("the server runs it");
}
