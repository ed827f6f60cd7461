use proptest::prelude::*;

use super::*;
use crate::index::Index;
use crate::index::document::matches;
use crate::index::query::Field;
use crate::mail::text::SearchText;

const ANNA: AccountId = AccountId(Id(7));
const BERT: AccountId = AccountId(Id(8));

fn open(folder: &Path) -> Index {
    Index::open(&format!("tantivy:{}", folder.display())).unwrap()
}

fn put(account: AccountId, email: i64, text: SearchText) -> Operation {
    Operation::Put { account, email: Id(email), text: Box::new(text) }
}

fn subject(text: &str) -> SearchText {
    SearchText { subject: text.into(), ..SearchText::default() }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn found(index: &Index, account: AccountId, text: &str) -> Vec<i64> {
    let query = TextQuery::parse(Field::Text, text);
    run(index.search(account, &query)).unwrap().into_iter().map(|id| id.0).collect()
}

fn apply(index: &Index, batch: Vec<Operation>) {
    run(index.apply(batch)).unwrap();
}

#[test]
fn changes_are_found_at_once_and_may_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path());
    let batch = vec![put(ANNA, 1, subject("first")), put(ANNA, 2, subject("second"))];
    apply(&index, batch.clone());
    apply(&index, batch);
    assert_eq!(found(&index, ANNA, "first"), [1]);
    assert_eq!(found(&index, ANNA, ""), [1, 2]);
    apply(&index, vec![put(ANNA, 1, subject("changed"))]);
    assert_eq!(found(&index, ANNA, "first"), [0; 0]);
    assert_eq!(found(&index, ANNA, "chan"), [1]);
    let delete = Operation::Delete { account: ANNA, email: Id(1) };
    apply(&index, vec![put(ANNA, 1, subject("again")), delete.clone(), delete.clone()]);
    apply(&index, vec![delete]);
    assert_eq!(found(&index, ANNA, ""), [2]);
}

#[test]
fn a_phrase_does_not_go_on_in_the_next_value() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path());
    let attachment_names = vec!["日本café".into(), "ที่".into(), "x".into()];
    apply(&index, vec![put(ANNA, 1, SearchText { attachment_names, ..SearchText::default() })]);
    assert_eq!(found(&index, ANNA, "本café"), [1]);
    assert_eq!(found(&index, ANNA, "caféที่"), [0; 0]);
    assert_eq!(found(&index, ANNA, "\"ที่ x\""), [0; 0]);
}

#[test]
fn accounts_are_apart() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path());
    // The same Email id in both: keys are made of both.
    apply(&index, vec![put(ANNA, 1, subject("secret")), put(BERT, 1, subject("other"))]);
    assert_eq!(found(&index, ANNA, "secret"), [1]);
    assert_eq!(found(&index, BERT, "secret"), [0; 0]);
    assert_eq!(found(&index, BERT, "se"), [0; 0]);
    apply(&index, vec![Operation::Delete { account: BERT, email: Id(1) }]);
    assert_eq!(found(&index, ANNA, ""), [1]);
    apply(&index, vec![put(BERT, 2, subject("other")), Operation::DeleteAccount { account: ANNA }]);
    assert_eq!(found(&index, ANNA, ""), [0; 0]);
    assert_eq!(found(&index, BERT, ""), [2]);
}

/// What a crash leaves is what is on disk while the writer is at work.
fn copy_as_after_a_crash(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from.join(VERSION_FOLDER)).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(VERSION_FOLDER);
        std::fs::create_dir_all(&target).unwrap();
        std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
}

#[test]
fn what_was_applied_survives_a_crash_and_the_rest_leaves_no_trace() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let index = open(folder.path());
    apply(&index, vec![put(ANNA, 1, subject("kept"))]);
    let Index::Tantivy(inner) = &index;
    {
        let mut writer = inner.0.writer.lock().unwrap();
        let writer = writer.as_mut().unwrap();
        writer.add_document(inner.0.fields.document(ANNA, Id(2), &subject("lost"))).unwrap();
        writer.prepare_commit().unwrap();
    }
    copy_as_after_a_crash(folder.path(), crashed.path());
    let index = open(crashed.path());
    assert!(!index.needs_rebuild());
    assert_eq!(found(&index, ANNA, ""), [1]);
    apply(&index, vec![put(ANNA, 2, subject("new"))]);
    assert_eq!(found(&index, ANNA, ""), [1, 2]);
}

#[test]
fn a_failed_batch_is_gone_and_the_next_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path());
    apply(&index, vec![put(ANNA, 1, subject("one"))]);
    let Index::Tantivy(inner) = &index;
    let other = inner.other_writer();
    assert!(run(index.apply(vec![put(ANNA, 2, subject("two"))])).is_err());
    drop(other);
    apply(&index, vec![put(ANNA, 3, subject("three"))]);
    assert_eq!(found(&index, ANNA, ""), [1, 3]);
}

#[test]
fn a_new_a_broken_and_an_old_index_want_to_be_built() {
    let folder = tempfile::tempdir().unwrap();
    let reopen = || open(folder.path());
    assert!(reopen().needs_rebuild());
    assert!(reopen().needs_rebuild(), "until it is done");
    let index = reopen();
    index.rebuild_queued().unwrap();
    assert!(!index.needs_rebuild());
    apply(&index, vec![put(ANNA, 1, subject("one"))]);
    drop(index);
    assert_eq!(found(&reopen(), ANNA, "one"), [1]);
    assert!(!reopen().needs_rebuild());

    let version = folder.path().join(VERSION_FOLDER);
    let damage = |wanted: &dyn Fn(&str) -> bool| {
        for entry in std::fs::read_dir(&version).unwrap() {
            let entry = entry.unwrap();
            if wanted(&entry.file_name().to_string_lossy()) {
                std::fs::write(entry.path(), b"rubbish").unwrap();
            }
        }
    };
    for wanted in [|name: &str| name == "meta.json", |name: &str| !name.starts_with(['.', 'm'])] {
        damage(&wanted);
        let index = reopen();
        assert!(index.needs_rebuild());
        assert_eq!(found(&index, ANNA, ""), [0; 0]);
        apply(&index, vec![put(ANNA, 1, subject("one"))]);
        assert_eq!(found(&index, ANNA, "one"), [1]);
        index.rebuild_queued().unwrap();
    }

    std::fs::rename(&version, folder.path().join("v0")).unwrap();
    assert!(reopen().needs_rebuild());
    assert!(!folder.path().join("v0").exists());
}

#[test]
fn addresses_of_no_engine_are_refused() {
    assert!(matches!(Index::open("mysql:x"), Err(IndexError::UnknownEngine(_))));
}

/// Texts in which tokens meet often, of all kinds of characters.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "cat",
        "cats",
        "Café",
        "cafe",
        "ca",
        "x",
        "x65e5",
        "b",
        "9",
        "2024",
        "a@cat.b",
        "日本",
        "本",
        "日",
        "語",
        "한국",
        "국",
        "ที่",
        "go日",
        "🎉",
        "שָׁלוֹם",
        "שלום",
        "ё",
        "-",
        ".",
        "\u{301}",
        "'",
        "\"",
        "\\",
    ]);
    let gap = prop::sample::select(vec!["", " ", " ", "\n", ", "]);
    prop::collection::vec((piece, gap), 0..12)
        .prop_map(|pieces| pieces.into_iter().flat_map(|(piece, gap)| [piece, gap]).collect())
}

fn any_message() -> impl Strategy<Value = SearchText> {
    let names = prop::collection::vec(any_text(), 0..3);
    let header = (prop::sample::select(vec!["X-One", "x-one", "X-Two", "Subject"]), any_text());
    let headers = prop::collection::vec(header, 0..4);
    (any_text(), any_text(), any_text(), any_text(), names, headers).prop_map(
        |(from, to, subject, body, attachment_names, headers)| SearchText {
            from,
            to,
            subject,
            body,
            attachment_names,
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..SearchText::default()
        },
    )
}

fn any_query() -> impl Strategy<Value = TextQuery> {
    let field = prop::sample::select(vec![
        Field::Text,
        Field::Text,
        Field::From,
        Field::Cc,
        Field::Subject,
        Field::Body,
        Field::Header("x-one".into()),
        Field::Header("absent".into()),
    ]);
    let text = prop_oneof![
        any_text(),
        any_text().prop_map(|text| format!("\"{}\"", text.replace(['"', '\\'], ""))),
        "[cx日本한9] ?[ca日本語국]{0,2}",
    ];
    (field, text).prop_map(|(field, text)| TextQuery::parse(field, &text))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_index_finds_what_the_direct_scan_finds(
        messages in prop::collection::vec(any_message(), 1..40),
        queries in prop::collection::vec(any_query(), 60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let index = open(folder.path());
        // Two batches make two segments; the other account has the same messages.
        let all: Vec<_> = messages.iter().enumerate().map(|(id, text)| (id as i64 + 1, text)).collect();
        let (left, right) = all.split_at(all.len() / 2);
        for half in [left, right] {
            let puts = half.iter().flat_map(|(id, text)| {
                [put(ANNA, *id, (*text).clone()), put(BERT, *id + 1000, (*text).clone())]
            });
            apply(&index, puts.collect());
        }
        for query in queries {
            let expected: Vec<Id> =
                all.iter().filter(|(_, text)| matches(text, &query)).map(|(id, _)| Id(*id)).collect();
            let found = run(index.search(ANNA, &query)).unwrap();
            prop_assert_eq!(found, expected, "{:?}", query);
        }
    }
}
