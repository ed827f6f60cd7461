//! `postrider alias`: further addresses of accounts.

use clap::Subcommand;

use crate::admin::request::{AdminRequest, AdminResponse};
use crate::cli::argument;
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print_rows};

/// What is done with aliases.
#[derive(Subcommand, Debug)]
pub enum AliasCommand {
    /// Let mail to an address go to one or several accounts
    #[command(after_help = "Examples:\n  postrider alias add info@example.org alice@example.org\n  \
                      postrider alias add team@example.org alice@example.org bob@example.org")]
    Add {
        /// The further address, such as info@example.org
        #[arg(value_parser = argument::address)]
        alias: String,
        /// The accounts that get its mail
        #[arg(required = true, value_parser = argument::address)]
        accounts: Vec<String>,
    },
    /// List the aliases
    #[command(after_help = "Example:\n  postrider alias list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an alias, or take accounts from it
    #[command(after_help = "Examples:\n  postrider alias remove info@example.org\n  \
                      postrider alias remove team@example.org bob@example.org")]
    Remove {
        /// The further address, such as info@example.org
        #[arg(value_parser = argument::address)]
        alias: String,
        /// The accounts that shall no longer get its mail; else it is removed
        #[arg(value_parser = argument::address)]
        accounts: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(command: AliasCommand, admin: &mut Admin) -> Result<(), Failure> {
    match command {
        AliasCommand::Add { alias, accounts } => {
            admin.ask_done(AdminRequest::AliasAdd { alias, accounts }).await
        }
        AliasCommand::Remove { alias, accounts } => {
            admin.ask_done(AdminRequest::AliasRemove { alias, accounts }).await
        }
        AliasCommand::List { json } => match admin.ask(AdminRequest::AliasList).await? {
            AdminResponse::Aliases(rows) => print_rows(
                &rows,
                json,
                ["ALIAS", "ACCOUNTS"],
                |row| [row.alias.clone(), row.accounts.join(", ")],
                "There is no alias yet. Add one: postrider alias add info@example.org alice@example.org",
            ),
            other => Err(Failure::unexpected(&other)),
        },
    }
}
