//! What every engine must do: the same tests over each. Meilisearch is tested when
//! POSTRIDER_TEST_MEILI_URL names an instance, such as `http://127.0.0.1:7700`, and
//! POSTRIDER_TEST_MEILI_KEY its key, if it wants one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;
use crate::config::engine::search_url;
use crate::index::document::matches;
use crate::index::query::Field;

const ANNA: AccountId = AccountId(Id(7));
const BERT: AccountId = AccountId(Id(8));

/// An index, and what was put into it.
struct Bench {
    index: Index,
    texts: BTreeMap<(AccountId, Id), SearchText>,
    /// For what waits on a network.
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

/// A new index in Meilisearch, if there is one to test.
fn meilisearch() -> Option<Index> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let address = variable("POSTRIDER_TEST_MEILI_URL")?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let url = format!("meilisearch:{address}?index=unit_{}_{number}", std::process::id());
    meilisearch_of(&url, "one")
}

fn meilisearch_of(url: &str, installation: &str) -> Option<Index> {
    let key = std::env::var("POSTRIDER_TEST_MEILI_KEY").ok().filter(|key| !key.is_empty()).map(Secret::new);
    Some(Index::open(&search_url(url).unwrap(), key.as_ref(), installation).unwrap())
}

/// Runs a test over each engine.
fn each(test: impl Fn(&mut Bench)) {
    let folder = tempfile::tempdir().unwrap();
    let tantivy = Index::in_folder(folder.path()).unwrap();
    let mut engines = vec![(tantivy, folder)];
    engines.extend(meilisearch().map(|index| (index, tempfile::tempdir().unwrap())));
    for (index, folder) in engines {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut bench = Bench { index, texts: BTreeMap::new(), runtime, _folder: folder };
        bench.run(bench.index.rebuild_queued()).unwrap();
        test(&mut bench);
        if let Index::Meilisearch(index) = &bench.index {
            bench.run(index.remove());
        }
    }
}

impl Bench {
    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn apply(&mut self, batch: Vec<Operation>) {
        for operation in &batch {
            match operation {
                Operation::Put { account, email, text } => {
                    self.texts.insert((*account, *email), (**text).clone());
                }
                Operation::Delete { account, email } => {
                    self.texts.remove(&(*account, *email));
                }
                Operation::DeleteAccount { account } => self.texts.retain(|(whose, _), _| whose != account),
            }
        }
        self.run(self.index.apply(batch)).unwrap();
    }

    /// What the index finds; what it is not certain of is looked at, as `Source` does.
    fn search(&self, account: AccountId, query: &TextQuery) -> Vec<Id> {
        let Found { mut certain, possible } = self.run(self.index.search(account, query)).unwrap();
        assert!(certain.iter().all(|id| !possible.contains(id)));
        let looked_at = |id: &Id| self.texts.get(&(account, *id)).is_some_and(|text| matches(text, query));
        certain.extend(possible.into_iter().filter(looked_at));
        certain.sort_unstable();
        certain
    }

    fn found(&self, account: AccountId, text: &str) -> Vec<i64> {
        let query = TextQuery::parse(Field::Text, text);
        self.search(account, &query).into_iter().map(|id| id.0).collect()
    }
}

fn put(account: AccountId, email: i64, text: SearchText) -> Operation {
    Operation::Put { account, email: Id(email), text: Box::new(text) }
}

fn subject(text: &str) -> SearchText {
    SearchText { subject: text.into(), ..SearchText::default() }
}

#[test]
fn changes_are_found_at_once_and_may_be_repeated() {
    each(|bench| {
        let batch = vec![put(ANNA, 1, subject("first")), put(ANNA, 2, subject("second"))];
        bench.apply(batch.clone());
        bench.apply(batch);
        assert_eq!(bench.found(ANNA, "first"), [1]);
        assert_eq!(bench.found(ANNA, ""), [1, 2]);
        bench.apply(vec![put(ANNA, 1, subject("changed"))]);
        assert_eq!(bench.found(ANNA, "first"), [0; 0]);
        assert_eq!(bench.found(ANNA, "chan"), [1]);
        let delete = Operation::Delete { account: ANNA, email: Id(1) };
        bench.apply(vec![put(ANNA, 1, subject("again")), delete.clone(), delete.clone()]);
        bench.apply(vec![delete]);
        assert_eq!(bench.found(ANNA, ""), [2]);
    });
}

#[test]
fn a_phrase_does_not_go_on_in_the_next_value() {
    each(|bench| {
        let attachment_names = vec!["日本café".into(), "ที่".into(), "x".into()];
        bench.apply(vec![put(ANNA, 1, SearchText { attachment_names, ..SearchText::default() })]);
        assert_eq!(bench.found(ANNA, "本café"), [1]);
        assert_eq!(bench.found(ANNA, "caféที่"), [0; 0]);
        assert_eq!(bench.found(ANNA, "\"ที่ x\""), [0; 0]);
    });
}

#[test]
fn accounts_are_apart() {
    each(|bench| {
        // The same Email id in both: keys are made of both.
        bench.apply(vec![put(ANNA, 1, subject("secret")), put(BERT, 1, subject("other"))]);
        assert_eq!(bench.found(ANNA, "secret"), [1]);
        assert_eq!(bench.found(BERT, "secret"), [0; 0]);
        assert_eq!(bench.found(BERT, "se"), [0; 0]);
        // Whatever is asked, it cannot end the condition in which it stands.
        for text in ["\" OR account EXISTS OR account = \"", "x\") OR (mark EXISTS", "*", "'a\\' secret\""] {
            let query = TextQuery::parse(Field::Subject, text);
            assert_eq!(bench.search(BERT, &query), [], "{text}");
            let query = TextQuery::header(text, Some(text));
            assert_eq!(bench.search(BERT, &query), [], "{text}");
        }
        bench.apply(vec![Operation::Delete { account: BERT, email: Id(1) }]);
        assert_eq!(bench.found(ANNA, ""), [1]);
        bench.apply(vec![put(BERT, 2, subject("other")), Operation::DeleteAccount { account: ANNA }]);
        assert_eq!(bench.found(ANNA, ""), [0; 0]);
        assert_eq!(bench.found(BERT, ""), [2]);
    });
}

#[test]
fn a_large_message_is_found_by_its_last_word() {
    each(|bench| {
        let body: String = (0..200_000).map(|number| format!("w{number:x} ")).collect();
        bench.apply(vec![put(ANNA, 1, SearchText { body: body + "needle", ..SearchText::default() })]);
        assert_eq!(bench.found(ANNA, "needle"), [1]);
        assert_eq!(bench.found(ANNA, "w30d3f"), [1]);
        // As many words as a query may have, and one that is not there.
        let many: String = (0..127).map(|number| format!("w{:x} ", number * 1_000)).collect();
        assert_eq!(bench.found(ANNA, &format!("{many} needle")), [1]);
        assert_eq!(bench.found(ANNA, &format!("{many} haystack")), [0; 0]);
    });
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

pub fn any_message() -> impl Strategy<Value = SearchText> {
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

pub fn any_query() -> impl Strategy<Value = TextQuery> {
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
        each(|bench| {
            // Two batches make two segments; the other account has the same messages.
            let all: Vec<_> = messages.iter().enumerate().map(|(id, text)| (id as i64 + 1, text)).collect();
            let (left, right) = all.split_at(all.len() / 2);
            for half in [left, right] {
                let puts = half.iter().flat_map(|(id, text)| {
                    [put(ANNA, *id, (*text).clone()), put(BERT, *id + 1000, (*text).clone())]
                });
                bench.apply(puts.collect());
            }
            for query in &queries {
                let matching = all.iter().filter(|(_, text)| matches(text, query));
                let expected: Vec<Id> = matching.map(|(id, _)| Id(*id)).collect();
                assert_eq!(bench.search(ANNA, query), expected, "{query:?}");
            }
        });
    }
}

#[test]
fn installations_that_share_an_index_are_filled_each_by_itself() {
    let Ok(address) = std::env::var("POSTRIDER_TEST_MEILI_URL") else { return };
    let url = format!("meilisearch:{address}?index=shared_{}", std::process::id());
    let (Some(one), Some(two)) = (meilisearch_of(&url, "one"), meilisearch_of(&url, "two")) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        one.rebuild_queued().await.unwrap();
        assert_eq!(one.needs_rebuild().await, Ok(false));
        assert_eq!(two.needs_rebuild().await, Ok(true), "nothing of it was ever put there");
        let query = TextQuery::parse(Field::Text, "word");
        assert!(two.search(BERT, &query).await.is_err());
        two.apply(vec![put(BERT, 1, subject("word"))]).await.unwrap();
        two.rebuild_queued().await.unwrap();
        assert_eq!(two.search(BERT, &query).await.unwrap().certain, [Id(1)]);
        assert_eq!(one.search(ANNA, &query).await.unwrap().certain, []);
        if let Index::Meilisearch(engine) = &one {
            engine.remove().await;
        }
    });
}

#[test]
fn an_index_that_is_not_filled_answers_nothing_and_one_process_fills_it() {
    let Some(index) = meilisearch() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert_eq!(index.needs_rebuild().await, Ok(true));
        index.apply(vec![put(ANNA, 1, subject("word"))]).await.unwrap();
        let query = TextQuery::parse(Field::Text, "word");
        assert!(matches!(index.search(ANNA, &query).await, Err(IndexError::Engine(_))));
        assert_eq!(index.may_rebuild(1, 1_000_000).await, Ok(true));
        assert_eq!(index.may_rebuild(2, 1_050_000).await, Ok(false), "the other one is at it");
        assert_eq!(index.may_rebuild(1, 1_050_000).await, Ok(true));
        assert_eq!(index.may_rebuild(2, 1_120_000).await, Ok(true), "the other one has fallen silent");
        index.rebuild_queued().await.unwrap();
        assert_eq!(index.needs_rebuild().await, Ok(false));
        assert_eq!(index.search(ANNA, &query).await.unwrap().certain, [Id(1)]);
        let Index::Meilisearch(engine) = &index else { return };
        engine.remove().await;
        assert!(index.search(ANNA, &query).await.is_err());
        assert_eq!(index.needs_rebuild().await, Ok(true), "it was lost");
        engine.remove().await;
    });
}
