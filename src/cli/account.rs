//! `postrider account`: people and their mail.

use clap::Subcommand;
use serde_json::json;

use crate::admin::request::{AdminRequest, AdminResponse, Quota};
use crate::cli::argument::{self, PasswordArgs};
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print, print_json, print_rows};
use crate::types::size::show_size;

/// What is done with accounts.
#[derive(Subcommand, Debug)]
pub enum AccountCommand {
    /// Add an account that signs in with its address; without a password, one is made up
    #[command(after_help = "Examples:\n  postrider account add alice@example.org\n  \
                      postrider account add alice@example.org --password-stdin < password.txt\n  \
                      postrider account add bob@example.org --quota 10GB")]
    Add {
        /// The account's address, such as alice@example.org
        #[arg(value_parser = argument::address)]
        address: String,
        #[command(flatten)]
        password: PasswordArgs,
        /// Largest size of all mail together, such as 10GB, or none
        #[arg(long, value_name = "SIZE", value_parser = argument::quota)]
        quota: Option<Quota>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the accounts
    #[command(after_help = "Example:\n  postrider account list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an account with all its mail
    #[command(after_help = "Example:\n  postrider account remove alice@example.org")]
    Remove {
        /// The account's address, such as alice@example.org
        #[arg(value_parser = argument::address)]
        address: String,
    },
    /// Set the password of an account; without one given, it is made up
    #[command(after_help = "Example:\n  postrider account password alice@example.org --password-stdin")]
    Password {
        /// The account's address, such as alice@example.org
        #[arg(value_parser = argument::address)]
        address: String,
        #[command(flatten)]
        password: PasswordArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set how much mail an account may hold
    #[command(after_help = "Examples:\n  postrider account quota alice@example.org 10GB\n  \
                      postrider account quota alice@example.org none")]
    Quota {
        /// The account's address, such as alice@example.org
        #[arg(value_parser = argument::address)]
        address: String,
        /// A size such as 10GB, or none
        #[arg(value_parser = argument::quota)]
        quota: Quota,
    },
}

/// Runs the command.
pub async fn run(command: AccountCommand, admin: &mut Admin) -> Result<(), Failure> {
    match command {
        AccountCommand::Add { address, password, quota, json } => {
            let (password, is_made_up) = password.read()?;
            let request =
                AdminRequest::AccountAdd { address: address.clone(), password: password.clone(), quota };
            let answer = admin.ask(request).await?;
            show_done(answer, &address, is_made_up.then(|| password.reveal()), json)
        }
        AccountCommand::Password { address, password, json } => {
            let (password, is_made_up) = password.read()?;
            let request =
                AdminRequest::AccountPassword { address: address.clone(), password: password.clone() };
            let answer = admin.ask(request).await?;
            show_done(answer, &address, is_made_up.then(|| password.reveal()), json)
        }
        AccountCommand::List { json } => match admin.ask(AdminRequest::AccountList).await? {
            AdminResponse::Accounts(rows) => print_rows(
                &rows,
                json,
                ["ADDRESS", "MESSAGES", "USED", "QUOTA", "CREATED", "ID"],
                |row| {
                    [
                        row.address.clone(),
                        row.messages.to_string(),
                        show_size(row.used),
                        row.quota.map_or_else(|| "none".to_owned(), show_size),
                        row.created_at.clone(),
                        row.id.clone(),
                    ]
                },
                "There is no account yet. Add one: postrider account add alice@example.org",
            ),
            other => Err(Failure::unexpected(&other)),
        },
        AccountCommand::Remove { address } => admin.ask_done(AdminRequest::AccountRemove { address }).await,
        AccountCommand::Quota { address, quota } => {
            admin.ask_done(AdminRequest::AccountQuota { address, quota }).await
        }
    }
}

/// Tells what was done, with the password when nobody knows it yet.
fn show_done(
    answer: AdminResponse,
    address: &str,
    password: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let AdminResponse::Done(done) = answer else { return Err(Failure::unexpected(&answer)) };
    match password {
        _ if json => print_json(&json!({ "address": address, "password": password })),
        Some(password) => print(&format!("{done}\nPassword: {password}\n")),
        None => print(&format!("{done}\n")),
    }
}
