//! Reads `docs/conformance/*.md`: the lists of what the standards require and of the tests that
//! cover it. A test that is named there and does not exist, or a requirement without any, fails.
//!
//! A table whose last column is headed "Test" is a table of requirements. The last cell of each of
//! its rows holds references of the form `` `tests/it/core.rs::name` `` or
//! `` `src/jmap/reference.rs::name` ``, or begins with one of [`EXCUSES`] and gives the reason.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How a row without a test may begin, each followed by a reason.
const EXCUSES: [&str; 2] = ["not offered:", "not bound to a server:"];

/// The head of the column with the tests.
const TEST_COLUMN: &str = "Test";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(String, String)> {
    let folder = root().join("docs/conformance");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("docs/conformance")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = format!("docs/conformance/{}", path.file_name().expect("name").to_string_lossy());
        (name, fs::read_to_string(&path).expect("UTF-8 text"))
    };
    paths.into_iter().map(read).collect()
}

/// The cells of a line of a table; `None` for any other line. A `\|` is no border.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let inner = inner.replace("\\|", "\u{1}");
    Some(inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect())
}

/// A row of a table of requirements.
struct Row {
    /// Where it stands, for messages.
    place: String,
    columns: usize,
    cells: Vec<String>,
}

/// The rows of all tables of requirements in a document.
fn rows(name: &str, text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    // The number of columns of the table of requirements that the line is in.
    let mut columns = None;
    let mut is_inside = false;
    for (number, line) in text.lines().enumerate() {
        let Some(cells) = cells(line) else {
            (columns, is_inside) = (None, false);
            continue;
        };
        if !is_inside {
            is_inside = true;
            columns = (cells.last().map(String::as_str) == Some(TEST_COLUMN)).then_some(cells.len());
            continue;
        }
        let is_rule = cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':'));
        if let Some(columns) = columns
            && !is_rule
        {
            rows.push(Row { place: format!("{name}:{}", number + 1), columns, cells });
        }
    }
    rows
}

/// The references to tests in a text, as file and function.
fn references(text: &str) -> Vec<(String, String)> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split_once(".rs::"))
        .map(|(file, function)| (format!("{file}.rs"), function.to_owned()))
        .collect()
}

/// The names of the test functions of a source file.
fn tests_of(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_marked = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_marked = true;
        } else if line.starts_with("#[") || line.starts_with("//") {
            // Another attribute or a comment between the mark and the function.
        } else {
            let rest = line.trim_start_matches("pub ").trim_start_matches("async ");
            if let (true, Some(rest)) = (is_marked, rest.strip_prefix("fn ")) {
                names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
            is_marked = false;
        }
    }
    names
}

#[track_caller]
fn assert_none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

#[test]
fn every_test_that_is_named_exists() {
    let mut known: HashMap<String, Option<Vec<String>>> = HashMap::new();
    let mut findings = Vec::new();
    for (name, text) in documents() {
        for (number, line) in text.lines().enumerate() {
            for (file, function) in references(line) {
                let is_source = file.starts_with("src/") || file.starts_with("tests/it/");
                let tests = known.entry(file.clone()).or_insert_with(|| {
                    let source = fs::read_to_string(root().join(&file)).ok().filter(|_| is_source);
                    source.map(|source| tests_of(&source))
                });
                match tests {
                    None => findings.push(format!("{name}:{}: there is no {file}", number + 1)),
                    Some(tests) if !tests.contains(&function) => {
                        findings.push(format!("{name}:{}: {file} has no test {function}", number + 1));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    assert_none("tests that do not exist", &findings);
}

#[test]
fn every_requirement_has_a_test_or_a_reason() {
    let mut findings = Vec::new();
    for (name, text) in documents() {
        let rows = rows(&name, &text);
        if rows.is_empty() {
            findings.push(format!("{name}: no table of requirements"));
        }
        for Row { place, columns, cells } in rows {
            if cells.len() != columns {
                findings.push(format!("{place}: {} cells instead of {columns}", cells.len()));
                continue;
            }
            if cells.iter().any(String::is_empty) {
                findings.push(format!("{place}: an empty cell"));
                continue;
            }
            let test = cells.last().map(String::as_str).unwrap_or_default();
            let has_reason = EXCUSES.iter().any(|excuse| {
                test.strip_prefix(excuse).is_some_and(|reason| reason.trim().len() >= "the URL".len())
            });
            if references(test).is_empty() && !has_reason {
                findings.push(format!("{place}: neither a test nor a reason: {test:?}"));
            }
        }
    }
    assert_none("requirements without a test", &findings);
}

#[test]
fn the_reader_of_these_lists_finds_what_is_wrong() {
    let text = "\
| Section | Requirement | Test |
|---|---|---|
| 1 | a \\| b | `tests/it/core.rs::x` and `src/a.rs::y` |
| 2 | c | |
| 3 | d | not offered: comes later |

| Word | Meaning |
|---|---|
| e | f |
";
    let rows = rows("list.md", text);
    let found: Vec<(&str, &str)> =
        rows.iter().map(|row| (row.place.as_str(), row.cells.last().expect("cell").as_str())).collect();
    assert_eq!(found.len(), 3, "the second table has no tests");
    assert_eq!(found[1], ("list.md:4", ""));
    assert_eq!(rows[0].cells[1], "a | b");
    let named = references(found[0].1);
    assert_eq!(named, [("tests/it/core.rs".into(), "x".into()), ("src/a.rs".to_owned(), "y".to_owned())]);
    let source = "#[test]\n#[ignore]\nfn one() {\n}\nfn helper() {\n#[tokio::test(start_paused = true)]\nasync fn two() {\n";
    assert_eq!(tests_of(source), ["one", "two"]);
}
