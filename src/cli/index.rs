//! `postrider index`: the full-text index.

use std::time::{Duration, Instant};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::admin::request::{AdminRequest, AdminResponse};
use crate::cli::argument;
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print, print_json};
use crate::config::Config;
use crate::config::engine::DatabaseUrl;

/// Emails of an account that may wait at once: until they are indexed, each text query of the account
/// reads them.
const MOST_WAITING: u64 = 1_000;
/// How often is looked whether they are indexed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long nothing may be indexed before that is told.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is done with the index.
#[derive(Subcommand, Debug)]
pub enum IndexCommand {
    /// Index the mail of an account, or of all, again; mail goes on meanwhile
    #[command(
        after_help = "Examples:\n  postrider index rebuild alice@example.org\n  postrider index rebuild\n\n\
                      An index that was lost needs no command: it is filled by itself."
    )]
    Rebuild {
        /// The account's address; else all accounts
        #[arg(value_parser = argument::address)]
        account: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub async fn run(command: IndexCommand, admin: &mut Admin, config: &Config) -> Result<(), Failure> {
    let IndexCommand::Rebuild { account, json } = command;
    let accounts = match admin.ask(AdminRequest::AccountList).await? {
        AdminResponse::Accounts(accounts) => accounts,
        other => return Err(Failure::unexpected(&other)),
    };
    let wanted: Vec<(String, u64)> = accounts
        .into_iter()
        .filter(|row| account.as_ref().is_none_or(|account| *account == row.address))
        .map(|row| (row.address, row.messages))
        .collect();
    if let (Some(account), true) = (&account, wanted.is_empty()) {
        return Err(Failure::new(format!(
            "there is no account {account}; `postrider account list` shows them"
        )));
    }
    // Without a server nobody indexes what is in a file of this machine.
    let is_alone =
        matches!(admin, Admin::Here { .. }) && matches!(config.database_url, DatabaseUrl::Sqlite(_));
    let bar = ProgressBar::new(wanted.iter().map(|(_, messages)| messages).sum());
    bar.set_style(style());
    let (mut emails, count) = (0, wanted.len());
    for (address, _) in wanted {
        bar.set_message(address.clone());
        emails += rebuild(admin, &address, &bar, emails, is_alone).await?;
    }
    bar.finish_and_clear();
    if json {
        return print_json(&json!({ "accounts": count, "emails": emails, "areIndexed": !is_alone }));
    }
    match is_alone {
        true => print(&format!("{emails} Emails are queued; the server indexes them when it runs\n")),
        false => print(&format!("{emails} Emails are indexed\n")),
    }
}

fn style() -> ProgressStyle {
    let template = "{msg} [{bar:30}] {human_pos}/{human_len} Emails, {per_sec}, {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Orders an account to be indexed, a bit at a time, and waits until it is.
async fn rebuild(
    admin: &mut Admin,
    address: &str,
    bar: &ProgressBar,
    before: u64,
    is_alone: bool,
) -> Result<u64, Failure> {
    let (mut queued, mut after) = (0, None);
    loop {
        let request = AdminRequest::IndexQueue { account: address.to_owned(), after: after.clone() };
        let page = match admin.ask(request).await? {
            AdminResponse::IndexQueued(page) => page,
            other => return Err(Failure::unexpected(&other)),
        };
        queued += page.count;
        let is_last = page.last.is_none();
        if is_alone {
            bar.set_position(before + queued);
        } else {
            let most = if is_last { 0 } else { MOST_WAITING };
            wait(admin, address, most, |waiting| {
                bar.set_position(before + queued.saturating_sub(waiting));
            })
            .await?;
        }
        if is_last {
            return Ok(queued);
        }
        after = page.last;
    }
}

/// Waits until so few Emails of an account wait, or less.
async fn wait(admin: &mut Admin, address: &str, most: u64, show: impl Fn(u64)) -> Result<(), Failure> {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let request = AdminRequest::IndexWaiting { account: address.to_owned() };
        let waiting = match admin.ask(request).await? {
            AdminResponse::IndexWaiting(waiting) => waiting,
            other => return Err(Failure::unexpected(&other)),
        };
        show(waiting);
        if waiting <= most {
            return Ok(());
        }
        if waiting < least {
            (least, since) = (waiting, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(Failure::new(format!(
                "{waiting} Emails of {address} wait and none is indexed: does a process with the role index run, and \
                 does the index answer? Its log says; what is queued is indexed when it can be"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
