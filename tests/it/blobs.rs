//! RFC 8620, section 6: uploads, downloads and Blob/copy.

use serde_json::json;

use crate::support::http::{Request, path_of};
use crate::support::jmap::{BLOB, CORE, MAIL, strings};
use crate::support::server::Server;

#[test]
fn what_was_uploaded_is_downloaded() {
    let client = Server::shared().account();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let answer = client.upload("image/x-test", bytes.clone());
    assert_eq!(answer["accountId"], json!(client.account));
    assert_eq!(answer["type"], "image/x-test");
    assert_eq!(answer["size"], 100_000);
    assert_eq!(client.download(answer["blobId"].as_str().expect("blobId")), bytes);
    assert_eq!(
        client.upload("text/plain", bytes)["blobId"],
        answer["blobId"],
        "the same bytes are stored once"
    );
}

#[test]
fn empty_and_large_uploads_are_kept() {
    let client = Server::shared().account();
    for size in [0, 1, 65_536, 65_537, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let answer = client.upload("application/octet-stream", bytes.clone());
        assert_eq!(answer["size"], json!(size));
        assert!(client.download(answer["blobId"].as_str().expect("blobId")) == bytes, "{size} bytes changed");
    }
}

#[test]
fn downloads_are_named_typed_and_cached() {
    let server = Server::shared();
    let client = server.account();
    let blob = client.upload("text/html", "<script>alert(1)</script>");
    let blob = blob["blobId"].as_str().expect("blobId");
    let get = |name: &str, kind: &str| {
        server.request(client.signed(Request::get(&client.download_path(blob, name, kind)))).expect(200)
    };
    let response = get("Grüße \"1\".html", "text/html");
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("text/html")),
        "{response:?}"
    );
    let disposition = response.header("content-disposition").unwrap_or_default().to_owned();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    assert!(disposition.contains("filename*=UTF-8''Gr%C3%BC%C3%9Fe"), "{disposition}");
    assert!(disposition.is_ascii());
    let cache = response.header("cache-control").unwrap_or_default();
    assert!(cache.contains("immutable") && cache.contains("private"), "{cache}");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    let policy = response.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
    let response = get("a.png", "image/png");
    assert_eq!(response.header("content-type"), Some("image/png"));
    for kind in ["text/html\r\nX-Evil: 1", "nonsense", ""] {
        let path = client.download_path(blob, "x", kind);
        let response = server.request(client.signed(Request::get(&path)));
        assert!(response.header("x-evil").is_none());
        assert!(response.status == 200 || response.status == 400, "{kind:?}: {response:?}");
    }
}

#[test]
fn ranges_are_served() {
    let server = Server::shared();
    let client = server.account();
    let blob = client.upload("text/plain", "0123456789");
    let path = client.download_path(blob["blobId"].as_str().expect("blobId"), "d", "text/plain");
    let range = |value: &str| {
        let response = server.request(client.signed(Request::get(&path)).header("Range", value));
        let content_range = response.header("content-range").unwrap_or_default().to_owned();
        (response.status, content_range, response.text())
    };
    assert_eq!(range("bytes=0-3"), (206, "bytes 0-3/10".into(), "0123".into()));
    assert_eq!(range("bytes=7-"), (206, "bytes 7-9/10".into(), "789".into()));
    assert_eq!(range("bytes=-2"), (206, "bytes 8-9/10".into(), "89".into()));
    assert_eq!(range("bytes=8-100"), (206, "bytes 8-9/10".into(), "89".into()));
    let (status, content_range, _) = range("bytes=10-");
    assert_eq!((status, content_range.as_str()), (416, "bytes */10"));
    for ignored in ["bytes=3-1", "lines=1-2", "nonsense", "bytes=a-b"] {
        let (status, _, body) = range(ignored);
        assert!((status, body.as_str()) == (200, "0123456789") || status == 416, "{ignored}: {status}");
    }
    let head = server.request(client.signed(Request::get(&path)));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    assert_eq!(head.header("content-length"), Some("10"));
}

#[test]
fn unknown_blobs_are_not_found() {
    let server = Server::shared();
    let client = server.account();
    let blob = client.upload("text/plain", "known")["blobId"].as_str().expect("blobId").to_owned();
    for wrong in [
        "b",
        "nonsense",
        "../../etc/passwd",
        &blob[..blob.len() - 1],
        &format!("{blob}x"),
        &blob.to_uppercase(),
    ] {
        let path = client.download_path(wrong, "x", "text/plain");
        let status = server.request(client.signed(Request::get(&path))).status;
        assert!(status == 404 || status == 400, "{wrong}: {status}");
    }
    let other = server.account();
    let path = other.download_path(&blob, "x", "text/plain");
    assert_eq!(server.request(other.signed(Request::get(&path))).status, 404, "another account's blob");
    let path = client.download_path(&blob, "x", "text/plain").replace(&client.account, "nobody");
    assert_eq!(server.request(client.signed(Request::get(&path))).status, 404);
}

#[test]
fn uploads_over_the_limit_are_refused() {
    let server = Server::shared();
    let client = server.account();
    let most = client.session["capabilities"][CORE]["maxSizeUpload"].as_u64().expect("limit");
    let path = path_of(client.session["uploadUrl"].as_str().expect("uploadUrl"))
        .replace("{accountId}", &client.account);
    let declared = client
        .signed(Request::post(&path))
        .header("Content-Length", &(most + 1).to_string())
        .header("Content-Type", "text/plain");
    let response = server.request(declared);
    assert!(response.status == 413 || response.status == 400, "{response:?}");
    assert_eq!(response.json()["limit"], "maxSizeUpload", "{response:?}");
    let path = path.replace(&client.account, "nobody");
    let response = server.request(client.signed(Request::post(&path)).body("text/plain", "x"));
    assert_eq!(response.status, 404, "{response:?}");
}

#[test]
fn blobs_are_copied_between_accounts_of_a_login() {
    let server = Server::shared();
    let (client, other, third) = (server.account(), server.account(), server.account());
    server.cli(&["access", "grant", &client.address, &other.address]);
    let blob = client.upload("text/plain", "to be copied")["blobId"].as_str().expect("blobId").to_owned();
    let answer = client.call(
        "Blob/copy",
        json!({ "fromAccountId": client.account, "accountId": other.account, "blobIds": [blob, "bnobody"] }),
    );
    assert_eq!(answer["fromAccountId"], json!(client.account));
    assert_eq!(answer["accountId"], json!(other.account));
    let copied = answer["copied"][&blob].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(
        ["notFound", "blobNotFound"]
            .contains(&answer["notCopied"]["bnobody"]["type"].as_str().unwrap_or_default()),
        "{answer}"
    );
    assert_eq!(client.in_account(&other.account).download(copied), b"to be copied");
    let stolen = json!({ "fromAccountId": client.account, "accountId": third.account, "blobIds": [blob] });
    assert_eq!(client.error("Blob/copy", stolen), "accountNotFound");
    let stolen = json!({ "fromAccountId": third.account, "accountId": client.account, "blobIds": [blob] });
    assert_eq!(client.error("Blob/copy", stolen), "fromAccountNotFound");
}

#[test]
fn a_ticket_opens_one_download_without_a_header() {
    let server = Server::shared();
    let client = server.account();
    let blob = client.upload("text/plain", "by ticket")["blobId"].as_str().expect("blobId").to_owned();
    let other = client.upload("text/plain", "another")["blobId"].as_str().expect("blobId").to_owned();
    let asked = client.signed(Request::post("/jmap/ticket")).json(&json!({
        "purpose": "download", "accountId": client.account, "blobId": blob,
    }));
    let answer = server.request(asked);
    assert!(answer.status == 200 || answer.status == 201, "{answer:?}");
    let ticket = answer.json()["ticket"].as_str().expect("ticket").to_owned();
    let with_ticket = |blob: &str| {
        let path = client.download_path(blob, "t.txt", "text/plain");
        let separator = if path.contains('?') { '&' } else { '?' };
        server.request(Request::get(&format!("{path}{separator}ticket={ticket}")))
    };
    assert_eq!(with_ticket(&blob).expect(200).text(), "by ticket");
    assert_eq!(with_ticket(&other).status, 401, "a ticket is for one blob");
}

#[test]
fn blobs_are_built_and_read_by_methods() {
    let client = Server::shared().account();
    let using = [CORE, BLOB];
    let answers = client.calls_using(
        &using,
        json!([
            ["Blob/upload", { "accountId": client.account, "create": {
                "text": { "data": [{ "data:asText": "Grüße, " }, { "data:asBase64": "V2VsdA==" }], "type": "text/plain" },
                "bad": { "data": [{ "data:asBase64": "!!!" }] },
            } }, "0"],
            ["Blob/upload", { "accountId": client.account, "create": {
                "slice": { "data": [{ "blobId": "#text", "offset": 0, "length": 2 }, { "blobId": "#text", "offset": 9 }] },
            } }, "1"],
            ["Blob/get", { "accountId": client.account, "ids": ["#text", "#slice", "bnobody"],
                "properties": ["data:asText", "data:asBase64", "size", "digest:sha-256"] }, "2"],
            ["Blob/get", { "accountId": client.account, "ids": ["#text"], "offset": 9, "length": 2 }, "3"],
        ]),
    );
    assert_eq!(answers[0].name, "Blob/upload", "{answers:?}");
    assert_eq!(answers[0].arguments["created"]["text"]["size"], 13);
    assert!(answers[0].arguments["notCreated"]["bad"]["type"].is_string(), "{answers:?}");
    assert!(answers[1].arguments["created"]["slice"]["id"].is_string(), "{answers:?}");
    let list = answers[2].arguments["list"].as_array().expect("list");
    assert_eq!(list[0]["data:asText"], "Grüße, Welt");
    assert_eq!(list[0]["data:asBase64"], "R3LDvMOfZSwgV2VsdA==");
    assert_eq!(list[0]["size"], 13);
    assert_eq!(list[0]["digest:sha-256"], "ReZKdTOykpN/EpNPdzHkZHBfxkUsGgwjNmwhv5h7FdQ=", "{list:?}");
    assert_eq!(list[1]["data:asText"], "GrWelt", "{list:?}");
    assert_eq!(answers[2].arguments["notFound"], json!(["bnobody"]));
    assert_eq!(answers[3].arguments["list"][0]["data:asText"], "We", "{answers:?}");
}

#[test]
fn problems_of_downloads_have_details() {
    let server = Server::shared();
    let client = server.account();
    let blob = client.upload("text/plain", "0123456789")["blobId"].as_str().expect("blobId").to_owned();
    let path = client.download_path(&blob, "x", "text/plain");
    let ask = |request: Request| server.request(client.signed(request));
    for (request, status) in [
        (Request::get(&path.replace(&blob, "bnobody")), 404),
        (Request::get(&path).header("Range", "bytes=10-"), 416),
        (Request::get(&path.replace(&client.account, "nobody")), 404),
    ] {
        let response = ask(request);
        assert_eq!(response.status, status, "{response:?}");
        let kind = response.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "{response:?}");
        let problem = response.json();
        assert_eq!(problem["status"], json!(status), "{problem}");
        assert!(problem["type"].is_string() && problem["detail"].is_string(), "{problem}");
        // What is kept for ever is a blob, not the lack of one.
        assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
    }
}

#[test]
fn a_blob_outlives_the_call_that_destroyed_its_email() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let old = client.import(&inbox, "Subject: old\r\n\r\nthe only copy of these octets\r\n");
    let blob = client.get("Email", &old, &["blobId"])["blobId"].clone();
    // RFC 8620, 6: what a call destroys it may still refer to.
    let answer = client.call(
        "Email/set",
        json!({
            "create": { "new": { "mailboxIds": { &inbox: true }, "subject": "new",
                "attachments": [{ "type": "message/rfc822", "blobId": blob }] } },
            "destroy": [old],
        }),
    );
    assert_eq!(answer["destroyed"], json!([old]), "{answer}");
    let new = answer["created"]["new"]["id"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let attachment = client.get("Email", new, &["attachments"])["attachments"][0]["blobId"].clone();
    let octets = client.download(attachment.as_str().expect("blobId"));
    assert!(String::from_utf8_lossy(&octets).contains("the only copy of these octets"));
}

#[test]
fn the_limits_of_blobs_that_are_told_hold() {
    let client = Server::shared().account();
    assert_eq!(client.session["capabilities"][BLOB], json!({}));
    let told = &client.session["accounts"][&client.account]["accountCapabilities"][BLOB];
    let sources = told["maxDataSources"].as_u64().expect("maxDataSources") as usize;
    assert!(sources >= 64, "{told}");
    let size = told["maxSizeBlobSet"].as_u64().expect("maxSizeBlobSet");
    assert_eq!(told["supportedTypeNames"], json!(["Mailbox", "Thread", "Email"]));
    let digests = strings(&told["supportedDigestAlgorithms"]);
    assert!(digests.contains(&"sha-256".to_owned()), "{told}");
    let call = |method: &str, mut arguments: serde_json::Value| {
        arguments["accountId"] = json!(client.account);
        client.calls_using(&[CORE, BLOB, MAIL], json!([[method, arguments, "c"]])).remove(0).arguments
    };
    let of = |count: usize| json!(vec![json!({ "data:asText": "x" }); count]);
    let answer = call(
        "Blob/upload",
        json!({ "create": { "most": { "data": of(sources) }, "more": { "data": of(sources + 1) } } }),
    );
    assert_eq!(answer["created"]["most"]["size"], json!(sources), "{answer}");
    assert!(answer["notCreated"]["more"]["type"].is_string(), "{answer}");
    let half = client.upload("text/plain", vec![b'x'; (size / 2 + 1) as usize])["blobId"].clone();
    let twice = json!({ "create": { "k": { "data": [{ "blobId": half }, { "blobId": half }] } } });
    assert_eq!(call("Blob/upload", twice)["notCreated"]["k"]["type"], "tooLarge");
    let blob = &answer["created"]["most"]["id"];
    for digest in &digests {
        let property = format!("digest:{digest}");
        let got = call("Blob/get", json!({ "ids": [blob], "properties": [property] }));
        assert!(got["list"][0][&property].is_string(), "{digest}: {got}");
        assert_eq!(*digest, digest.to_lowercase());
    }
    for name in strings(&told["supportedTypeNames"]) {
        let found = call("Blob/lookup", json!({ "ids": [blob], "typeNames": [name] }));
        assert_eq!(found["list"][0]["matchedIds"], json!({ &name: [] }), "{found}");
    }
}

#[test]
fn blob_methods_want_their_capability() {
    let client = Server::shared().account();
    for (method, arguments) in [
        ("Blob/upload", json!({ "accountId": client.account, "create": {} })),
        ("Blob/get", json!({ "accountId": client.account, "ids": [] })),
        ("Blob/lookup", json!({ "accountId": client.account, "ids": [], "typeNames": [] })),
    ] {
        let ask = |using: &[&str]| client.calls_using(using, json!([[method, arguments, "c"]])).remove(0);
        assert_eq!(ask(&[CORE, MAIL]).arguments["type"], "unknownMethod", "{method}");
        assert_eq!(ask(&[CORE, BLOB]).name, method);
    }
}

#[test]
fn blobs_made_by_methods_are_uploads() {
    let server = Server::shared();
    let (owner, guest) = (server.account(), server.account());
    server.cli(&["access", "grant", &guest.address, &owner.address]);
    let guest = server.sign_in(&guest.address).in_account(&owner.account);
    let make = json!([["Blob/upload", { "accountId": owner.account, "create": {
        "k": { "data": [{ "data:asText": "seen by one" }] },
    } }, "c"]]);
    let made = guest.calls_using(&[CORE, BLOB], make)[0].arguments["created"]["k"]["id"].clone();
    let id = made.as_str().expect("an id");
    assert_eq!(guest.download(id), b"seen by one");
    // RFC 8620, 6.1: to the other logins of the account it is not there until something refers to it.
    let path = owner.download_path(id, "x", "text/plain");
    assert_eq!(server.request(owner.signed(Request::get(&path))).status, 404);
    let get = json!([["Blob/get", { "accountId": owner.account, "ids": [id] }, "c"]]);
    assert_eq!(owner.calls_using(&[CORE, BLOB], get.clone())[0].arguments["notFound"], json!([id]));
    let inbox = owner.mailbox("inbox");
    guest.create(
        "Email",
        json!({ "mailboxIds": { &inbox: true }, "bodyStructure": { "type": "text/plain", "blobId": id } }),
    );
    let email = &owner
        .call("Email/get", json!({ "ids": owner.query(json!(null)), "properties": ["textBody"] }))["list"][0];
    let part = email["textBody"][0]["blobId"].as_str().expect("blobId").to_owned();
    assert!(owner.download(&part).starts_with(b"seen by one"));
}
