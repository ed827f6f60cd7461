//! `postrider queue`: mail that waits to be filed or sent.

use clap::Subcommand;

use crate::admin::queue::MAX_LISTED;
use crate::admin::request::{AdminRequest, AdminResponse, QueueItem, QueueName};
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print, print_json, print_rows};
use crate::types::size::show_size;

/// What is done with the queues.
#[derive(Subcommand, Debug)]
pub enum QueueCommand {
    /// List what waits
    #[command(
        after_help = "Examples:\n  postrider queue list\n  postrider queue list --queue outgoing --failed --json"
    )]
    List {
        /// Only this queue
        #[arg(long, value_enum)]
        queue: Option<QueueName>,
        /// Only what was set aside after too many tries
        #[arg(long)]
        failed: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one entry with the headers of its message
    #[command(after_help = "Example:\n  postrider queue show a2b3c4d5e6f7g")]
    Show {
        /// The entry, or its message, as `queue list`, the logs and SMTP replies show it
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try an entry now
    #[command(after_help = "Example:\n  postrider queue retry a2b3c4d5e6f7g")]
    Retry {
        /// The entry, or its message, as `queue list`, the logs and SMTP replies show it
        id: String,
    },
    /// Set an entry aside until it is retried or dropped
    #[command(after_help = "Example:\n  postrider queue hold a2b3c4d5e6f7g")]
    Hold {
        /// The entry, or its message, as `queue list`, the logs and SMTP replies show it
        id: String,
    },
    /// Remove an entry: its message is not filed or sent, and nobody is told
    #[command(after_help = "Example:\n  postrider queue drop a2b3c4d5e6f7g")]
    Drop {
        /// The entry, or its message, as `queue list`, the logs and SMTP replies show it
        id: String,
    },
}

/// Runs the command.
pub async fn run(command: QueueCommand, admin: &mut Admin) -> Result<(), Failure> {
    match command {
        QueueCommand::List { queue, failed, json } => {
            match admin.ask(AdminRequest::QueueList { queue, failed_only: failed }).await? {
                AdminResponse::Queue(rows) => {
                    print_rows(
                        &rows,
                        json,
                        ["ID", "MESSAGE", "QUEUE", "STATE", "FROM", "TO", "SIZE", "TRIES", "NEXT", "REASON"],
                        |row| {
                            [
                                row.id.clone(),
                                row.message.clone(),
                                name_of(row.queue).to_owned(),
                                row.state.clone(),
                                format!("<{}>", row.sender),
                                row.recipients.join(", "),
                                show_size(row.size),
                                row.attempts.to_string(),
                                row.due_at.clone().unwrap_or_else(|| "-".to_owned()),
                                row.reason.clone().unwrap_or_default(),
                            ]
                        },
                        "Nothing waits.",
                    )?;
                    if rows.len() >= MAX_LISTED {
                        eprintln!("postrider: there may be more; GET /api/v1/queue has all, page by page");
                    }
                    Ok(())
                }
                other => Err(Failure::unexpected(&other)),
            }
        }
        QueueCommand::Show { id, json } => match admin.ask(AdminRequest::QueueShow { id }).await? {
            AdminResponse::QueueItem(item) if json => print_json(&item),
            AdminResponse::QueueItem(item) => print(&shown(&item)),
            other => Err(Failure::unexpected(&other)),
        },
        QueueCommand::Retry { id } => admin.ask_done(AdminRequest::QueueRetry { id }).await,
        QueueCommand::Hold { id } => admin.ask_done(AdminRequest::QueueHold { id }).await,
        QueueCommand::Drop { id } => admin.ask_done(AdminRequest::QueueDrop { id }).await,
    }
}

fn name_of(queue: QueueName) -> &'static str {
    match queue {
        QueueName::Incoming => "incoming",
        QueueName::Outgoing => "outgoing",
    }
}

/// An entry for people. What others wrote loses its control characters.
fn shown(item: &QueueItem) -> String {
    let row = &item.row;
    let mut text = format!(
        "id        {}\nmessage   {}\nqueue     {}, {}\nfrom      <{}>\n",
        row.id,
        row.message,
        name_of(row.queue),
        row.state,
        row.sender
    );
    for recipient in &row.recipients {
        text.push_str(&format!("to        <{recipient}>\n"));
    }
    text.push_str(&format!("size      {}\ncreated   {}\n", show_size(row.size), row.created_at));
    text.push_str(&format!("tries     {}\n", row.attempts));
    if let Some(due_at) = &row.due_at {
        text.push_str(&format!("next      {due_at}\n"));
    }
    if let Some(reason) = &row.reason {
        text.push_str(&format!("reason    {reason}\n"));
    }
    text.push('\n');
    text.push_str(item.headers.trim_end());
    text.push('\n');
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
