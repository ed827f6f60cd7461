//! `postrider audit`: what administrators have done.

use clap::Args;

use crate::admin::request::{AdminRequest, AdminResponse};
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print_rows};

/// Which acts are listed.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider audit\n  postrider audit --domain example.org --limit 1000 --json"
)]
pub struct AuditArgs {
    /// Only those about this domain
    #[arg(long)]
    domain: Option<String>,
    /// So many, the newest ones
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: AuditArgs, admin: &mut Admin) -> Result<(), Failure> {
    let request = AdminRequest::AuditList { domain: args.domain, limit: args.limit };
    match admin.ask(request).await? {
        AdminResponse::Audit(rows) => print_rows(
            &rows,
            args.json,
            ["AT", "ACTOR", "ACT", "OBJECT", "OUTCOME"],
            |row| {
                [row.at.clone(), row.actor.clone(), row.act.clone(), row.object.clone(), row.outcome.clone()]
            },
            "Nothing has been done yet. Begin with: postrider domain add example.org",
        ),
        other => Err(Failure::unexpected(&other)),
    }
}
