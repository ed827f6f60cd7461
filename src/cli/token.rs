//! `postrider token`: API tokens, for `Authorization: Bearer`.

use std::time::Duration;

use clap::Subcommand;

use crate::cli::argument;
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print, print_json, print_rows};
use crate::cli::request::{AdminRequest, AdminResponse};

/// What is done with tokens.
#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Make a token for a login; it is shown this once
    #[command(after_help = "Example:\n  postrider token add alice@example.org --name backup --expires 90d")]
    Add {
        /// The address of the one who signs in with it
        #[arg(value_parser = argument::address)]
        login: String,
        /// What it is for
        #[arg(long, default_value = "")]
        name: String,
        /// How long it is good for, such as 12h or 90d; else until it is revoked
        #[arg(long, value_name = "SPAN", value_parser = argument::lifetime)]
        expires: Option<Duration>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the tokens of a login, or of all
    #[command(after_help = "Example:\n  postrider token list alice@example.org --json")]
    List {
        /// Only the tokens of this address
        #[arg(value_parser = argument::address)]
        login: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a token worthless at once
    #[command(after_help = "Example:\n  postrider token revoke a2b3c4d5e6f7g")]
    Revoke {
        /// As `token list` shows it
        id: String,
    },
}

/// Runs the command.
pub async fn run(command: TokenCommand, admin: &mut Admin) -> Result<(), Failure> {
    match command {
        TokenCommand::Add { login, name, expires, json } => {
            let lifetime_ms = expires.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
            match admin.ask(AdminRequest::TokenAdd { login, name, lifetime_ms }).await? {
                AdminResponse::TokenAdded(added) if json => print_json(&added),
                AdminResponse::TokenAdded(added) => print(&format!(
                    "{}\n\nIt is not shown again. Use it so:  Authorization: Bearer {}\nRevoke it so:    postrider token revoke {}\n",
                    added.token.reveal(),
                    added.token.reveal(),
                    added.id
                )),
                other => Err(Failure::unexpected(&other)),
            }
        }
        TokenCommand::List { login, json } => match admin.ask(AdminRequest::TokenList { login }).await? {
            AdminResponse::Tokens(rows) => print_rows(
                &rows,
                json,
                ["ID", "LOGIN", "NAME", "CREATED", "EXPIRES", "LAST USED"],
                |row| {
                    let or_never = |date: &Option<String>| date.clone().unwrap_or_else(|| "never".to_owned());
                    [
                        row.id.clone(),
                        row.login.clone(),
                        row.name.clone(),
                        row.created_at.clone(),
                        or_never(&row.expires_at),
                        or_never(&row.last_used_at),
                    ]
                },
                "There is no token. Make one: postrider token add alice@example.org",
            ),
            other => Err(Failure::unexpected(&other)),
        },
        TokenCommand::Revoke { id } => admin.ask_done(AdminRequest::TokenRevoke { id }).await,
    }
}
