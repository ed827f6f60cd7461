//! Finds what there is to import below a path, and which mailbox each thing stands for.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::cli::import::maildir;
use crate::cli::import::mbox::Mbox;
use crate::cli::import::message::{Broken, ImportedMessage, Known, ReadMessage, file_time_ms, read_whole};

/// Folders within folders that are followed.
const MAX_DEPTH: usize = 32;
/// Octets of an mbox file that are read at once.
const READ_BUFFER: usize = 1 << 20;

/// Something that holds messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A file of many messages.
    Mbox { path: PathBuf, mailbox: Vec<String>, size: u64 },
    /// A folder of message files with flags in their names.
    Maildir { path: PathBuf, mailbox: Vec<String>, files: Vec<PathBuf>, size: u64 },
    /// A file of one message.
    Eml { path: PathBuf, mailbox: Vec<String>, size: u64 },
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    pub sources: Vec<Source>,
    /// What could not be looked at.
    pub broken: Vec<Broken>,
    /// Files that are no mail.
    pub other_files: u64,
}

/// Looks at a file or folder. An error means that there is nothing at the path.
pub fn find(path: &Path) -> std::io::Result<Found> {
    let mut found = Found::default();
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        find_in_folder(path, &[], 0, &mut found);
    } else if is_eml(path) {
        found.sources.push(Source::Eml { path: path.to_owned(), mailbox: inbox(), size: metadata.len() });
    } else if starts_like_mbox(path)? {
        let mailbox = vec![mailbox_of_mbox(path)];
        found.sources.push(Source::Mbox { path: path.to_owned(), mailbox, size: metadata.len() });
    } else {
        found.other_files = 1;
    }
    Ok(found)
}

/// Looks at a folder and those in it. `mailbox` is the path of names from the folder that was
/// given to this one.
fn find_in_folder(folder: &Path, mailbox: &[String], depth: usize, found: &mut Found) {
    let mut entries: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => {
            return found.broken.push(Broken {
                place: folder.display().to_string(),
                why: format!("cannot be read: {error}"),
            });
        }
    };
    entries.sort();
    let is_maildir = maildir::is_maildir(folder);
    if is_maildir {
        add_maildir(folder, if mailbox.is_empty() { inbox() } else { mailbox.to_vec() }, found);
    }
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A link may lead back to where we come from.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            if is_maildir && matches!(name.as_str(), "cur" | "new" | "tmp") {
                continue;
            }
            let below = match maildir::mailbox_of_folder(&name) {
                Some(below) if maildir::is_maildir(&path) => below,
                Some(_) => continue,
                // Apple Mail and Thunderbird keep the mailboxes below X in X.mbox and X.sbd.
                None => vec![without_extension(&name, &[".sbd", ".mbox"]).to_owned()],
            };
            if depth < MAX_DEPTH {
                find_in_folder(&path, &[mailbox, &below].concat(), depth + 1, found);
            }
            continue;
        }
        if is_maildir || name.starts_with('.') || !metadata.is_file() {
            continue;
        }
        let size = metadata.len();
        if is_eml(&path) {
            let mailbox = if mailbox.is_empty() { inbox() } else { mailbox.to_vec() };
            found.sources.push(Source::Eml { path, mailbox, size });
        } else if starts_like_mbox(&path).unwrap_or(false) {
            // Apple Mail exports X as X.mbox/mbox.
            let own =
                if name == "mbox" && !mailbox.is_empty() { Vec::new() } else { vec![mailbox_of_mbox(&path)] };
            found.sources.push(Source::Mbox { path, mailbox: [mailbox, &own].concat(), size });
        } else {
            found.other_files += 1;
        }
    }
}

fn add_maildir(folder: &Path, mailbox: Vec<String>, found: &mut Found) {
    match maildir::files(folder) {
        Ok(files) => {
            let size = files.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum();
            found.sources.push(Source::Maildir { path: folder.to_owned(), mailbox, files, size });
        }
        Err(error) => found
            .broken
            .push(Broken { place: folder.display().to_string(), why: format!("cannot be read: {error}") }),
    }
}

fn inbox() -> Vec<String> {
    vec!["Inbox".to_owned()]
}

fn is_eml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("eml"))
}

fn starts_like_mbox(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(64).read_to_end(&mut start)?;
    Ok(start.trim_ascii_start().starts_with(b"From "))
}

/// The name of the mailbox that an mbox file stands for.
fn mailbox_of_mbox(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = without_extension(&name, &[".mbox", ".mbx", ".mbs"]);
    if name == "mbox" { "Inbox".to_owned() } else { name.to_owned() }
}

fn without_extension<'n>(name: &'n str, extensions: &[&str]) -> &'n str {
    let stem = extensions.iter().find_map(|extension| name.strip_suffix(extension));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name)
}

impl Source {
    /// Octets to be read.
    pub fn size(&self) -> u64 {
        match self {
            Source::Mbox { size, .. } | Source::Maildir { size, .. } | Source::Eml { size, .. } => *size,
        }
    }

    /// The messages, one after the other. Messages over `max_size` octets are broken.
    pub fn messages(self, max_size: u64) -> Box<dyn Iterator<Item = ReadMessage>> {
        match self {
            Source::Eml { path, mailbox, .. } => Box::new(std::iter::once_with(move || {
                let (raw, file_ms) = read_whole(&path, max_size)?;
                let known = Known { mailbox, file_ms, ..Known::default() };
                ImportedMessage::assemble(raw, known, path.display().to_string())
            })),
            Source::Maildir { path, mailbox, files, .. } => {
                let letters = maildir::keyword_letters(&path);
                Box::new(
                    files.into_iter().map(move |file| maildir::read(&file, &mailbox, &letters, max_size)),
                )
            }
            Source::Mbox { path, mailbox, .. } => {
                let name = path.display().to_string();
                let opened = std::fs::File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
                match opened {
                    Ok((metadata, file)) => {
                        let known = Known { mailbox, file_ms: file_time_ms(&metadata), ..Known::default() };
                        let source = BufReader::with_capacity(READ_BUFFER, file);
                        Box::new(Mbox::new(source, name, known, max_size))
                    }
                    Err(error) => {
                        let why = format!("cannot be read: {error}");
                        Box::new(std::iter::once(Err(Broken { place: name, why })))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mailboxes and subjects of what is found in a folder with these files.
    fn found(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let found = find(folder.path()).expect("found");
        assert!(found.broken.is_empty());
        let messages = found.sources.into_iter().flat_map(|source| source.messages(10_000));
        messages
            .map(|message| {
                let message = message.expect("a message");
                let subject =
                    String::from_utf8_lossy(&message.raw).lines().next().unwrap_or_default().to_owned();
                (message.mailboxes[0].join("/"), subject)
            })
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(mailbox, subject)| ((*mailbox).to_owned(), format!("Subject: {subject}")))
            .collect()
    }

    const MBOX: &str = "From a@b.test Thu Nov 10 12:00:00 2005\nSubject: m\n\nx\n";

    #[test]
    fn maildirs_with_their_folders() {
        let files = [
            ("cur/1:2,S", "Subject: 1\n\n"),
            ("new/2", "Subject: 2\n\n"),
            ("tmp/x", "no"),
            (".Work.Old/cur/3", "Subject: 3\n\n"),
            (".Work.Old/new/4", "Subject: 4\n\n"),
            (".notmail/x.eml", "Subject: no\n\n"),
            ("dovecot.index", "no"),
        ];
        let wanted = pairs(&[("Inbox", "1"), ("Inbox", "2"), ("Work/Old", "3"), ("Work/Old", "4")]);
        assert_eq!(found(&files), wanted);
    }

    #[test]
    fn folders_of_eml_files() {
        let files = [("a.eml", "Subject: a\n\n"), ("Work/x.y/b.EML", "Subject: b\n\n"), ("notes.txt", "no")];
        assert_eq!(found(&files), pairs(&[("Work/x.y", "b"), ("Inbox", "a")]));
    }

    #[test]
    fn folders_of_mbox_files() {
        let files = [
            ("Sent", MBOX),
            ("Sent.msf", "no"),
            ("Work.sbd/Old", MBOX),
            ("Box.mbox/mbox", MBOX),
            ("mbox", MBOX),
        ];
        assert_eq!(found(&files), pairs(&[("Box", "m"), ("Sent", "m"), ("Work/Old", "m"), ("Inbox", "m")]));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert!(find(Path::new("/nonexistent/mail")).is_err());
    }
}
