//! `postrider import`: brings old mail along.
//!
//! The command reads the files itself, in one blocking thread, and hands the messages over in
//! batches. Before the octets of a batch travel, the keys of its messages are asked for: what was
//! filed before is not sent again. So a run that was cut short goes on where it stopped, and a
//! second run files nothing twice. What cannot be read is told at the end and stops nothing.

mod from_line;
mod headers;
mod labels;
mod maildir;
mod mbox;
pub mod message;
mod mutf7;
pub mod source;

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::admin::request::{AdminRequest, AdminResponse, ImportItem, ImportOutcome};
use crate::cli::argument;
use crate::cli::connection::Admin;
use crate::cli::import::message::{Broken, ReadMessage, clean_path};
use crate::cli::import::source::{Found, Source};
use crate::cli::output::{Failure, print, print_json};
use crate::cli::socket::IMPORT_BATCH;
use crate::config::Config;

/// Messages in one batch.
const BATCH_MESSAGES: usize = 100;
/// Octets that mailboxes and keywords of a batch may take in the request's line.
const BATCH_LINE: usize = 400_000;
/// Broken messages that are told one by one.
const BROKEN_SHOWN: usize = 100;

/// `import`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  postrider import alice@example.org ~/Maildir\n  \
                  postrider import alice@example.org archive.mbox --mailbox Archive/2005\n  \
                  postrider import alice@example.org exported-eml/ --seen\n\n\
                  Folders of a Maildir, names of mbox files and labels of a Gmail export become mailboxes. The command\n\
                  can be stopped and run again: what was imported is not imported twice.")]
pub struct ImportArgs {
    /// The account
    #[arg(value_parser = argument::address)]
    address: String,
    /// An mbox file, a Maildir, an .eml file, or a folder of any of them
    path: PathBuf,
    /// Put everything into this mailbox; / stands between names: Archive/2005
    #[arg(long, value_name = "NAME")]
    mailbox: Option<String>,
    /// Mark everything as read
    #[arg(long)]
    seen: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of it all.
#[derive(Default, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    imported: u64,
    already_there: u64,
    broken_count: u64,
    /// The first of them.
    broken: Vec<BrokenRow>,
}

#[derive(Debug, Serialize)]
struct BrokenRow {
    place: String,
    why: String,
}

impl Summary {
    fn add_broken(&mut self, broken: Broken) {
        self.broken_count += 1;
        if self.broken.len() < BROKEN_SHOWN {
            self.broken.push(BrokenRow { place: broken.place, why: broken.why });
        }
    }
}

/// Runs the command.
pub async fn run(args: ImportArgs, admin: &mut Admin, config: &Config) -> Result<(), Failure> {
    let path = args.path.clone();
    let found = tokio::task::spawn_blocking(move || source::find(&path)).await;
    let shown_path = args.path.display();
    let found = found
        .map_err(|error| Failure::new(format!("{shown_path} cannot be read: {error}")))?
        .map_err(|error| Failure::new(format!("{shown_path} cannot be read: {error}")))?;
    if found.sources.is_empty() && found.broken.is_empty() {
        return Err(Failure::new(format!(
            "{shown_path} holds no mail: neither an mbox file, nor a Maildir, nor .eml files"
        )));
    }
    let mailbox = args.mailbox.as_ref().map(|path| clean_path(path.split('/').map(str::to_owned).collect()));
    // An account that is not there is told before anything is read.
    admin.ask(AdminRequest::ImportKnown { account: args.address.clone(), keys: Vec::new() }).await?;

    let Found { sources, broken, .. } = found;
    let progress = progress_bar(sources.iter().map(Source::size).sum());
    let mut summary = Summary::default();
    broken.into_iter().for_each(|broken| summary.add_broken(broken));
    let (sender, mut batches) = mpsc::channel(2);
    let max_size = config.max_message_size;
    let reader = tokio::task::spawn_blocking(move || read_batches(sources, max_size, &sender));
    while let Some(batch) = batches.recv().await {
        import_batch(admin, &args, mailbox.as_deref(), batch, &progress, &mut summary).await?;
    }
    reader.await.map_err(|error| Failure::new(format!("reading {shown_path} failed: {error}")))?;
    progress.finish_and_clear();
    tell(&summary, args.json)
}

/// Reads all sources and sends what they give in batches, until nobody takes them any more.
fn read_batches(sources: Vec<Source>, max_size: u64, sender: &mpsc::Sender<Vec<ReadMessage>>) {
    let mut batch = Vec::new();
    let (mut octets, mut line) = (0, 0);
    for message in sources.into_iter().flat_map(|source| source.messages(max_size)) {
        let (more_octets, more_line) = message.as_ref().map_or((0, 0), |message| {
            let names = message.mailboxes.iter().flatten().chain(&message.keywords);
            (message.raw.len() as u64, names.map(|name| 2 * name.len() + 4).sum::<usize>())
        });
        let is_full = batch.len() == BATCH_MESSAGES
            || octets + more_octets > IMPORT_BATCH
            || line + more_line > BATCH_LINE;
        if is_full && !batch.is_empty() {
            (octets, line) = (0, 0);
            if sender.blocking_send(std::mem::take(&mut batch)).is_err() {
                return;
            }
        }
        octets += more_octets;
        line += more_line;
        batch.push(message);
    }
    let _ = sender.blocking_send(batch);
}

/// Hands over the messages of a batch that are not filed yet.
async fn import_batch(
    admin: &mut Admin,
    args: &ImportArgs,
    mailbox: Option<&[String]>,
    batch: Vec<ReadMessage>,
    progress: &ProgressBar,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let mut messages = Vec::with_capacity(batch.len());
    for message in batch {
        match message {
            Ok(mut message) => {
                if let Some(mailbox) = mailbox {
                    message.mailboxes = vec![mailbox.to_vec()];
                    message.source_mailbox = mailbox.to_vec();
                }
                if args.seen && !message.keywords.iter().any(|keyword| keyword == "$seen") {
                    message.keywords.push("$seen".to_owned());
                }
                messages.push((message.key(), message));
            }
            Err(broken) => summary.add_broken(broken),
        }
    }
    let account = args.address.clone();
    let keys = messages.iter().map(|(key, _)| key.clone()).collect();
    let known = match admin.ask(AdminRequest::ImportKnown { account: account.clone(), keys }).await? {
        AdminResponse::Known(known) if known.len() == messages.len() => known,
        other => return Err(Failure::unexpected(&other)),
    };
    let mut items = Vec::new();
    let mut places = Vec::new();
    for ((key, message), is_known) in messages.into_iter().zip(known) {
        let size = message.raw.len() as u64;
        if is_known {
            summary.already_there += 1;
            progress.inc(size);
            continue;
        }
        places.push(message.place);
        items.push(ImportItem {
            mailboxes: message.mailboxes,
            keywords: message.keywords,
            received_at_ms: message.received_at_ms,
            key,
            size,
            raw: Bytes::from(message.raw),
        });
    }
    if items.is_empty() {
        return Ok(());
    }
    let octets = items.iter().map(|item| item.size).sum();
    let outcomes = match admin
        .ask(AdminRequest::Import { account, messages: items, begins: summary.imported == 0 })
        .await?
    {
        AdminResponse::Imported(outcomes) => outcomes,
        other => return Err(Failure::unexpected(&other)),
    };
    for (outcome, place) in outcomes.into_iter().zip(places) {
        match outcome {
            ImportOutcome::Imported => summary.imported += 1,
            ImportOutcome::AlreadyThere => summary.already_there += 1,
            ImportOutcome::Failed(why) => summary.add_broken(Broken { place, why }),
        }
    }
    progress.inc(octets);
    progress.set_message(format!("{} imported", HumanCount(summary.imported)));
    Ok(())
}

/// A bar on stderr; nothing when that is no terminal.
fn progress_bar(octets: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {decimal_bytes}/{decimal_total_bytes}  {msg}  {eta} left");
    let bar = ProgressBar::new(octets);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Tells what came of it; a failure when something was left out.
fn tell(summary: &Summary, json: bool) -> Result<(), Failure> {
    if json {
        print_json(summary)?;
    } else {
        let (imported, there) = (HumanCount(summary.imported), HumanCount(summary.already_there));
        print(&format!("{imported} imported, {there} were already there\n"))?;
    }
    if summary.broken_count == 0 {
        return Ok(());
    }
    let mut message = format!("{} could not be imported:", HumanCount(summary.broken_count));
    for broken in &summary.broken {
        let line = format!("\n  {}: {}", broken.place, broken.why.replace('\n', " "));
        message.push_str(&line);
    }
    if summary.broken_count > summary.broken.len() as u64 {
        message.push_str("\n  …");
    }
    Err(Failure::new(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let body = "x".repeat(3 << 20);
        for place in 0..4 {
            let text = format!("Subject: {place}\r\n\r\n{body}");
            std::fs::write(folder.path().join(format!("{place}.eml")), text).expect("written");
        }
        for place in 0..250 {
            std::fs::write(folder.path().join(format!("s{place}.eml")), "Subject: s\r\n\r\n")
                .expect("written");
        }
        let sources = source::find(folder.path()).expect("found").sources;
        let (sender, mut batches) = mpsc::channel(100);
        read_batches(sources, 10 << 20, &sender);
        drop(sender);
        let mut sizes = Vec::new();
        while let Some(batch) = batches.blocking_recv() {
            let octets: usize = batch.iter().flatten().map(|message| message.raw.len()).sum();
            assert!(octets as u64 <= IMPORT_BATCH && batch.len() <= BATCH_MESSAGES);
            sizes.push(batch.len());
        }
        assert_eq!(sizes.iter().sum::<usize>(), 254);
        assert!(sizes.len() >= 4, "{sizes:?}");
    }
}
