//! `postrider audit`: what administrators have done.

use clap::Args;

use crate::admin::request::{AdminRequest, AdminResponse, AuditRow};
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print_rows};

/// Which acts are listed.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider audit\n  postrider audit --domain example.org --limit 1000 --json\n  postrider audit --before a2b3c4d5e6f7g"
)]
pub struct AuditArgs {
    /// Only those about this domain
    #[arg(long)]
    domain: Option<String>,
    /// So many, the newest ones
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Those before this entry, by its id
    #[arg(long)]
    before: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: AuditArgs, admin: &mut Admin) -> Result<(), Failure> {
    let limit = usize::from(args.limit);
    let request = AdminRequest::AuditList { domain: args.domain, limit, before: args.before };
    match admin.ask(request).await? {
        AdminResponse::Audit(rows) => {
            print_rows(
                &rows,
                args.json,
                ["AT", "ACTOR", "ACT", "OBJECT", "OUTCOME"],
                |row| {
                    let AuditRow { at, actor, act, object, outcome, .. } = row.clone();
                    [at, actor, act, object, outcome]
                },
                "There is no such act.",
            )?;
            if let Some(last) = rows.last().filter(|_| rows.len() == limit) {
                eprintln!("postrider: there may be more: --before {}", last.id);
            }
            Ok(())
        }
        other => Err(Failure::unexpected(&other)),
    }
}
