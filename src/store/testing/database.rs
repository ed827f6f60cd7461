//! PostgreSQL databases for tests: one for each folder, copied from a migrated one.

use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::config::engine::{DatabaseUrl, PostgresUrl, database_url};
use crate::store::Store;

/// Names a server in which databases may be made, such as `postgres://postgres@127.0.0.1:5433`. The
/// tests of the store then run over PostgreSQL.
const VARIABLE: &str = "POSTRIDER_TEST_POSTGRES";

/// The database of a folder, made now if need be; `None` when the tests run over SQLite.
pub fn of_folder(folder: &Path) -> Option<PostgresUrl> {
    let server = std::env::var(VARIABLE).ok().filter(|server| !server.is_empty())?;
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let name = format!("template_{}", std::process::id());
        let url = url_of(&server, &name);
        let (server, made) = (server.clone(), name.clone());
        on_a_runtime(async move {
            control(&server, format!("create database {made}")).await;
            Store::migrate(&url).await.unwrap();
        });
        name
    });
    // The folder is used up by its test, and with it the name.
    let name = format!("{}_{}", std::process::id(), folder.display());
    let name = format!("t{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_lowercase());
    let url = url_of(&server, &name);
    let text = format!("create database {name} template {template}");
    on_a_runtime(async move { control(&server, text).await });
    Some(url)
}

/// Host and port of a database.
pub fn server_of(url: &PostgresUrl) -> String {
    let (before, rest) = authority(url);
    rest.split('/').next().unwrap_or(before).to_owned()
}

/// The same database on another port of this machine.
pub fn through(url: &PostgresUrl, port: u16) -> PostgresUrl {
    let (before, rest) = authority(url);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    match database_url(&format!("{before}127.0.0.1:{port}/{path}")) {
        Ok(DatabaseUrl::Postgres(url)) => url,
        other => panic!("{other:?}"),
    }
}

/// What stands before the host of an address, and the rest.
fn authority(url: &PostgresUrl) -> (&str, &str) {
    let address = url.hosts()[0].reveal();
    address.split_at(address.rfind('@').map_or("postgres://".len(), |at| at + 1))
}

fn url_of(server: &str, name: &str) -> PostgresUrl {
    match database_url(&format!("{server}/{name}")) {
        Ok(DatabaseUrl::Postgres(url)) => url,
        other => panic!("{VARIABLE} is no PostgreSQL server: {other:?}"),
    }
}

/// A test is on a runtime already, and may not block it.
fn on_a_runtime(work: impl Future<Output = ()> + Send + 'static) {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    std::thread::spawn(run).join().unwrap();
}

async fn control(server: &str, text: String) {
    let options = PgConnectOptions::from_str(&format!("{server}/postgres")).unwrap();
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let outcome = connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
    // 42P04: it is there already, from the test's first store.
    let is_there =
        |error: &sqlx::Error| error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("42P04"));
    if let Err(error) = outcome
        && !is_there(&error)
    {
        panic!("{error}");
    }
}
