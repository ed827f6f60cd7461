//! `postrider access`: which login may use which account beside its own.

use clap::Subcommand;

use crate::admin::request::{AdminRequest, AdminResponse};
use crate::cli::argument;
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print_rows};

/// What is done with access rights.
#[derive(Subcommand, Debug)]
pub enum AccessCommand {
    /// Let a login use another account
    #[command(
        after_help = "Example:\n  postrider access grant alice@example.org sales@example.org --read-only"
    )]
    Grant {
        /// The address of the one who signs in
        #[arg(value_parser = argument::address)]
        login: String,
        /// The address of the account that is used
        #[arg(value_parser = argument::address)]
        account: String,
        /// It may read, but change and send nothing
        #[arg(long)]
        read_only: bool,
    },
    /// List who may use which account
    #[command(after_help = "Example:\n  postrider access list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take the right away
    #[command(after_help = "Example:\n  postrider access revoke alice@example.org sales@example.org")]
    Revoke {
        /// The address of the one who signs in
        #[arg(value_parser = argument::address)]
        login: String,
        /// The address of the account that is used
        #[arg(value_parser = argument::address)]
        account: String,
    },
}

/// Runs the command.
pub async fn run(command: AccessCommand, admin: &mut Admin) -> Result<(), Failure> {
    match command {
        AccessCommand::Grant { login, account, read_only } => {
            admin.ask_done(AdminRequest::AccessGrant { login, account, read_only }).await
        }
        AccessCommand::Revoke { login, account } => {
            admin.ask_done(AdminRequest::AccessRevoke { login, account }).await
        }
        AccessCommand::List { json } => match admin.ask(AdminRequest::AccessList).await? {
            AdminResponse::Accesses(rows) => print_rows(
                &rows,
                json,
                ["LOGIN", "ACCOUNT", "RIGHTS"],
                |row| {
                    let rights = if row.read_only { "read" } else { "read, write" };
                    [row.login.clone(), row.account.clone(), rights.to_owned()]
                },
                "There is no login yet. Add an account: postrider account add alice@example.org",
            ),
            other => Err(Failure::unexpected(&other)),
        },
    }
}
