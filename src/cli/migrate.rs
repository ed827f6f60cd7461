//! `postrider migrate`: brings the schema of a PostgreSQL database up to this program.

use crate::cli::output::{Failure, print};
use crate::config::Config;
use crate::config::engine::DatabaseUrl;
use crate::store::Store;
use crate::store::migrate::Migrated;

/// Migrates, and says what was done.
pub async fn run(config: &Config) -> Result<(), Failure> {
    let DatabaseUrl::Postgres(url) = &config.database_url else {
        return print("A SQLite database is migrated by the server when it starts: nothing is to be done.\n");
    };
    let migrated = Store::migrate(url).await.map_err(|error| {
        Failure::new(format!(
            "the database could not be migrated; the step that failed left nothing: {error}"
        ))
    })?;
    if migrated == Migrated::default() {
        return print("The schema is up to date.\n");
    }
    if !migrated.versions.is_empty() {
        let versions: Vec<String> = migrated.versions.iter().map(ToString::to_string).collect();
        print(&format!("The schema has been migrated to version {}.\n", versions.join(", then ")))?;
    }
    if !migrated.distributed.is_empty() {
        print(&format!("{} tables have been distributed by Citus.\n", migrated.distributed.len()))?;
    }
    Ok(())
}
