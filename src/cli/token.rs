//! `postrider token`: API keys, for `Authorization: Bearer` or in the place of a password.

use std::time::Duration;

use clap::Subcommand;

use crate::admin::request::{AdminRequest, AdminResponse};
use crate::cli::argument;
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print, print_json, print_rows};

/// What is done with tokens.
#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Make a token for a login; it is shown this once
    #[command(
        after_help = "Example:\n  postrider token add alice@example.org --name backup --scope read --expires 90d\n  \
                            postrider token add ops@example.org --scope admin --domain '*'"
    )]
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
        /// What it is for: read, write, send, admin; else read, write and send
        #[arg(long = "scope", value_name = "SCOPE,…", value_delimiter = ',')]
        scopes: Vec<String>,
        /// Only this account of those that the login may use
        #[arg(long, value_parser = argument::address, conflicts_with = "domain")]
        account: Option<String>,
        /// All accounts of this domain; '*' for all of the server
        #[arg(long)]
        domain: Option<String>,
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
        TokenCommand::Add { login, name, expires, scopes, account, domain, json } => {
            let lifetime_ms = expires.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
            let wanted = AdminRequest::TokenAdd { login, name, lifetime_ms, scopes, account, domain };
            match admin.ask(wanted).await? {
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
                ["ID", "LOGIN", "NAME", "SCOPES", "FOR", "CREATED", "EXPIRES", "LAST USED"],
                |row| {
                    let or_never = |date: &Option<String>| date.clone().unwrap_or_else(|| "never".to_owned());
                    [
                        row.id.clone(),
                        row.login.clone(),
                        row.name.clone(),
                        row.scopes.join(","),
                        row.account.clone().or(row.domain.clone()).unwrap_or_default(),
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
