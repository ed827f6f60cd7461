//! Measures a running server over real sockets: what a client waits for, and how many it serves.
//!
//! Each scenario runs for a while on several connections, one request in flight on each, and prints
//! a row: requests a second and the times that 50 and 99 of 100 requests took. The generator takes
//! its share of the processor; on one machine compare ratios.

mod calm;
mod fill;
mod http;
mod processor;
mod push;
mod scenario;
mod smtp;
mod webhooks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Measures a running Postrider
#[derive(Parser)]
#[command(after_help = "Example:\n  postrider-load mbox 1000000 /tmp/million.mbox\n  \
                  postrider import alice@example.test /tmp/million.mbox\n  \
                  postrider-load run --login alice@example.test --password alice-password")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write an mbox file of made-up mails, to be imported
    Mbox {
        /// How many mails
        count: usize,
        /// The file
        path: PathBuf,
    },
    /// Run the scenarios
    Run(RunArgs),
    /// Connect clients for push: what each costs, and how soon they are told. The accounts are u0@DOMAIN,
    /// u1@DOMAIN and so on, with one password
    Push(PushArgs),
    /// Ask at a steady rate while nothing else happens, while a mail comes for very many, and while very many
    /// clients come back at once. The accounts are u0@DOMAIN, u1@DOMAIN and so on, with one password
    Calm(CalmArgs),
    /// Have mail come at a steady rate for u0@DOMAIN, u1@DOMAIN and so on, with one password, each with a webhook.
    /// The server must have push_networks=127.0.0.1
    Webhooks(WebhookArgs),
}

#[derive(clap::Args)]
struct WebhookArgs {
    /// Where webhooks are made
    #[arg(long, default_value = "127.0.0.1:8080")]
    api: SocketAddr,
    /// Where the mail comes in
    #[arg(long, default_value = "127.0.0.1:2525")]
    smtp: SocketAddr,
    /// The domain of the accounts
    #[arg(long, default_value = "example.test")]
    domain: String,
    /// The password of the accounts
    #[arg(long)]
    password: String,
    /// Accounts, each with a webhook
    #[arg(long, default_value_t = 100)]
    endpoints: usize,
    /// Mails in a second
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// For how long
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

#[derive(clap::Args)]
struct CalmArgs {
    /// Where the requests go
    #[arg(long, default_value = "127.0.0.1:8080")]
    api: SocketAddr,
    /// Requests in a second
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// The domain of the accounts
    #[arg(long, default_value = "example.test")]
    domain: String,
    /// Their password
    #[arg(long)]
    password: String,
    /// Where the mail goes
    #[arg(long, default_value = "127.0.0.1:2525")]
    smtp: SocketAddr,
    /// To so many accounts; 0 for no mail
    #[arg(long, default_value_t = 0)]
    recipients: usize,
    /// Where clients are connected
    #[arg(long, default_value = "127.0.0.1:8080")]
    push: SocketAddr,
    /// Clients of as many accounts that come back; 0 for none
    #[arg(long, default_value_t = 0)]
    herd: usize,
    /// They come back since their server does: it is to be started anew when this program says so
    #[arg(long)]
    restart: bool,
}

#[derive(clap::Args)]
struct PushArgs {
    /// Where clients are connected
    #[arg(long, default_value = "127.0.0.1:8080")]
    push: SocketAddr,
    /// Where changes are made, by second connections; else by the same ones
    #[arg(long)]
    api: Option<SocketAddr>,
    /// The domain of the accounts
    #[arg(long, default_value = "example.test")]
    domain: String,
    /// Their password
    #[arg(long)]
    password: String,
    /// The server where clients are connected, for its memory
    #[arg(long)]
    pid: Option<u32>,
    /// Idle connections; 0 for none. Memory that was used once is not given back: start the server anew
    /// for each kind
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// Of which kind they are: websocket or eventsource
    #[arg(long, default_value = "websocket")]
    kind: String,
    /// Clients of as many accounts that are told of changes; 0 for none
    #[arg(long, default_value_t = 0)]
    accounts: usize,
    /// Changes in a second
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// How long changes are made, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

#[derive(clap::Args)]
struct RunArgs {
    /// Where HTTP listens
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where SMTP listens
    #[arg(long, default_value = "127.0.0.1:2525")]
    smtp: SocketAddr,
    /// The address to sign in with; it must have mail
    #[arg(long)]
    login: String,
    /// Its password
    #[arg(long)]
    password: String,
    /// Read this mailbox instead of the inbox
    #[arg(long)]
    mailbox: Option<String>,
    /// Connections at a time
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// How long each scenario runs, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Who gets the mails that are received, in turn; else the login
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS,…")]
    to: Vec<String>,
    /// Programs whose processor time is shown for each request, such as postrider,postgres
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    processes: Vec<String>,
    /// Only the scenarios whose names begin so
    #[arg(long, default_value = "")]
    only: String,
}

fn main() {
    match Arguments::parse().command {
        Command::Mbox { count, path } => fill::write_mbox(count, &path),
        Command::Push(args) => {
            let target = push::Target {
                push: args.push,
                api: args.api,
                domain: args.domain,
                password: args.password,
                pid: args.pid,
                rate: args.rate,
                time: Duration::from_secs(args.seconds.max(1)),
            };
            if args.idle > 0 {
                println!(
                    "| idle | connections | opened in | before | after | each |\n|---|---|---|---|---|---|"
                );
                push::idle(&target, &args.kind, args.idle);
            }
            if args.accounts > 0 {
                push::latency(&target, args.accounts);
            }
        }
        Command::Calm(args) => {
            let api = calm::Api {
                address: args.api,
                login: format!("u0@{}", args.domain),
                password: args.password.clone(),
                rate: args.rate,
            };
            calm::idle(&api);
            if args.recipients > 0 {
                calm::mail(&api, args.smtp, &args.domain, args.recipients);
            }
            if args.herd > 0 {
                push::herd(&api, args.push, &args.domain, args.herd, args.restart);
            }
        }
        Command::Webhooks(args) => webhooks::measure(&webhooks::Target {
            api: args.api,
            smtp: args.smtp,
            domain: args.domain,
            password: args.password,
            endpoints: args.endpoints.max(1),
            rate: args.rate.max(1),
            time: Duration::from_secs(args.seconds.max(1)),
        }),
        Command::Run(args) => scenario::run_all(&scenario::Target {
            http: args.http,
            smtp: args.smtp,
            to: if args.to.is_empty() { vec![args.login.clone()] } else { args.to },
            processes: processor::Programs::look(&args.processes),
            login: args.login,
            password: args.password,
            mailbox: args.mailbox,
            connections: args.connections.max(1),
            time: Duration::from_secs(args.seconds.max(1)),
            only: args.only,
        }),
    }
}
