use super::*;
use crate::index::query::Field;
use crate::mail::text::SearchText;

const ANNA: AccountId = AccountId(Id(7));

fn open(folder: &Path) -> TantivyIndex {
    TantivyIndex::open(folder).unwrap()
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

fn found(index: &TantivyIndex, account: AccountId, text: &str) -> Vec<i64> {
    let query = TextQuery::parse(Field::Text, text);
    run(index.search(account, &query)).unwrap().into_iter().map(|id| id.0).collect()
}

fn apply(index: &TantivyIndex, batch: Vec<Operation>) {
    run(index.apply(batch)).unwrap();
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
    {
        let mut writer = index.0.writer.lock().unwrap();
        let writer = writer.as_mut().unwrap();
        writer.add_document(index.0.fields.document(ANNA, Id(2), &subject("lost"))).unwrap();
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
    let other = index.other_writer();
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
