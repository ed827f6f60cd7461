//! Every statement of the store, prepared, and its query plan (tests only).
//!
//! Statements are found in the source text: a literal that follows `sql(`. Those that the program
//! puts together at run time are not found; `recorded` hears them while they run.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use rusqlite::StatementStatus;

use crate::bus::Bus;
use crate::store::db::Conn;
use crate::store::dialect::to_sqlite;
use crate::store::directory::fixture::Fixture;
use crate::store::directory::{access, address, login, token};
use crate::store::email::query::{EmailQuery, Filter, Sort, SortBy, Start};
use crate::store::email::read;
use crate::store::error::StoreError;
use crate::store::migrate::migrate_sqlite;
use crate::store::testing::{OWNER, database};
use crate::store::{Store, change, mailbox};
use crate::types::address::Address;
use crate::types::clock::Clock;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// All tables.
const SCHEMA: &str = concat!(
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_directory.sql"),
    include_str!("../../migrations/sqlite/0003_web_push.sql"),
    include_str!("../../migrations/sqlite/0004_integrators.sql"),
    include_str!("../../migrations/sqlite/0005_programs.sql"),
);

/// Files whose statements may read all of a table: they are on the path of no request.
const MAY_SCAN_FILES: [&str; 2] = ["cluster/mod.rs", "cluster/sweep.rs"];

/// Other statements that read all of a table, by how they begin, with the reason.
const MAY_SCAN: [(&str, &str); 5] = [
    (
        "select name, created_at, postmaster_account_id, catch_all_account_id, dkim_keys from domain order by name",
        "domain list",
    ),
    ("select postmaster_account_id from domain where postmaster_account_id > 0", "domains are few"),
    ("update domain set catch_all_account_id = 0", "domains are few; an account goes"),
    ("update domain set postmaster_account_id = 0", "domains are few; an account goes"),
    ("select name from domain where postmaster_account_id = $1", "domains are few; an account goes"),
];

/// A statement and the file, below `src/store/`, that has it.
struct Statement {
    file: String,
    text: String,
}

/// An empty database with the schema.
fn database() -> Conn {
    let mut conn = Conn::sqlite(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
    migrate_sqlite(&mut conn).unwrap();
    conn
}

/// The steps of the plan of a statement.
fn steps(conn: &Conn, text: &str) -> Vec<String> {
    let explained = format!("explain query plan {}", to_sqlite(text));
    let mut statement = conn.as_sqlite().prepare(&explained).unwrap();
    let rows = statement.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>();
    rows.unwrap()
}

/// The steps that read all of a table or of an index. Lists and the rows of a sub-query do not count:
/// they are as long as they must be.
fn scans(steps: &[String], text: &str) -> Vec<String> {
    let tables = |name: &str| {
        let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).peekable();
        let mut found = None;
        while let Some(word) = words.next() {
            // `from table`, `join table alias`, `update table`: what the step calls by its alias.
            if ["from", "join", "update"].contains(&word) {
                let table = words.peek().copied().unwrap_or_default();
                let mut rest = words.clone();
                rest.next();
                let alias = rest.next().unwrap_or_default();
                if table == name || alias == name {
                    found = Some(table);
                }
            }
        }
        found
    };
    steps
        .iter()
        .filter(|step| {
            let mut words = step.split(' ');
            words.next() == Some("SCAN")
                && words.next().is_some_and(|name| tables(name).is_some_and(is_table))
        })
        .cloned()
        .collect()
}

fn is_table(name: &str) -> bool {
    let schema = SCHEMA;
    schema.lines().any(|line| line == format!("create table {name} ("))
}

thread_local! {
    /// The statements that this thread has run since `recorded` began.
    static RECORDED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Notes a statement that is about to run, if somebody wants to know.
pub fn record(text: &str) {
    RECORDED.with_borrow_mut(|recorded| {
        if let Some(texts) = recorded {
            texts.push(text.to_owned());
        }
    });
}

thread_local! {
    /// What this thread's reads have cost.
    static WORK: std::cell::Cell<Work> = const { std::cell::Cell::new(Work { steps: 0, plans: 0 }) };
}

/// What statements cost, whatever the machine.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Steps of SQLite's virtual machine: about ten for each row that is looked at.
    pub steps: u64,
    /// Prepared statements that SQLite has planned anew.
    pub plans: u64,
}

/// Adds the work of a statement that has ended.
pub fn record_work(statement: &rusqlite::Statement<'_>) {
    let read = |status| u64::from(statement.reset_status(status).unsigned_abs());
    let (steps, plans) = (read(StatementStatus::VmStep), read(StatementStatus::RePrepare));
    let before = WORK.get();
    WORK.set(Work { steps: before.steps + steps, plans: before.plans + plans });
}

/// What a read on this thread answers, and what its statements cost.
pub async fn work_of<T>(read: impl Future<Output = T>) -> (T, Work) {
    let before = WORK.get();
    let answer = read.await;
    let after = WORK.get();
    (answer, Work { steps: after.steps - before.steps, plans: after.plans - before.plans })
}

/// The statements that a read runs. Writes run on a thread of their own and are not heard.
pub async fn recorded<T>(read: impl Future<Output = Result<T, StoreError>>) -> Vec<String> {
    RECORDED.set(Some(Vec::new()));
    let outcome = read.await;
    let texts = RECORDED.take().unwrap_or_default();
    assert!(outcome.is_ok(), "{texts:?}");
    assert!(!texts.is_empty(), "nothing was read on this thread");
    texts
}

/// Fails when a statement reads all of a table or sorts; the steps of its plan.
pub fn assert_range_read(text: &str) -> Vec<String> {
    let steps = steps(&database(), text);
    assert!(scans(&steps, text).is_empty(), "{text}\n{steps:#?}");
    assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE FOR ORDER BY")), "{text}\n{steps:#?}");
    steps
}

/// The literals that follow `sql(` in Rust source, as the compiler reads them.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("sql(") {
        let line_begins = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
        if source[line_begins..at].trim_start().starts_with("//") {
            continue;
        }
        let Some(literal) = source[at + 4..].trim_start().strip_prefix('"') else { continue };
        let mut text = String::new();
        let mut chars = literal.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => match chars.next() {
                    Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                    Some(escaped) => text.push(escaped),
                    None => break,
                },
                c => text.push(c),
            }
        }
        if text.contains("{queue}") {
            found.extend(QUEUES.iter().map(|queue| text.replace("{queue}", queue)));
        } else {
            found.push(text);
        }
    }
    found
}

/// The tables for which a statement may say `{queue}`.
const QUEUES: [&str; 5] = ["incoming", "outgoing", "index_queue", "push_queue", "webhook_queue"];

fn statements() -> Vec<Statement> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let file = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        let source = std::fs::read_to_string(&path).unwrap();
        // This file has examples, tests may scan what they like, and two files ask Citus alone.
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        if !["plan.rs", "lanes.rs", "cluster/shards.rs"].contains(&file.as_str())
            && !file.ends_with("tests.rs")
        {
            found.extend(literals(code).into_iter().map(|text| Statement { file: file.clone(), text }));
        }
    }
    found
}

#[test]
fn every_statement_prepares() {
    let conn = database();
    let statements = statements();
    assert!(statements.len() > 150, "only {} statements found", statements.len());
    let failures: Vec<String> = statements
        .iter()
        .filter_map(|Statement { file, text }| {
            let error = conn.as_sqlite().prepare(&to_sqlite(text)).err()?;
            Some(format!("{file}: {error}\n  {text}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn every_statement_prepares_on_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    let Some(url) = database::of_folder(folder.path()) else {
        eprintln!("left out: POSTRIDER_TEST_POSTGRES names no server; tests/run starts one");
        return;
    };
    let store = Store::on_postgres(&url, Bus::memory(), Clock::system()).unwrap();
    let mut failures = Vec::new();
    for Statement { file, text } in statements().into_iter().filter(|found| found.file != "testing.rs") {
        let snapshot = &mut *store.read().await.unwrap();
        let Some(postgres) = snapshot.as_postgres() else { panic!("this is PostgreSQL") };
        let prepared = postgres.control(&format!("prepare tried as {text}; deallocate tried")).await;
        failures.extend(prepared.err().map(|error| format!("{file}: {error}\n  {text}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn no_statement_reads_all_of_a_table() {
    let conn = database();
    let mut failures = Vec::new();
    for Statement { file, text } in statements() {
        let may_scan = MAY_SCAN_FILES.contains(&file.as_str())
            || MAY_SCAN.iter().any(|(beginning, _)| text.starts_with(beginning));
        let steps = steps(&conn, &text);
        if !may_scan && !scans(&steps, &text).is_empty() {
            failures.push(format!("{file}: {text}\n  {}", steps.join("\n  ")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Tables of which every row belongs to an account, by their first column; and the queues.
fn tables_of(first_column: &str) -> Vec<String> {
    let schema = SCHEMA;
    let mut found = Vec::new();
    let mut lines = schema.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("create table ").and_then(|rest| rest.strip_suffix(" ("))
            && lines.next().is_some_and(|column| column.trim_start().starts_with(first_column))
        {
            found.push(name.to_owned());
        }
    }
    found
}

/// The tables that a statement names, once for each time.
fn named_tables<'a>(text: &'a str, tables: &'a [String]) -> Vec<&'a str> {
    let words: Vec<&str> = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let after = |pair: &[&'a str]| match pair {
        [before, name] if ["from", "join", "update", "into"].contains(before) => Some(*name),
        _ => None,
    };
    words.windows(2).filter_map(after).filter(|name| tables.iter().any(|table| table == name)).collect()
}

/// Statements that name the accounts of a login instead, by how they begin, with the reason.
const OF_A_LOGIN: [(&str, &str); 1] = [(
    "delete from mailbox_subscription where login_id = any($1)",
    "a login goes, and with it what it wants to see",
)];

/// A statement that does not name its account may answer, or change, what is another's; on several
/// machines it asks them all.
#[test]
fn every_statement_names_its_account_or_its_lane() {
    let (accounts, lanes) = (tables_of("account_id integer"), tables_of("lane integer"));
    assert!(accounts.len() > 15 && lanes.len() == 8, "{accounts:?} {lanes:?}");
    let mut failures = Vec::new();
    for Statement { file, text } in statements() {
        // On the path of no request.
        let is_of_a_login = OF_A_LOGIN.iter().any(|(beginning, _)| text.starts_with(beginning));
        if is_of_a_login || MAY_SCAN_FILES.contains(&file.as_str()) {
            continue;
        }
        for (tables, column) in [(&accounts, "account_id"), (&lanes, "lane")] {
            let wanted = named_tables(&text, tables).len();
            let is_insert = text.starts_with("insert into");
            let inserted = usize::from(is_insert && text.contains(&format!("({column}, ")));
            let compared = text.matches(&format!("{column} = ")).count();
            if wanted > inserted + compared {
                failures.push(format!("{file}: {column} is not named for each table: {text}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_statement_without_its_account_is_seen() {
    let tables = tables_of("account_id integer");
    let text = "select m.id from mailbox m join email e on e.account_id = $1 and e.id = m.id where m.account_id = $1";
    assert_eq!(named_tables(text, &tables), ["mailbox", "email"]);
    assert!(!tables.contains(&"account".to_owned()) && !tables.contains(&"address".to_owned()));
}

#[test]
fn what_may_scan_is_still_there() {
    let statements = statements();
    for (beginning, reason) in MAY_SCAN {
        let is_there = statements.iter().any(|statement| statement.text.starts_with(beginning));
        assert!(is_there, "nothing begins with this any more ({reason}): {beginning}");
    }
}

/// A list view: which filter, and the index that must serve it.
fn list_views() -> Vec<(Option<Filter>, &'static str)> {
    let in_mailbox = Filter::InMailbox(Id(5));
    let unread = Filter::Keyword("$seen".to_owned(), false);
    let flagged = Filter::Keyword("$flagged".to_owned(), true);
    vec![
        (None, "PRIMARY KEY (account_id=? AND mailbox_id=?)"),
        (Some(in_mailbox.clone()), "PRIMARY KEY (account_id=? AND mailbox_id=?)"),
        (Some(Filter::And(vec![in_mailbox.clone(), unread.clone()])), "membership_unread"),
        (Some(Filter::And(vec![in_mailbox, flagged.clone()])), "membership_flagged"),
        (Some(unread), "membership_unread"),
        (Some(flagged), "membership_flagged"),
    ]
}

#[tokio::test]
async fn a_list_view_is_one_range_read() {
    let fixture = Fixture::on_sqlite().await;
    let account = fixture.account("alice@example.test").await.account;
    let mut snapshot = fixture.store.read().await.unwrap();
    for (filter, index) in list_views() {
        for (is_ascending, collapse_threads) in [(false, false), (true, false), (false, true)] {
            let query = EmailQuery {
                account,
                filter: filter.clone(),
                sort: vec![Sort { by: SortBy::ReceivedAt, is_ascending }],
                collapse_threads,
                start: Start::Position(0),
                limit: 50,
                calculate_total: false,
            };
            let query = query.prepare(&mut snapshot).await.unwrap();
            let texts = recorded(query.run(&mut snapshot)).await;
            assert_eq!(texts.len(), 1, "{texts:?}");
            let steps = assert_range_read(&texts[0]);
            assert!(steps.len() == 1 && steps[0].contains(index), "{}\n{steps:#?}", texts[0]);
        }
    }
}

#[tokio::test]
async fn a_statement_is_planned_once() {
    let fixture = Fixture::on_sqlite().await;
    let alice = fixture.account("alice@example.test").await.account;
    let bob = fixture.account("bob@example.test").await.account;
    for (round, account) in [alice, bob, alice].into_iter().enumerate() {
        for (filter, _) in list_views() {
            let snapshot = &mut *fixture.store.read().await.unwrap();
            let query = EmailQuery {
                account,
                filter,
                sort: Vec::new(),
                collapse_threads: false,
                start: Start::Position(round as i64),
                limit: 50 + round,
                calculate_total: true,
            };
            let read = async {
                change::state_of(snapshot, account, ObjectType::Email).await?;
                let ids = query.prepare(snapshot).await?.run(snapshot).await?.unwrap().ids;
                read::rows(snapshot, account, &ids).await
            };
            let (rows, work) = work_of(read).await;
            rows.unwrap();
            assert_eq!((work.plans, work.steps > 0), (0, true), "{work:?} in round {round}");
        }
    }
}

#[tokio::test]
async fn what_each_request_reads_is_a_range_read() {
    let fixture = Fixture::on_sqlite().await;
    let alice = fixture.account("alice@example.test").await;
    let account = alice.account;
    let mut snapshot = fixture.store.read().await.unwrap();
    let conn = &mut *snapshot;
    let mut texts = Vec::new();
    texts.extend(recorded(mailbox::all(conn, account, OWNER)).await);
    texts.extend(recorded(mailbox::by_ids(conn, account, OWNER, &[Id(5)])).await);
    texts.extend(recorded(read::rows(conn, account, &[Id(5)])).await);
    texts.extend(recorded(read::structures(conn, account, &[Id(5)])).await);
    texts.extend(recorded(change::state_of(conn, account, ObjectType::Email)).await);
    let head = change::state_of(conn, account, ObjectType::Mailbox).await.unwrap();
    let since = State::at(head.epoch, 0);
    texts.extend(recorded(change::changes_since(conn, account, ObjectType::Mailbox, since, 9)).await);
    texts.extend(recorded(login::verify_data(conn, "alice@example.test")).await);
    texts.extend(recorded(token::find(conn, &format!("pr_{}", "a".repeat(52)), 0)).await);
    let address = Address::parse("bob+x@example.test").unwrap();
    texts.extend(recorded(address::resolve(conn, &address)).await);
    assert!(texts.iter().any(|text| text.contains("from change ")));
    for text in texts {
        assert_range_read(&text);
    }
    // A handful of rows may be sorted.
    for text in recorded(access::accounts_of_login(conn, alice.login)).await {
        assert!(scans(&steps(&database(), &text), &text).is_empty(), "{text}");
    }
}

#[test]
fn a_scan_is_seen_as_one() {
    let conn = database();
    for (text, is_scan) in [
        ("select id from account where name = $1", true),
        ("select id from account where id = any($1)", false),
        ("select e.id from email e where e.size > $1", true),
        ("select count(*) from membership", true),
        ("update address set is_primary = 0", true),
        ("select a.id from account a join email e on e.size = a.id where a.id = $1", true),
        ("delete from incoming where lane = $1 and id in (select id from incoming where lane = $1)", false),
    ] {
        assert_eq!(!scans(&steps(&conn, text), text).is_empty(), is_scan, "{text}");
    }
}

#[test]
fn literals_are_read_as_the_compiler_reads_them() {
    let source =
        "sql(\"a \\\n        b\") sql(\n   \"c \\\"d\\\"\") sql(text) // sql(\"e\")\n// sql(\"f\")\n";
    assert_eq!(literals(source), ["a b", "c \"d\"", "e"]);
}
