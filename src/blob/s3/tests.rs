//! Blobs over a real S3 server, sound and broken.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::blob::BlobError;
use crate::blob::Blobs;
use crate::blob::sweep::{GRACE_MIN_MS, Swept};
use crate::blob::testing::s3::{Fault, KEY_ID, S3Server};
use crate::blob::testing::{Bench, blobs_at, noise};
use crate::config::engine::blob_url;
use crate::config::s3::S3Credentials;
use crate::store::blob::{BlobSource, INLINE_MAX};
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};
use crate::types::secret::Secret;

const MIB: usize = 1 << 20;

fn large() -> Bytes {
    noise(1, INLINE_MAX + 1)
}

/// Waits until it is so, at most for the ten seconds within which all is well again.
async fn within_ten_seconds<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "not within ten seconds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Breaks the server, and waits until that is known.
async fn broken(bench: &Bench, server: &S3Server, fault: Fault) {
    server.set(fault);
    within_ten_seconds(async || bench.blobs.ready().await.is_err().then_some(())).await;
}

/// What the account reads as the blob, in pieces.
async fn downloaded(bench: &Bench, account: AccountId, content: &Bytes) -> Result<Vec<u8>, BlobError> {
    let hash = crate::types::blob_id::BlobHash::of(content);
    let stream = bench.blobs.stream_range(account, &hash, None).await?.unwrap();
    let pieces: Vec<Bytes> = stream.pieces.try_collect().await?;
    Ok(pieces.concat())
}

async fn small_mail_goes_on(bench: &Bench, account: AccountId) {
    let begin = Instant::now();
    let small = noise(9, INLINE_MAX);
    let hash = bench.email(account, 9, &small).await;
    assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(small));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn what_is_put_is_read_back_whole_and_in_parts() {
    let (bench, server) = Bench::over_s3();
    let account = bench.account().await;
    for (len, parts) in [(INLINE_MAX + 1, 0), (5 * MIB, 0), (5 * MIB + 1, 2), (20 * MIB, 4)] {
        let content = noise(len as u64, len);
        let before = server.parts();
        let hash = bench.email(account, 1, &content).await;
        assert_eq!(server.parts() - before, parts, "{len}");
        assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(content.clone()));
        assert_eq!(downloaded(&bench, account, &content).await.unwrap(), content);
        let range = Some(len as u64 / 2..len as u64);
        let half = bench.blobs.stream_range(account, &hash, range).await.unwrap().unwrap();
        let half: Vec<Bytes> = half.pieces.try_collect().await.unwrap();
        assert_eq!(half.concat(), content[len / 2..]);
    }
    assert_eq!(bench.objects(), 4);
}

#[tokio::test]
async fn a_prefix_stands_before_every_name() {
    let (bench, server) = Bench::over_s3();
    let blobs = blobs_at(&server.url("blobs/one/two"), bench.folder.path(), bench.store.clone());
    let account = bench.account().await;
    let blob = blobs.prepare(large()).await.unwrap();
    let (hash, unit) =
        (blob.hash(), async move |tx: &mut Tx| blob.reference(tx, BlobSource::Email, Id(1), 0).await);
    bench.store.write(account, unit).await.unwrap();
    assert_eq!(blobs.read(account, &hash).await.unwrap(), Some(large()));
    let name: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = bench.folder.path().join("blobs/one/two");
    assert!(folder.join(&name[..2]).join(&name[2..4]).join(&name).exists());
    assert!(matches!(bench.blobs.read(account, &hash).await, Err(BlobError::NotFound(_))));
}

#[tokio::test]
async fn wrong_credentials_and_a_missing_bucket_are_told_as_such_and_lose_nothing() {
    let (bench, server) = Bench::over_s3();
    let (account, tmp) = (bench.account().await, bench.folder.path().join("tmp"));
    let hash = bench.email(account, 1, &large()).await;
    let secret = Secret::new("wrong");
    let wrong = S3Credentials { access_key_id: KEY_ID.to_owned(), secret_access_key: secret };
    let url = blob_url(&server.url("blobs")).unwrap();
    let blobs = Blobs::open(&url, Some(&wrong), &tmp, bench.store.clone()).unwrap();
    let told = blobs.read(account, &hash).await.unwrap_err();
    assert!(told.is_temporary(), "{told}");
    let told = told.to_string();
    assert!(told.contains("SignatureDoesNotMatch") && told.contains("s3_secret_access_key"), "{told}");
    // The bucket of another name: every object of it seems to be missing.
    for missing in ["blobz", "blobz/below"] {
        let blobs = blobs_at(&server.url(missing), bench.folder.path(), bench.store.clone());
        for told in [
            blobs.read(account, &hash).await.unwrap_err(),
            blobs.prepare(large()).await.unwrap_err(),
            blobs.prepare(noise(1, 9 * MIB)).await.unwrap_err(),
            blobs.prepare_existing(account, hash).await.unwrap_err(),
        ] {
            assert!(told.is_temporary() && told.to_string().contains("does not exist"), "{told}");
        }
    }
}

#[tokio::test]
async fn a_bucket_that_answers_503_puts_large_blobs_off_at_once_and_no_small_ones() {
    for fault in [Fault::Busy, Fault::Cuts] {
        let (bench, server) = Bench::over_s3();
        let account = bench.account().await;
        let content = noise(1, 9 * MIB);
        bench.email(account, 1, &content).await;
        server.set(fault);
        let begin = Instant::now();
        let told = bench.blobs.prepare(noise(2, INLINE_MAX + 1)).await.unwrap_err();
        assert!(told.is_temporary() && begin.elapsed() < Duration::from_secs(5), "{told}");
        // From now on nobody waits, and nothing is asked for them.
        let begin = Instant::now();
        for _ in 0..100 {
            let told = bench.blobs.prepare(noise(3, INLINE_MAX + 1)).await.unwrap_err();
            assert!(matches!(told, BlobError::Unavailable(_)), "{told}");
            assert!(downloaded(&bench, account, &content).await.is_err_and(|told| told.is_temporary()));
            assert!(bench.blobs.ready().await.is_err());
        }
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        assert_eq!(bench.count("select count(*) from blob").await, 2, "what is refused leaves no row");
        small_mail_goes_on(&bench, account).await;
        server.set(Fault::None);
        within_ten_seconds(async || bench.blobs.prepare(large()).await.ok()).await;
        assert_eq!(downloaded(&bench, account, &content).await.unwrap(), content);
        bench.blobs.ready().await.unwrap();
    }
}

#[tokio::test]
async fn a_bucket_that_hangs_is_waited_for_once() {
    let (bench, server) = Bench::over_s3();
    let account = bench.account().await;
    bench.email(account, 1, &large()).await;
    server.set(Fault::Hangs);
    let begin = Instant::now();
    let told = bench.blobs.prepare(noise(2, INLINE_MAX + 1)).await.unwrap_err();
    assert!(told.is_temporary() && begin.elapsed() < Duration::from_secs(12), "{told}");
    small_mail_goes_on(&bench, account).await;
    let begin = Instant::now();
    assert!(bench.blobs.prepare(noise(3, INLINE_MAX + 1)).await.is_err());
    assert!(bench.blobs.ready().await.is_err());
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    server.set(Fault::None);
    within_ten_seconds(async || bench.blobs.prepare(large()).await.ok()).await;
}

#[tokio::test]
async fn a_slow_bucket_is_slow_and_no_more() {
    let (bench, server) = Bench::over_s3();
    let account = bench.account().await;
    server.set(Fault::Slow(Duration::from_millis(700)));
    let content = noise(1, 9 * MIB);
    let hash = bench.email(account, 1, &content).await;
    assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(content));
    bench.blobs.ready().await.unwrap();
}

#[tokio::test]
async fn truncated_answers_are_errors() {
    let (bench, server) = Bench::over_s3();
    let account = bench.account().await;
    for len in [INLINE_MAX + 1, 3 * MIB] {
        let content = noise(len as u64, len);
        let hash = bench.email(account, 1, &content).await;
        server.set(Fault::Truncates);
        // Each try gets half of what is left.
        assert!(downloaded(&bench, account, &content).await.is_err_and(|told| told.is_temporary()));
        server.set(Fault::None);
        let read = within_ten_seconds(async || bench.blobs.read(account, &hash).await.ok()).await;
        assert_eq!(read, Some(content.clone()));
        server.set(Fault::Truncates);
        assert!(bench.blobs.read(account, &hash).await.is_err_and(|told| told.is_temporary()));
        server.set(Fault::None);
        within_ten_seconds(async || bench.blobs.check().is_ok().then_some(())).await;
    }
}

#[tokio::test]
async fn parts_of_an_upload_that_fails_are_removed() {
    let (bench, server) = Bench::over_s3();
    server.set(Fault::RefusesParts);
    let pieces = (0..300).map(|seed| Ok::<_, String>(noise(seed, 65_536)));
    let told = bench.blobs.prepare_stream(stream::iter(pieces), 1 << 30).await.unwrap_err();
    assert!(told.is_temporary(), "{told}");
    server.set(Fault::None);
    assert_eq!(bench.objects(), 0);
    let parts_left = async || {
        let names = std::fs::read_dir(bench.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let left: Vec<String> =
            names.filter(|name| name.contains("upload_id") || name.contains("upload-")).collect();
        left.is_empty().then_some(())
    };
    within_ten_seconds(parts_left).await;
    within_ten_seconds(async || bench.blobs.check().is_ok().then_some(())).await;
    // An upload whose maker goes away, with the first parts there already.
    let endless = stream::iter((0..300).map(|seed| Ok::<_, String>(noise(seed, 65_536))));
    server.set(Fault::Slow(Duration::from_millis(300)));
    let blobs = bench.blobs.clone();
    let upload = tokio::spawn(async move { blobs.prepare_stream(endless, 1 << 30).await });
    let before = server.parts();
    within_ten_seconds(async || (server.parts() > before).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    upload.abort();
    server.set(Fault::None);
    within_ten_seconds(parts_left).await;
    assert_eq!(bench.objects(), 0);
}

#[tokio::test]
async fn the_sweep_deletes_in_the_bucket_and_forgets_nothing_while_it_is_down() {
    let (bench, server) = Bench::over_s3();
    let account = bench.account().await;
    let kept = bench.email(account, 1, &large()).await;
    let gone = bench.email(account, 2, &noise(2, INLINE_MAX + 1)).await;
    bench.remove_email(account, 2, gone).await;
    bench.clock.advance_ms(GRACE_MIN_MS + 1);
    broken(&bench, &server, Fault::Busy).await;
    assert_eq!(bench.blobs.sweep(0).await.unwrap(), Swept::default());
    assert_eq!(bench.count("select count(*) from blob where deleting = 0").await, 2);
    server.set(Fault::None);
    within_ten_seconds(async || bench.blobs.check().is_ok().then_some(())).await;
    assert_eq!(bench.blobs.sweep(0).await.unwrap(), Swept { deleted: 1, ..Swept::default() });
    assert_eq!(bench.objects(), 1);
    assert_eq!(bench.blobs.read(account, &kept).await.unwrap(), Some(large()));
}

#[tokio::test]
async fn a_server_opens_while_its_bucket_is_out_of_reach() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://blobs?endpoint=http://{}", listener.local_addr().unwrap());
    drop(listener);
    let blobs = blobs_at(&url, bench.folder.path(), bench.store.clone());
    let told = blobs.ready().await.unwrap_err();
    assert!(told.is_temporary(), "{told}");
    assert!(blobs.prepare(large()).await.is_err());
    assert!(blobs.prepare(noise(1, INLINE_MAX)).await.is_ok());
}

#[tokio::test]
async fn a_client_that_takes_its_time_holds_no_request() {
    let (bench, server) = Bench::over_s3();
    let account = bench.account().await;
    let content = noise(1, 9 * MIB);
    let hash = bench.email(account, 1, &content).await;
    let before = server.requests();
    let mut stream = bench.blobs.stream_range(account, &hash, None).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.requests() - before, 1, "what nobody takes is not asked for");
    let mut read = 0;
    while let Some(piece) = stream.pieces.next().await {
        read += piece.unwrap().len();
    }
    assert_eq!(read, content.len());
}
