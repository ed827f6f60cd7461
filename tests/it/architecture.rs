//! Reads `src/` and fails on what the layout forbids: ARCHITECTURE.md says who may import whom,
//! and this test is where it is enforced.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each part of the program and the parts it may import. `cli` and `main` may import everything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("config", &["types"]),
    ("mail", &["types"]),
    ("smtp", &["types"]),
    ("dns", &["types", "config"]),
    ("https", &[]),
    ("listen", &[]),
    ("bus", &["types", "config"]),
    ("cache", &["types", "config"]),
    ("store", &["types", "config", "mail", "bus", "cache"]),
    // Which objects are referenced, and the small bodies, stand in the database.
    ("blob", &["types", "config", "mail", "https", "store"]),
    // The workers of index, ingest and deliver are woken by the bus.
    ("index", &["types", "config", "mail", "bus", "https", "blob", "store"]),
    ("vapid", &["types", "store"]),
    ("app", &["types", "config", "mail", "smtp", "dns", "bus", "cache", "blob", "store", "index", "vapid"]),
    ("jmap", &["types", "config", "mail", "cache", "blob", "index", "store"]),
    ("callback", &["types", "dns", "https"]),
    ("admin", &["types", "config", "mail", "dns", "bus", "blob", "index", "jmap", "store"]),
    ("receive", &["types", "config", "mail", "smtp", "dns", "listen", "cache", "blob", "store"]),
    ("ingest", &["types", "config", "mail", "smtp", "dns", "bus", "cache", "blob", "store"]),
    ("deliver", &["types", "config", "mail", "smtp", "dns", "bus", "cache", "blob", "store"]),
    ("sweep", &["types", "config", "blob", "store"]),
    ("push", &["types", "config", "bus", "cache", "store"]),
    ("events", &["types", "mail", "bus", "callback", "store", "push"]),
    (
        "web_push",
        &["types", "config", "bus", "cache", "callback", "blob", "index", "store", "vapid", "jmap", "push"],
    ),
    // Of the bus, http tells in /readyz whether it works.
    (
        "http",
        &[
            "types", "config", "mail", "listen", "bus", "cache", "jmap", "push", "blob", "store", "app",
            "admin", "events",
        ],
    ),
];

/// Parts that may import everything.
const FREE: &[&str] = &["cli", "main", "lib"];

/// Crates that only some parts may name.
const CRATES: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("rusqlite", &["store"]),
    ("axum", &["http", "push"]),
    ("object_store", &["blob"]),
    ("redis", &["bus", "cache"]),
    ("deadpool_redis", &["bus", "cache"]),
    ("tantivy", &["index"]),
    ("meilisearch_sdk", &["index"]),
];

/// Longest file, its test modules aside.
const MOST_LINES: usize = 600;

/// A file of `src/` without comments and the contents of its literals.
struct Source {
    /// Path below `src/`.
    path: String,
    /// The first folder, or the file's own name.
    part: String,
    code: String,
}

impl Source {
    /// Whether all of the file is test code.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.ends_with("testing.rs")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let path = file.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
            let part = path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
            let code = stripped(&fs::read_to_string(&file).expect("UTF-8 source"));
            Source { path, part, code }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Blanks comments and the contents of string and character literals; lines stay where they are.
fn stripped(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    let blank = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    while index < chars.len() {
        let c = at(index);
        let before = if index == 0 { ' ' } else { at(index - 1) };
        if c == '/' && at(index + 1) == '/' {
            while index < chars.len() && at(index) != '\n' {
                blank(&mut out, at(index));
                index += 1;
            }
        } else if c == '/' && at(index + 1) == '*' {
            let mut depth = 0;
            while index < chars.len() {
                if at(index) == '/' && at(index + 1) == '*' {
                    depth += 1;
                    index += 2;
                    out.push_str("  ");
                } else if at(index) == '*' && at(index + 1) == '/' {
                    depth -= 1;
                    index += 2;
                    out.push_str("  ");
                    if depth == 0 {
                        break;
                    }
                } else {
                    blank(&mut out, at(index));
                    index += 1;
                }
            }
        } else if c == 'r' && !is_word(before) && (at(index + 1) == '"' || raw_start(&chars, index)) {
            let hashes = chars[index + 1..].iter().take_while(|c| **c == '#').count();
            index += hashes + 2;
            out.push('"');
            loop {
                let closes = at(index) == '"' && (1..=hashes).all(|hash| at(index + hash) == '#');
                if index >= chars.len() || closes {
                    break;
                }
                blank(&mut out, at(index));
                index += 1;
            }
            out.push('"');
            index += hashes + 1;
        } else if c == '"' {
            out.push('"');
            index += 1;
            while index < chars.len() && at(index) != '"' {
                if at(index) == '\\' {
                    blank(&mut out, at(index));
                    index += 1;
                }
                blank(&mut out, at(index));
                index += 1;
            }
            out.push('"');
            index += 1;
        } else if c == '\'' && (at(index + 1) == '\\' || at(index + 2) == '\'') {
            // A character, not a lifetime.
            index += if at(index + 1) == '\\' { 3 } else { 2 };
            while index < chars.len() && at(index) != '\'' {
                index += 1;
            }
            index += 1;
            out.push_str("' '");
        } else {
            out.push(c);
            index += 1;
        }
    }
    out
}

fn raw_start(chars: &[char], index: usize) -> bool {
    let hashes = chars[index + 1..].iter().take_while(|c| **c == '#').count();
    hashes > 0 && chars.get(index + 1 + hashes) == Some(&'"')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The places of a word that stands alone.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).filter_map(move |(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = code[at + word.len()..].chars().next().unwrap_or(' ');
        (!is_word(before) && !is_word(after)).then_some(at)
    })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The parts that a file names after a root such as `crate`, with where.
fn imports(code: &str, root: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in words(code, root) {
        let rest = &code[at + root.len()..];
        let Some(rest) = rest.trim_start().strip_prefix("::") else { continue };
        for name in heads(rest.trim_start()) {
            found.push((name, line_of(code, at)));
        }
    }
    found
}

/// The first names of a path: one, or those of a group in braces.
fn heads(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String { text.trim_start().chars().take_while(|c| is_word(*c)).collect() };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// The code without its `#[cfg(test)]` modules, and how many lines those had.
fn without_tests(code: &str) -> (String, usize) {
    let mut out = code.to_owned();
    let mut removed = 0;
    while let Some(start) = out.find("#[cfg(test)]") {
        let Some(open) = out[start..].find(['{', ';']).map(|at| start + at) else { break };
        let mut end = open + 1;
        if out[open..].starts_with('{') {
            let mut depth = 1;
            for (at, c) in out[open + 1..].char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    end = open + 1 + at + 1;
                    break;
                }
            }
        }
        // Lines stay where they are, so that findings name the right one.
        let lines = out[start..end].matches('\n').count();
        removed += lines + 1;
        out.replace_range(start..end, &"\n".repeat(lines));
    }
    (out, removed)
}

#[track_caller]
fn assert_none(what: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

#[test]
fn each_part_imports_only_what_it_may() {
    let mut findings = Vec::new();
    for source in sources() {
        if FREE.contains(&source.part.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(part, _)| *part == source.part) else {
            findings.push(format!("src/{}: not in the table of parts", source.path));
            continue;
        };
        // Tests may build what their part gets handed.
        if source.is_test() {
            continue;
        }
        for (name, line) in imports(&without_tests(&source.code).0, "crate") {
            if name != source.part && !allowed.contains(&name.as_str()) {
                findings.push(format!("src/{}:{line}: {} imports {name}", source.path, source.part));
            }
        }
    }
    assert_none("imports against the table", findings);
}

#[test]
fn no_part_climbs_out_through_super() {
    let mut findings = Vec::new();
    for source in sources() {
        for at in words(&source.code, "super") {
            let rest = source.code[at + "super".len()..].trim_start();
            let line = line_of(&source.code, at);
            if rest.strip_prefix("::").is_some_and(|rest| rest.trim_start().starts_with("super")) {
                findings.push(format!("src/{}:{line}: super::super", source.path));
            }
            // At the top of a part, `super` is the crate's root.
            let depth = source.code[..at].matches('{').count() - source.code[..at].matches('}').count();
            let is_top = source.path == format!("{}.rs", source.part)
                || source.path == format!("{}/mod.rs", source.part);
            if is_top && depth == 0 {
                findings.push(format!("src/{}:{line}: super is the crate root here", source.path));
            }
        }
    }
    assert_none("super", findings);
}

#[test]
fn the_root_exports_modules_only() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.path == "lib.rs") {
        for (number, line) in source.code.lines().enumerate() {
            let line = line.trim();
            if !(line.is_empty() || line.starts_with("pub mod ") && line.ends_with(';')) {
                findings.push(format!("src/lib.rs:{}: {line}", number + 1));
            }
        }
    }
    assert_none("src/lib.rs is the list of modules and nothing else", findings);
}

#[test]
fn crates_stay_in_their_parts() {
    let mut findings = Vec::new();
    for source in sources() {
        for (name, parts) in CRATES {
            if parts.contains(&source.part.as_str()) {
                continue;
            }
            for at in words(&source.code, name) {
                let after = source.code[at + name.len()..].trim_start();
                let line = source.code[..at].rsplit('\n').next().unwrap_or("").trim_start();
                if after.starts_with("::") || line.starts_with("use ") || line.starts_with("extern crate ") {
                    let line = line_of(&source.code, at);
                    findings.push(format!("src/{}:{line}: {name} belongs in {parts:?}", source.path));
                }
            }
        }
    }
    assert_none("crates outside their parts", findings);
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for source in sources() {
        let lines = source.code.lines().count();
        let lines = lines.saturating_sub(without_tests(&source.code).1);
        if lines > MOST_LINES {
            findings.push(format!("src/{}: {lines} lines", source.path));
        }
    }
    assert_none(&format!("files over {MOST_LINES} lines"), findings);
}

#[test]
fn the_time_is_handed_in() {
    let mut findings = Vec::new();
    for source in sources() {
        if source.path == "types/clock.rs" {
            continue;
        }
        for (at, _) in source.code.match_indices("SystemTime::now") {
            findings.push(format!("src/{}:{}", source.path, line_of(&source.code, at)));
        }
    }
    assert_none("SystemTime::now outside types/clock.rs", findings);
}

#[test]
fn parsers_are_never_async() {
    let mut findings = Vec::new();
    for source in sources() {
        let is_parser = matches!(source.part.as_str(), "types" | "mail" | "smtp");
        // The client and the stream wait for the network; what they read is parsed elsewhere.
        let waits = source.path.starts_with("smtp/client") || source.path == "smtp/stream.rs";
        if !is_parser || waits {
            continue;
        }
        let code = without_tests(&source.code).0;
        for word in ["async", "await"] {
            if words(&code, word).next().is_some() {
                findings.push(format!("src/{}: {word}", source.path));
            }
        }
        if words(&code, "tokio").next().is_some() {
            findings.push(format!("src/{}: tokio", source.path));
        }
    }
    assert_none("async in parsers", findings);
}

#[test]
fn app_has_no_methods() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.part == "app") {
        for (at, _) in source.code.match_indices("impl App ") {
            findings.push(format!("src/{}:{}", source.path, line_of(&source.code, at)));
        }
    }
    assert_none(
        "App is built once and holds the parts; work is done by functions that take a part",
        findings,
    );
}

#[test]
fn nothing_is_left_for_later() {
    let mut findings = Vec::new();
    for source in sources() {
        for word in ["todo", "unimplemented"] {
            for at in words(&source.code, word) {
                if source.code[at + word.len()..].starts_with('!') {
                    findings.push(format!("src/{}:{}: {word}!", source.path, line_of(&source.code, at)));
                }
            }
        }
    }
    assert_none("unfinished code", findings);
}

#[test]
fn every_file_says_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.part != "main" && !source.is_test()) {
        let text = fs::read_to_string(root.join(&source.path)).unwrap_or_default();
        if !text.trim_start().starts_with("//!") {
            findings.push(format!("src/{}", source.path));
        }
    }
    assert_none("files that do not open with //!", findings);
}

#[test]
fn the_table_has_no_circle() {
    // Parts in the order of the table: each imports only what stands above it, so none can reach
    // itself.
    let mut above = BTreeSet::new();
    for (part, allowed) in MAY_IMPORT {
        for name in *allowed {
            assert!(above.contains(name), "{part} may import {name}, which does not stand above it");
        }
        above.insert(*part);
    }
}

mod of_the_reader {
    use crate::architecture::{heads, imports, stripped, without_tests};

    #[test]
    fn comments_and_literals_are_blanked() {
        let code = stripped(
            "use crate::a; // crate::b\n/* crate::c /* x */ */ let s = \"crate::d\\\"\"; r#\"crate::e\"#",
        );
        let names: Vec<String> = imports(&code, "crate").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a"]);
        let code = stripped("fn f<'a>(c: &'a str) -> char { '\"' } use crate::x; '\\'' crate::y");
        let names: Vec<String> = imports(&code, "crate").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["x", "y"]);
    }

    #[test]
    fn groups_are_read() {
        assert_eq!(heads("{a::{b, c}, d, e::f}; crate"), ["a", "d", "e"]);
        assert_eq!(heads("a::b"), ["a"]);
    }

    #[test]
    fn test_modules_are_not_counted() {
        let (code, lines) = without_tests("a\n#[cfg(test)]\nmod tests {\n fn x() {}\n}\nb\n");
        assert_eq!(code, "a\n\n\n\n\nb\n");
        assert_eq!(lines, 4);
    }
}
