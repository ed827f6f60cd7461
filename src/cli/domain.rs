//! `postrider domain`: the domains whose mail is accepted here.

use clap::{ArgGroup, Args, Subcommand};

use crate::admin::request::{AdminRequest, AdminResponse, DomainAdded, RecordState};
use crate::cli::argument;
use crate::cli::connection::Admin;
use crate::cli::output::{Failure, print, print_json, print_rows};

/// Characters of a record that a table shows; JSON has all.
const MAX_SHOWN: usize = 60;

/// What is done with domains.
#[derive(Subcommand, Debug)]
pub enum DomainCommand {
    /// Accept mail for a domain; makes its DKIM keys and prints the DNS records to set
    #[command(after_help = "Example:\n  postrider domain add example.org --postmaster admin@example.org")]
    Add(AddArgs),
    /// List the domains
    #[command(after_help = "Example:\n  postrider domain list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the DNS records of a domain again
    #[command(after_help = "Example:\n  postrider domain show example.org")]
    Show {
        /// Such as example.org
        #[arg(value_parser = argument::domain)]
        domain: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask the DNS whether the records of a domain are set
    #[command(
        after_help = "Ends with 1 unless all are set.\n\nExample:\n  postrider domain check example.org --json"
    )]
    Check {
        /// Such as example.org
        #[arg(value_parser = argument::domain)]
        domain: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Name who gets a domain's mail to postmaster, or to addresses which nobody has
    #[command(
        after_help = "Examples:\n  postrider domain set example.org --postmaster alice@example.org\n  \
                      postrider domain set example.org --catch-all none"
    )]
    Set(SetArgs),
    /// Stop accepting mail for a domain; it must have no accounts or aliases any more
    #[command(after_help = "Example:\n  postrider domain remove example.org")]
    Remove {
        /// Such as example.org
        #[arg(value_parser = argument::domain)]
        domain: String,
    },
}

/// `domain add`.
#[derive(Args, Debug)]
pub struct AddArgs {
    /// Such as example.org
    #[arg(value_parser = argument::domain)]
    domain: String,
    /// The account that gets mail to postmaster; else the first account added to the domain
    #[arg(long, value_name = "ADDRESS", value_parser = argument::address)]
    postmaster: Option<String>,
    /// The account that gets mail to addresses which nobody has; else such mail is refused
    #[arg(long, value_name = "ADDRESS", value_parser = argument::address)]
    catch_all: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `domain set`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("changes").required(true).multiple(true).args(["postmaster", "catch_all"]))]
pub struct SetArgs {
    /// Such as example.org
    #[arg(value_parser = argument::domain)]
    domain: String,
    /// The account that gets mail to postmaster
    #[arg(long, value_name = "ADDRESS", value_parser = argument::address)]
    postmaster: Option<String>,
    /// The account that gets mail to addresses which nobody has; none refuses such mail
    #[arg(long, value_name = "ADDRESS", value_parser = argument::address_or_none)]
    catch_all: Option<String>,
}

/// Runs the command.
pub async fn run(command: DomainCommand, admin: &mut Admin) -> Result<(), Failure> {
    match command {
        DomainCommand::Add(args) => {
            let request = AdminRequest::DomainAdd {
                domain: args.domain,
                postmaster: args.postmaster,
                catch_all: args.catch_all,
            };
            show_records(admin.ask(request).await?, args.json)
        }
        DomainCommand::Show { domain, json } => {
            show_records(admin.ask(AdminRequest::DomainShow { domain }).await?, json)
        }
        DomainCommand::Check { domain, json } => {
            match admin.ask(AdminRequest::DomainCheck { domain }).await? {
                AdminResponse::DomainChecked(rows) => {
                    print_rows(
                        &rows,
                        json,
                        ["STATE", "NAME", "TYPE", "WANTED", "FOUND"],
                        |row| {
                            let state = match row.state {
                                RecordState::Set => "set",
                                RecordState::Differs => "differs",
                                RecordState::Missing => "missing",
                                RecordState::Unknown => "unknown",
                            };
                            let cut = |text: &str| text.chars().take(MAX_SHOWN).collect::<String>();
                            [
                                state.to_owned(),
                                row.record.name.clone(),
                                row.record.r#type.clone(),
                                cut(&row.record.value),
                                cut(&row.found.join(" | ")),
                            ]
                        },
                        "This domain needs no records.",
                    )?;
                    let are = |state| rows.iter().filter(|row| row.state == state).count();
                    let (wrong, unknown) =
                        (are(RecordState::Missing) + are(RecordState::Differs), are(RecordState::Unknown));
                    if wrong > 0 {
                        let text = format!("{wrong} of {} records are not as they should be", rows.len());
                        return Err(Failure::new(format!("{text}; set them and check again")));
                    }
                    if unknown > 0 {
                        let text = format!("the DNS did not answer for {unknown} of {} records", rows.len());
                        return Err(Failure::new(format!("{text}; check again later")));
                    }
                    Ok(())
                }
                other => Err(Failure::unexpected(&other)),
            }
        }
        DomainCommand::List { json } => match admin.ask(AdminRequest::DomainList).await? {
            AdminResponse::Domains(rows) => print_rows(
                &rows,
                json,
                ["DOMAIN", "POSTMASTER", "CATCH-ALL", "CREATED"],
                |row| {
                    let shown = |account: &Option<String>| account.clone().unwrap_or_else(|| "-".to_owned());
                    [
                        row.domain.clone(),
                        shown(&row.postmaster),
                        shown(&row.catch_all),
                        row.created_at.clone(),
                    ]
                },
                "There is no domain yet. Add one: postrider domain add example.org",
            ),
            other => Err(Failure::unexpected(&other)),
        },
        DomainCommand::Set(SetArgs { domain, postmaster, catch_all }) => {
            admin.ask_done(AdminRequest::DomainSet { domain, postmaster, catch_all }).await
        }
        DomainCommand::Remove { domain } => admin.ask_done(AdminRequest::DomainRemove { domain }).await,
    }
}

fn show_records(answer: AdminResponse, json: bool) -> Result<(), Failure> {
    match answer {
        AdminResponse::DomainAdded(added) if json => print_json(&added),
        AdminResponse::DomainAdded(added) => print(&zone_lines(&added)),
        other => Err(Failure::unexpected(&other)),
    }
}

/// The records as lines of a zone file; texts over 255 octets are cut into strings (RFC 1035,
/// 3.3.14).
fn zone_lines(added: &DomainAdded) -> String {
    let mut text = format!("Mail for {} is accepted. Set these DNS records:\n\n", added.domain);
    for record in &added.records {
        let value = if record.r#type == "TXT" { quoted_strings(&record.value) } else { record.value.clone() };
        text.push_str(&format!("{}. IN {} {value}\n", record.name, record.r#type));
    }
    let hosts = added.records.iter().filter(|record| record.r#type == "MX");
    let is_unknown = |value: &str| !value.trim_end_matches('.').contains('.');
    if hosts.into_iter().any(|record| is_unknown(&record.value)) {
        text.push_str(
            "\nThe MX record names this machine as it calls itself, which other servers cannot find.\n\
             Set `hostname` or POSTRIDER_HOSTNAME, such as mail.example.org, and ask again:\n\
             postrider domain show ",
        );
        text.push_str(&added.domain);
        text.push('\n');
    }
    text
}

fn quoted_strings(value: &str) -> String {
    let mut strings = vec![String::new()];
    for c in value.chars() {
        if strings.last().is_some_and(|string| string.len() + c.len_utf8() > 255) {
            strings.push(String::new());
        }
        if let Some(string) = strings.last_mut() {
            string.push(c);
        }
    }
    let quote = |string: &String| format!("\"{}\"", string.replace('\\', "\\\\").replace('"', "\\\""));
    strings.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::request::DnsRecord;

    #[test]
    fn long_texts_are_several_strings() {
        let record =
            |r#type: &str, value: String| DnsRecord { name: "x.test".into(), r#type: r#type.into(), value };
        let records = vec![record("MX", "10 mail.x.test.".into()), record("TXT", "k".repeat(300))];
        let lines = zone_lines(&DomainAdded { domain: "x.test".into(), records });
        assert!(lines.contains("x.test. IN MX 10 mail.x.test.\n"), "{lines}");
        let wanted = format!("x.test. IN TXT \"{}\" \"{}\"\n", "k".repeat(255), "k".repeat(45));
        assert!(lines.contains(&wanted), "{lines}");
    }
}
