//! `postrider copy`: moves a server to other engines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::blob::{Blobs, copy as objects};
use crate::bus::Bus;
use crate::cli::lock::{DataLock, LockError};
use crate::cli::output::{Failure, print, print_json};
use crate::config::Config;
use crate::config::engine::{BlobUrl, DatabaseUrl, blob_url, database_url};
use crate::store::Store;
use crate::store::copy::{self, Digest};
use crate::types::clock::Clock;

/// Connections to a PostgreSQL host.
const CONNECTIONS: u32 = 4;

/// `copy`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    postrider copy --from sqlite:data/postrider.db --from-blobs file:data/blobs \\\n    \
    --to postgres://postrider@db1/mail --to-blobs s3://mail\n  \
    postrider copy --from postgres://postrider@db1/mail --from-blobs s3://mail \\\n    \
    --to sqlite:new/postrider.db --to-blobs file:new/blobs\n\n\
    Stop the server first, and `postrider migrate` a new PostgreSQL database. A copy that\n\
    was cut short goes on when the same command is run again. Every row and every object is\n\
    compared in the end; then start the server on the new engines: it fills its index itself.\n\
    A password of PostgreSQL may stand in PGPASSWORD, the keys of S3 in the configuration.")]
pub struct CopyArgs {
    /// The database to copy from
    #[arg(long, value_name = "URL", value_parser = database_url)]
    from: DatabaseUrl,
    /// Where its messages are
    #[arg(long, value_name = "URL", value_parser = blob_url)]
    from_blobs: BlobUrl,
    /// The database to copy to
    #[arg(long, value_name = "URL", value_parser = database_url)]
    to: DatabaseUrl,
    /// Where its messages shall be
    #[arg(long, value_name = "URL", value_parser = blob_url)]
    to_blobs: BlobUrl,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One of the two sides.
struct Side {
    store: Store,
    blobs: Blobs,
    /// Of large objects on their way.
    temporary: PathBuf,
    _lock: Option<DataLock>,
}

/// Runs the command.
pub async fn run(args: CopyArgs, config: &Config) -> Result<(), Failure> {
    if args.from == args.to || args.from_blobs == args.to_blobs {
        return Err(Failure::usage(
            "the two places must be different ones, for the database and for messages",
        ));
    }
    if let DatabaseUrl::Sqlite(path) = &args.from
        && !path.exists()
    {
        return Err(Failure::new(format!("there is no database {}", path.display())));
    }
    if let BlobUrl::File(folder) = &args.from_blobs
        && !folder.is_dir()
    {
        return Err(Failure::new(format!("there is no folder {}", folder.display())));
    }
    let from = open(&args.from, &args.from_blobs, "from", config).await?;
    let to = open(&args.to, &args.to_blobs, "to", config).await?;
    let outcome = copy_all(&from, &to, &args).await;
    for side in [from, to] {
        side.store.close().await;
        // Nothing of it is left in there: its files have no names.
        let _ = std::fs::remove_dir(&side.temporary);
    }
    outcome
}

/// What tells a database from others.
fn whole_address(database: &DatabaseUrl) -> String {
    match database {
        DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        DatabaseUrl::Postgres(url) => url.hosts().iter().map(|host| format!("{} ", host.reveal())).collect(),
    }
}

async fn open(database: &DatabaseUrl, blobs: &BlobUrl, name: &str, config: &Config) -> Result<Side, Failure> {
    let lock = match database {
        DatabaseUrl::Sqlite(path) => {
            let folder = path.parent().unwrap_or(Path::new("."));
            Some(DataLock::take(folder).map_err(|error| match error {
                LockError::Held => {
                    Failure::new(format!("--{name}: {} is in use: stop the server first", folder.display()))
                }
                LockError::Io(error) => {
                    Failure::new(format!("--{name}: {} cannot be used: {error}", folder.display()))
                }
            })?)
        }
        DatabaseUrl::Postgres(_) => None,
    };
    let store = Store::open(database, CONNECTIONS, Bus::memory(), Clock::system()).await;
    let store = store.map_err(|error| Failure::new(format!("--{name}: {error}")))?;
    let temporary = config.data.join(format!("copy-{name}"));
    let folder = std::fs::create_dir_all(&temporary);
    folder.map_err(|error| Failure::new(format!("{} cannot be made: {error}", temporary.display())))?;
    let blobs = Blobs::open(blobs, config.s3_credentials.as_ref(), &temporary, store.clone());
    let blobs = blobs.map_err(|error| Failure::new(format!("--{name}-blobs: {error}")))?;
    Ok(Side { store, blobs, temporary, _lock: lock })
}

async fn copy_all(from: &Side, to: &Side, args: &CopyArgs) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{error}; run the same command again to go on"));
    if copy::is_under_way(&from.store).await.map_err(failed)? {
        return Err(Failure::new("--from: a copy into this database was begun and has not ended"));
    }
    let refused = copy::begin(&to.store, &whole_address(&args.from)).await.map_err(failed)?;
    refused.map_err(|why| Failure::new(format!("--to: {why}")))?;
    let tables = copy::copied_tables();
    let mut counts = BTreeMap::new();
    for table in &tables {
        counts.insert(table.name, copy::count(&from.store, table).await.map_err(failed)?);
    }
    let rows: u64 = counts.values().sum();

    // Objects first: when a row is there, what it refers to is.
    let bar = bar("objects", counts.get("blob").copied().unwrap_or_default());
    let copied = objects::copy_all(&from.blobs, &to.blobs, |looked| bar.inc(looked)).await;
    bar.finish_and_clear();
    let copied = copied.map_err(|error| {
        Failure::new(format!("an object was not copied: {error}; run the same command again"))
    })?;

    let bar = self::bar("rows", rows);
    for table in &tables {
        bar.set_message(table.name);
        let before = copy::count(&to.store, table).await.map_err(failed)?;
        bar.inc(before.min(counts[table.name]));
        copy::copy_table(&from.store, &to.store, table, |rows| bar.inc(rows)).await.map_err(failed)?;
    }
    bar.finish_and_clear();

    let bar = self::bar("compared", 2 * rows);
    for table in &tables {
        bar.set_message(table.name);
        let here: Digest = copy::digest(&from.store, table, |rows| bar.inc(rows)).await.map_err(failed)?;
        let there = copy::digest(&to.store, table, |rows| bar.inc(rows)).await.map_err(failed)?;
        if here != there {
            return Err(Failure::new(format!(
                "{} is not the same in both databases ({} rows and {}): did a server run meanwhile? Begin anew with \
                 an empty database",
                table.name, here.rows, there.rows
            )));
        }
    }
    bar.finish_and_clear();
    copy::end(&to.store).await.map_err(failed)?;
    if args.json {
        return print_json(&json!({
            "rows": rows, "objects": copied.objects, "octetsCopied": copied.octets, "unneeded": copied.unneeded,
            "tables": counts, "areCompared": true,
        }));
    }
    print(&format!(
        "{rows} rows and {} objects are copied and compared; start the server on the new engines\n",
        copied.objects
    ))
}

fn bar(what: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let template =
        format!("{{msg}} [{{bar:30}}] {{human_pos}}/{{human_len}} {what}, {{per_sec}}, {{eta}} left");
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
