//! The commands: arguments -> configuration -> what is to be done -> output.
//!
//! Each command has a file with its arguments and its output. What it asks for is a value
//! ([`crate::admin::request::AdminRequest`]), carried out by `admin` in the process that owns the data
//! folder: the running server, reached through [`socket`], or the command itself.

mod access;
mod account;
mod alias;
mod argument;
mod audit;
mod certificate;
pub mod connection;
mod copy;
pub mod demo;
mod domain;
pub mod import;
mod index;
pub mod lock;
mod logging;
mod migrate;
mod open_files;
pub mod output;
mod queue;
mod serve;
mod shards;
mod show_config;
pub mod socket;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cli::connection::Admin;
use crate::cli::output::Failure;
use crate::cli::serve::Server;
use crate::config::Config;
use crate::config::role::{self, Roles};
use crate::config::settings::Settings;

/// How long threads may go on computing when all is done.
const SHUTDOWN_TIME: Duration = Duration::from_millis(200);

/// What follows the help of `postrider` itself.
const EXAMPLES: &str = "\
Examples:
  postrider demo                           try it: two accounts and some mail
  postrider domain add example.org         accept mail for a domain
  postrider account add alice@example.org  add an account
  postrider                                run the server (or: postrider serve)
  postrider import alice@example.org ~/Maildir
                                           bring old mail along

Settings come from postrider.toml and from variables such as
POSTRIDER_HTTP_LISTEN; `postrider config` shows them all.
Commands work while the server runs.
Exit codes: 0 done, 1 failed, 2 asked wrongly.";

/// The command line.
#[derive(Parser, Debug)]
#[command(name = "postrider", version, about = "A JMAP-first mail backend", after_help = EXAMPLES)]
struct Arguments {
    /// The configuration file; else ./postrider.toml, if it is there
    #[arg(long, value_name = "FILE", env = "POSTRIDER_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server; the same as without any command
    #[command(after_help = "Examples:\n  postrider serve\n  postrider serve --role receive,ingest\n  \
                            POSTRIDER_HTTP_LISTEN=0.0.0.0:8080 postrider serve")]
    Serve(ServeArgs),
    /// Try it: a server for example.test with two accounts and some mail
    #[command(after_help = "Example:\n  postrider demo")]
    Demo,
    /// Show what is configured and what can be
    #[command(after_help = "Examples:\n  postrider config\n  postrider config --json")]
    Config(show_config::ConfigArgs),
    /// Print the description of the REST API (OpenAPI 3.1)
    #[command(after_help = "Example:\n  postrider openapi > postrider.json")]
    Openapi,
    /// Bring the schema of a PostgreSQL database up to this program; servers may go on meanwhile
    #[command(
        after_help = "Example:\n  POSTRIDER_DATABASE_URL=postgres://postrider@db1/mail postrider migrate"
    )]
    Migrate,
    /// Copy a server's mail to other engines: SQLite and files to PostgreSQL and S3, or back
    Copy(copy::CopyArgs),
    /// Nodes, shards, queue lanes and the largest accounts of a database sharded by Citus
    #[command(after_help = "Examples:\n  postrider shards\n  postrider shards --json --largest 100")]
    Shards(shards::ShardsArgs),
    #[command(flatten)]
    Admin(AdminCommand),
}

/// `serve`.
#[derive(Args, Debug, Default)]
struct ServeArgs {
    /// What this process does: all, or some of api, push, receive, ingest, deliver, index, events
    #[arg(long, value_name = "ROLE,…", value_parser = role::roles)]
    role: Option<Roles>,
}

/// Commands that are carried out where the data folder is open.
#[derive(Subcommand, Debug)]
enum AdminCommand {
    /// Domains whose mail is accepted here
    #[command(
        subcommand,
        after_help = "Examples:\n  postrider domain add example.org\n  postrider domain list --json"
    )]
    Domain(domain::DomainCommand),
    /// People and their mail
    #[command(
        subcommand,
        after_help = "Examples:\n  postrider account add alice@example.org\n  postrider account list --json"
    )]
    Account(account::AccountCommand),
    /// Further addresses of accounts
    #[command(subcommand, after_help = "Example:\n  postrider alias add info@example.org alice@example.org")]
    Alias(alias::AliasCommand),
    /// Who may use which account beside their own
    #[command(
        subcommand,
        after_help = "Example:\n  postrider access grant alice@example.org sales@example.org --read-only"
    )]
    Access(access::AccessCommand),
    /// API tokens
    #[command(subcommand, after_help = "Example:\n  postrider token add alice@example.org --name backup")]
    Token(token::TokenCommand),
    /// Bring mail along from an mbox file, a Maildir, or a folder of .eml files
    Import(import::ImportArgs),
    /// The full-text index
    #[command(subcommand, after_help = "Example:\n  postrider index rebuild alice@example.org")]
    Index(index::IndexCommand),
    /// Mail that waits to be filed or sent
    #[command(
        subcommand,
        after_help = "Examples:\n  postrider queue list\n  postrider queue retry a2b3c4d5e6f7g"
    )]
    Queue(queue::QueueCommand),
    /// What administrators have done, the newest first
    Audit(audit::AuditArgs),
}

impl AdminCommand {
    /// Whether the command makes sense where no server ever ran: the first domain can be added
    /// before the first start. Any other command there has the wrong folder.
    fn may_begin(&self) -> bool {
        matches!(self, AdminCommand::Domain(domain::DomainCommand::Add(_)))
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("the program cannot start its threads: {error}")).report(),
    };
    let outcome = runtime.block_on(run(arguments));
    // What still computes (a search, a parse) has nobody left to hear of it.
    runtime.shutdown_timeout(SHUTDOWN_TIME);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let settings = Settings::gather(arguments.config.as_deref(), std::env::vars_os())?;
    let mut config = Config::from_settings(&settings)?;
    match arguments.command.unwrap_or(Command::Serve(ServeArgs::default())) {
        Command::Serve(args) => {
            config.role = args.role.unwrap_or(config.role);
            logging::start(config.log_format, "info");
            Server::start(config).await?.run().await
        }
        Command::Demo => {
            logging::start(config.log_format, "warn");
            demo::run(config).await
        }
        Command::Config(args) => show_config::run(args, &settings),
        Command::Openapi => output::print(&crate::http::rest::openapi::document()),
        Command::Migrate => {
            logging::start(config.log_format, "warn");
            migrate::run(&config).await
        }
        Command::Copy(args) => {
            logging::start(config.log_format, "warn");
            copy::run(args, &config).await
        }
        Command::Shards(args) => {
            logging::start(config.log_format, "warn");
            shards::run(args, &config).await
        }
        Command::Admin(command) => {
            logging::start(config.log_format, "warn");
            let mut admin = Admin::open(&config, command.may_begin()).await?;
            let outcome = run_admin(command, &mut admin, &config).await;
            admin.close().await;
            outcome
        }
    }
}

async fn run_admin(command: AdminCommand, admin: &mut Admin, config: &Config) -> Result<(), Failure> {
    match command {
        AdminCommand::Domain(command) => domain::run(command, admin).await,
        AdminCommand::Account(command) => account::run(command, admin).await,
        AdminCommand::Alias(command) => alias::run(command, admin).await,
        AdminCommand::Access(command) => access::run(command, admin).await,
        AdminCommand::Token(command) => token::run(command, admin).await,
        AdminCommand::Queue(command) => queue::run(command, admin).await,
        AdminCommand::Audit(args) => audit::run(args, admin).await,
        AdminCommand::Import(args) => import::run(args, admin, config).await,
        AdminCommand::Index(command) => index::run(command, admin, config).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_an_example_in_its_help() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{path} has no example");
            assert!(help.contains(path.trim_start()), "the example of {path} is another command's");
            command.get_subcommands().for_each(|command| check(command, &path));
        }
        let command = Arguments::command();
        command.clone().debug_assert();
        check(&command, "");
    }

    #[test]
    fn every_listing_has_json() {
        fn check(command: &clap::Command) {
            if matches!(command.get_name(), "list" | "show") {
                assert!(
                    command.get_arguments().any(|argument| argument.get_id() == "json"),
                    "{}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
