//! Maildir and Maildir++: one file a message, flags in its name, folders as `.Name.Sub`.

use std::path::{Path, PathBuf};

use crate::cli::import::message::{ImportedMessage, Known, ReadMessage, read_whole};
use crate::cli::import::mutf7;

/// Whether a folder is a Maildir.
pub fn is_maildir(folder: &Path) -> bool {
    folder.join("cur").is_dir() && (folder.join("new").is_dir() || folder.join("tmp").is_dir())
}

/// The mailbox below a Maildir that a Maildir++ folder's name stands for: `.A.B` is B in A.
pub fn mailbox_of_folder(name: &str) -> Option<Vec<String>> {
    let path: Vec<String> =
        name.strip_prefix('.')?.split('.').filter(|part| !part.is_empty()).map(mutf7::decode).collect();
    (!path.is_empty()).then_some(path)
}

/// The files of `new` and `cur`, in the order of their names.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in ["new", "cur"] {
        let entries = match std::fs::read_dir(folder.join(part)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The keywords that Dovecot's `dovecot-keywords` file gives the letters `a` to `z`.
pub fn keyword_letters(folder: &Path) -> Vec<(char, String)> {
    let Ok(text) = std::fs::read_to_string(folder.join("dovecot-keywords")) else { return Vec::new() };
    let letter = |line: &str| {
        let (number, keyword) = line.split_once(' ')?;
        let number: u8 = number.parse().ok().filter(|number| *number < 26)?;
        Some((char::from(b'a' + number), keyword.trim().to_owned()))
    };
    text.lines().filter_map(letter).collect()
}

/// Reads a message.
pub fn read(path: &Path, mailbox: &[String], letters: &[(char, String)], max_size: u64) -> ReadMessage {
    let (raw, file_ms) = read_whole(path, max_size)?;
    let keywords = keywords_of(path, letters);
    let known = Known { mailbox: mailbox.to_vec(), keywords, file_ms, ..Known::default() };
    ImportedMessage::assemble(raw, known, path.display().to_string())
}

/// The keywords by the flags at the end of a file's name: `:2,FRS`. Systems that have no colon in
/// names write `;` or `!`.
fn keywords_of(path: &Path, letters: &[(char, String)]) -> Vec<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let flags =
        [":2,", ";2,", "!2,"].iter().find_map(|mark| name.rsplit_once(mark)).map_or("", |(_, flags)| flags);
    let keyword = |flag: char| {
        let keyword = match flag {
            'D' => "$draft",
            'F' => "$flagged",
            'P' => "$forwarded",
            'R' => "$answered",
            'S' => "$seen",
            flag => {
                return letters
                    .iter()
                    .find(|(letter, _)| *letter == flag)
                    .map(|(_, keyword)| keyword.clone());
            }
        };
        Some(keyword.to_owned())
    };
    flags.chars().take_while(|flag| *flag != ',').filter_map(keyword).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders() {
        assert_eq!(mailbox_of_folder(".Work.2005"), Some(vec!["Work".into(), "2005".into()]));
        assert_eq!(mailbox_of_folder(".Entw&APw-rfe"), Some(vec!["Entwürfe".into()]));
        assert_eq!(mailbox_of_folder("Work"), None);
        assert_eq!(mailbox_of_folder("."), None);
    }

    #[test]
    fn flags_are_keywords() {
        let letters = [('a', "work".to_owned())];
        let keywords = |name: &str| keywords_of(Path::new(name), &letters).join(" ");
        assert_eq!(keywords("cur/1.x.host,S=12:2,FRSa"), "$flagged $answered $seen work");
        assert_eq!(keywords("cur/1.x.host;2,DP"), "$draft $forwarded");
        assert_eq!(keywords("cur/1.x.host:2,ST,extra"), "$seen");
        assert_eq!(keywords("new/1.x.host"), "");
    }

    #[test]
    fn messages_of_new_and_cur_are_read_and_tmp_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("new/2", "Subject: 2\n\n"), ("cur/1:2,S", "Subject: 1\n\n"), ("tmp/3", "x")] {
            std::fs::create_dir_all(at(name).parent().expect("a parent")).expect("made");
            std::fs::write(at(name), text).expect("written");
        }
        std::fs::write(at("dovecot-keywords"), "0 Work\nx\n99 no\n").expect("written");
        assert!(is_maildir(folder.path()));
        assert_eq!(keyword_letters(folder.path()), [('a', "Work".to_owned())]);
        let files = files(folder.path()).expect("files");
        let read: Vec<_> =
            files.iter().map(|file| read(file, &["Inbox".into()], &[], 1000).expect("read")).collect();
        let seen: Vec<_> = read.iter().map(|message| message.keywords.join(" ")).collect();
        assert_eq!(seen, ["$seen", ""]);
    }
}
