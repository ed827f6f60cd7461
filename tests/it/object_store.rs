//! Large messages in an S3 bucket, and what becomes of mail while it is out of reach.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::http::Request;
use crate::support::jmap::Client;
use crate::support::message;
use crate::support::s3::Bucket;
use crate::support::s3::server::Fault;
use crate::support::server::Server;
use crate::support::smtp::{Smtp, dot_stuffed};
use crate::support::{eventually, poll};

/// A message that is kept as an object.
fn large(to: &str, subject: &str) -> String {
    message::text("a@sender.test", to, subject, &"a line that makes the message long\r\n".repeat(5_000))
}

/// Hands a message in; the code of the last answer with its text.
fn hand_in(server: &Server, to: &str, mail: &str) -> (u16, String) {
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    smtp.command("MAIL FROM:<a@sender.test>").expect(250);
    smtp.command(&format!("RCPT TO:<{to}>")).expect(250);
    smtp.command("DATA").expect(354);
    smtp.send_raw(&dot_stuffed(mail.as_bytes())).expect("sent");
    let reply = smtp.reply();
    (reply.code, reply.text())
}

fn readiness(server: &Server) -> (u16, serde_json::Value) {
    let answer = server.request(Request::get("/readyz"));
    (answer.status, answer.json())
}

fn blob_of(client: &Client, email: &str) -> String {
    let email = client.get("Email", email, &["blobId"]);
    email["blobId"].as_str().expect("blobId").to_owned()
}

#[test]
fn large_mail_and_uploads_are_kept_in_the_bucket() {
    let bucket = Bucket::start();
    let server = bucket.keep_blobs_of(Server::builder()).start();
    let client = server.account();
    let mail = large(&client.address, "kept");
    server.deliver("a@sender.test", &client.address, &mail);
    let email = client.wait_for_subject("kept");
    let octets = client.download(&blob_of(&client, &email));
    assert!(octets.len() > mail.len() && octets.ends_with(b"makes the message long\r\n"));
    let upload: Vec<u8> =
        (0..20_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let answer = client.upload("application/octet-stream", upload.clone());
    let blob = answer["blobId"].as_str().expect("blobId");
    assert!(client.download(blob) == upload);
    assert!(bucket.server.parts() >= 3, "in parts");
    assert!(bucket.objects() >= 2);
    assert!(!server.data().join("blobs").exists(), "nothing is kept here");
    assert_eq!(readiness(&server).0, 200);
    assert_eq!(server.metric("postrider_object_store_up"), Some(1.0));
    assert!(server.metric("postrider_object_store_requests_total").is_some_and(|count| count > 5.0));
    assert!(server.metric("postrider_object_store_request_seconds_count").is_some());
    let shown = server.cli(&["config"]);
    assert!(shown.contains("s3_secret_access_key") && !shown.contains("geheim"), "{shown}");
    assert!(!server.log().contains("geheim"));
}

#[test]
fn while_the_bucket_is_down_large_mail_is_put_off_and_small_mail_goes_on() {
    let bucket = Bucket::start();
    let server = bucket.keep_blobs_of(Server::builder()).start();
    let client = server.account();
    let to = client.address.clone();
    server.deliver("a@sender.test", &to, large(&to, "before"));
    let before = client.wait_for_subject("before");
    let blob_before = blob_of(&client, &before);
    // What is not indexed yet is read by a text search itself, which then fails with the bucket.
    eventually("it is indexed", || (server.metric("postrider_queue_messages") == Some(0.0)).then_some(()));
    for fault in [Fault::Busy, Fault::Hangs] {
        bucket.server.set(fault);
        let (code, text) = hand_in(&server, &to, &large(&to, "large"));
        assert_eq!(code, 451, "{text}");
        assert!(text.starts_with("4."), "{text}");
        // It is known now: nobody waits any more.
        let begin = Instant::now();
        let (code, text) = hand_in(&server, &to, &large(&to, "large"));
        assert_eq!(code, 451, "{text}");
        let upload = client.upload_response("application/octet-stream", vec![7; 9_000_000]);
        assert_eq!(upload.status, 503, "{upload:?}");
        assert!(upload.header("retry-after").is_some());
        let path = client.download_path(&blob_before, "x", "text/plain");
        assert_eq!(server.request(client.signed(Request::get(&path))).status, 503);
        // An answer serves for a second.
        let told = eventually("it says so", || {
            let (status, told) = readiness(&server);
            (status == 503).then_some(told)
        });
        assert_eq!((&told["ready"], &told["database"]), (&json!(false), &json!("ok")));
        assert!(told["blobs"].as_str().is_some_and(|cause| cause != "ok"), "{told}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert_eq!(server.metric("postrider_object_store_up"), Some(0.0));
        // Small mail comes in, is read, found, uploaded, sent on its way.
        let subject = format!("small {fault:?}");
        server.deliver("a@sender.test", &to, message::text("a@sender.test", &to, &subject, "small"));
        let small = client.wait_for_subject(&subject);
        assert!(!client.download(&blob_of(&client, &small)).is_empty());
        client.upload("text/plain", "small");
        eventually("small mail is found", || {
            client.query(json!({ "subject": format!("{fault:?}") })).first().cloned()
        });
        let begin = Instant::now();
        bucket.server.set(Fault::None);
        let taken =
            poll(|| (hand_in(&server, &to, &large(&to, &format!("after {fault:?}"))).0 == 250).then_some(()));
        assert!(taken.is_some() && begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        client.wait_for_subject(&format!("after {fault:?}"));
        assert!(!client.download(&blob_before).is_empty());
        eventually("it is ready", || (readiness(&server).0 == 200).then_some(()));
        assert_eq!(server.metric("postrider_object_store_up"), Some(1.0));
    }
    assert!(client.query(json!({ "subject": "large" })).is_empty(), "what was refused is nowhere");
    assert!(server.metric("postrider_object_store_errors_total").is_some_and(|count| count > 0.0));
}

#[test]
fn a_large_message_that_has_its_250_is_filed_and_indexed_after_the_bucket_is_back() {
    let bucket = Bucket::start();
    let server = bucket.keep_blobs_of(Server::builder()).start();
    let client = server.account();
    let to = client.address.clone();
    for number in 0..5 {
        // Broken at once, wherever the message is on its way.
        bucket.server.set(Fault::None);
        let subject = format!("parcel{number}");
        let taken = poll(|| (hand_in(&server, &to, &large(&to, &subject)).0 == 250).then_some(()));
        bucket.server.set(Fault::Cuts);
        assert!(taken.is_some());
        std::thread::sleep(Duration::from_millis(number * 100));
    }
    server.deliver("a@sender.test", &to, message::text("a@sender.test", &to, "small", "small"));
    client.wait_for_subject("small");
    std::thread::sleep(Duration::from_secs(8));
    let begin = Instant::now();
    bucket.server.set(Fault::None);
    for number in 0..5 {
        client.wait_for_subject(&format!("parcel{number}"));
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let found = eventually("all are found", || {
        let found = client.query(json!({ "body": "makes the message long" }));
        (found.len() >= 5).then_some(found)
    });
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(found.len(), 5, "each once");
    let queue = server.cli_json(&["queue", "list"]);
    assert!(queue.as_array().is_some_and(Vec::is_empty), "{queue}");
}

#[test]
fn a_truncated_object_is_no_whole_download() {
    let bucket = Bucket::start();
    let server = bucket.keep_blobs_of(Server::builder()).start();
    let client = server.account();
    let upload: Vec<u8> = (0..5_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let answer = client.upload("application/octet-stream", upload.clone());
    let blob = answer["blobId"].as_str().expect("blobId");
    let path = client.download_path(blob, "x", "application/octet-stream");
    bucket.server.set(Fault::Truncates);
    // The first octets are read before the answer begins, so that there is a status to tell it by.
    client.signed(Request::get(&path)).send(server.http()).expect(503);
    bucket.server.set(Fault::None);
    let read = eventually("it is whole again", || {
        let answer = client.signed(Request::get(&path)).try_send(server.http()).ok()?;
        (answer.status == 200).then_some(answer.body)
    });
    assert!(read == upload);
}

#[test]
fn a_server_starts_while_its_bucket_is_down() {
    let bucket = Bucket::start();
    let server = bucket.keep_blobs_of(Server::builder()).start();
    let client = server.account();
    bucket.server.set(Fault::Busy);
    server.kill();
    server.run_until(|_| true);
    let to = client.address.clone();
    server.deliver("a@sender.test", &to, message::text("a@sender.test", &to, "small", "small"));
    client.wait_for_subject("small");
    assert_eq!(readiness(&server).0, 503);
    bucket.server.set(Fault::None);
    eventually("it is ready", || (readiness(&server).0 == 200).then_some(()));
    server.deliver("a@sender.test", &to, large(&to, "large"));
    client.wait_for_subject("large");
}
