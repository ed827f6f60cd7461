//! RFC 8620, sections 2 and 3: the session, requests, responses and their errors.

use serde_json::{Value, json};

use crate::support::http::{Request, basic, path_of};
use crate::support::jmap::{BLOB, CORE, MAIL, QUOTA, SUBMISSION, VACATION, id_of, plain_email};
use crate::support::server::{PASSWORD, Server};

/// Posts to the API and returns status and problem details.
#[track_caller]
fn problem(body: &str) -> (u16, Value) {
    let server = Server::shared();
    let client = server.account();
    let path = path_of(client.session["apiUrl"].as_str().expect("apiUrl")).to_owned();
    let response = client.signed(Request::post(&path)).body("application/json", body).send(server.http());
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("application/problem+json")),
        "{response:?}"
    );
    (response.status, response.json())
}

#[test]
fn the_session_tells_what_the_server_can_do() {
    let server = Server::shared();
    let client = server.account();
    let response = client.signed(Request::get("/.well-known/jmap")).send(server.http()).expect(200);
    assert!(response.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    assert!(response.header("cache-control").is_some_and(|value| value.contains("no-cache")), "{response:?}");
    let session = response.json();
    for capability in [CORE, MAIL, SUBMISSION, VACATION, QUOTA, BLOB] {
        assert!(session["capabilities"][capability].is_object(), "{capability} in {session}");
    }
    let core = &session["capabilities"][CORE];
    for (name, least) in [
        ("maxSizeUpload", 50_000_000),
        ("maxConcurrentUpload", 4),
        ("maxSizeRequest", 10_000_000),
        ("maxConcurrentRequests", 4),
        ("maxCallsInRequest", 64),
        ("maxObjectsInGet", 4_096),
        ("maxObjectsInSet", 4_096),
    ] {
        assert!(core[name].as_u64().is_some_and(|value| value >= least), "{name} in {core}");
    }
    assert!(
        core["collationAlgorithms"].as_array().is_some_and(|list| list.contains(&json!("i;unicode-casemap")))
    );
    assert_eq!(session["username"], json!(client.address));
    let account = &session["accounts"][&client.account];
    assert_eq!(account["name"], json!(client.address));
    assert_eq!((&account["isPersonal"], &account["isReadOnly"]), (&json!(true), &json!(false)));
    for capability in [MAIL, SUBMISSION, VACATION] {
        assert!(account["accountCapabilities"][capability].is_object(), "{capability} in {account}");
        assert_eq!(session["primaryAccounts"][capability], json!(client.account));
    }
    assert!(session["primaryAccounts"].get(CORE).is_none(), "core is no account's (RFC 8620, 2)");
    let mail = &account["accountCapabilities"][MAIL];
    assert!(mail["maxMailboxesPerEmail"].is_null() || mail["maxMailboxesPerEmail"].as_u64() >= Some(1));
    assert!(mail["maxMailboxDepth"].is_null() || mail["maxMailboxDepth"].as_u64() >= Some(1));
    assert!(mail["maxSizeMailboxName"].as_u64() >= Some(100));
    assert!(mail["maxSizeAttachmentsPerEmail"].as_u64() >= Some(10_000_000));
    assert_eq!(mail["mayCreateTopLevelMailbox"], json!(true));
    let sorts = mail["emailQuerySortOptions"].as_array().expect("emailQuerySortOptions");
    for sort in [
        "receivedAt",
        "sentAt",
        "size",
        "from",
        "to",
        "subject",
        "hasKeyword",
        "allInThreadHaveKeyword",
        "someInThreadHaveKeyword",
    ] {
        assert!(sorts.contains(&json!(sort)), "{sort}");
    }
    let submission = &account["accountCapabilities"][SUBMISSION];
    assert!(submission["maxDelayedSend"].as_u64() > Some(0));
    assert!(submission["submissionExtensions"].is_object());
    for url in ["apiUrl", "downloadUrl", "uploadUrl", "eventSourceUrl"] {
        let url = session[url].as_str().unwrap_or_default();
        assert!(url.starts_with(&server.url()), "{url}");
    }
    for (url, variables) in [
        ("downloadUrl", &["{accountId}", "{blobId}", "{name}", "{type}"][..]),
        ("uploadUrl", &["{accountId}"]),
        ("eventSourceUrl", &["{types}", "{closeafter}", "{ping}"]),
    ] {
        for variable in variables {
            assert!(session[url].as_str().is_some_and(|url| url.contains(variable)), "{variable} in {url}");
        }
    }
    assert!(session["state"].as_str().is_some_and(|state| !state.is_empty()));
}

#[test]
fn the_session_state_is_that_of_responses_and_changes_with_the_accounts() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    let state = |client: &crate::support::jmap::Client| {
        client.signed(Request::get("/.well-known/jmap")).send(server.http()).json()["state"].clone()
    };
    let before = state(&client);
    let response = client.request(&json!({ "using": [CORE], "methodCalls": [["Core/echo", {}, "c"]] }));
    assert_eq!(response["sessionState"], before);
    server.cli(&["access", "grant", &client.address, &other.address]);
    let after = state(&client);
    assert_ne!(before, after);
    let session = client.signed(Request::get("/.well-known/jmap")).send(server.http()).json();
    assert_eq!(session["accounts"].as_object().map(serde_json::Map::len), Some(2), "{session}");
    assert_eq!(session["accounts"][&other.account]["isPersonal"], json!(false));
    assert_eq!(session["primaryAccounts"][MAIL], json!(client.account));
    server.cli(&["access", "revoke", &client.address, &other.address]);
    assert_ne!(state(&client), after);
}

#[test]
fn the_session_url_follows_the_forwarded_host_of_a_trusted_proxy_only() {
    for (proxies, is_trusted) in [("192.0.2.0/24", false), ("127.0.0.0/8", true)] {
        // Without a URL of its own the server tells the one by which it was asked.
        let server = Server::builder()
            .env("POSTRIDER_PUBLIC_URL", "")
            .env("POSTRIDER_TRUSTED_PROXIES", proxies)
            .start();
        let client = server.account();
        let forwarded = Request::get("/.well-known/jmap")
            .header("X-Forwarded-Host", "mail.proxy.test")
            .header("X-Forwarded-Proto", "https");
        let session = client.signed(forwarded).send(server.http()).json();
        let url = session["apiUrl"].as_str().expect("apiUrl");
        assert_eq!(url.starts_with("https://mail.proxy.test/"), is_trusted, "{proxies}: {session}");
        assert_eq!(session.to_string().contains("proxy.test"), is_trusted, "{proxies}: {session}");
    }
}

#[test]
fn echo_returns_what_it_was_given() {
    let client = Server::shared().account();
    let arguments =
        json!({ "hello": true, "high": 5, "nested": { "list": [1, "zwei", null, 2.5] }, "ü": "😀" });
    let answers = client.calls_using(&[CORE], json!([["Core/echo", arguments, "b3ff"]]));
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].name.as_str(), answers[0].call_id.as_str()), ("Core/echo", "b3ff"));
    assert_eq!(answers[0].arguments, arguments);
}

#[test]
fn what_is_no_json_is_not_json() {
    for body in [
        "",
        "{",
        "not json",
        "{\"using\":[]",
        "\u{feff}{}",
        "{\"using\": [\"\\ud800\"], \"methodCalls\": []}",
    ] {
        let (status, problem) = problem(body);
        assert_eq!(status, 400, "{body}");
        assert_eq!(problem["type"], "urn:ietf:params:jmap:error:notJSON", "{body}: {problem}");
    }
}

#[test]
fn invalid_utf8_and_other_types_are_not_json() {
    let server = Server::shared();
    let client = server.account();
    let path = path_of(client.session["apiUrl"].as_str().expect("apiUrl")).to_owned();
    let body = b"{\"using\":[\"\xff\"],\"methodCalls\":[]}".to_vec();
    let response = client.signed(Request::post(&path)).body("application/json", body).send(server.http());
    assert_eq!(response.json()["type"], "urn:ietf:params:jmap:error:notJSON");
    let echo = r#"{"using":["urn:ietf:params:jmap:core"],"methodCalls":[["Core/echo",{},"c"]]}"#;
    let response = client.signed(Request::post(&path)).body("text/plain", echo).send(server.http());
    assert_eq!(response.status, 400, "RFC 8620, 3.6.1: the type must be application/json");
    assert_eq!(response.json()["type"], "urn:ietf:params:jmap:error:notJSON");
    let response =
        client.signed(Request::post(&path)).body("application/json; charset=utf-8", echo).send(server.http());
    assert_eq!(response.status, 200);
}

#[test]
fn json_that_is_no_request_is_not_request() {
    for body in [
        json!([]),
        json!("text"),
        json!(7),
        json!(null),
        json!({}),
        json!({ "using": [CORE] }),
        json!({ "methodCalls": [] }),
        json!({ "using": CORE, "methodCalls": [] }),
        json!({ "using": [7], "methodCalls": [] }),
        json!({ "using": [CORE], "methodCalls": {} }),
        json!({ "using": [CORE], "methodCalls": [["Core/echo", {}]] }),
        json!({ "using": [CORE], "methodCalls": [["Core/echo", [], "c"]] }),
        json!({ "using": [CORE], "methodCalls": [["Core/echo", {}, 7]] }),
        json!({ "using": [CORE], "methodCalls": [["Core/echo", {}, "c", 1]] }),
        json!({ "using": [CORE], "methodCalls": [7] }),
        json!({ "using": [CORE], "methodCalls": [], "createdIds": [] }),
        json!({ "using": [CORE], "methodCalls": [], "createdIds": { "a": 1 } }),
    ] {
        let (status, problem) = problem(&body.to_string());
        assert_eq!(status, 400, "{body}");
        assert_eq!(problem["type"], "urn:ietf:params:jmap:error:notRequest", "{body}: {problem}");
        assert_eq!(problem["status"], 400);
    }
}

#[test]
fn an_unknown_capability_fails_the_request() {
    let (status, problem) =
        problem(&json!({ "using": [CORE, "https://example.com/unknown"], "methodCalls": [] }).to_string());
    assert_eq!(status, 400);
    assert_eq!(problem["type"], "urn:ietf:params:jmap:error:unknownCapability");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("https://example.com/unknown")));
}

#[test]
fn too_many_calls_fail_the_request() {
    let client = Server::shared().account();
    let most = client.session["capabilities"][CORE]["maxCallsInRequest"].as_u64().expect("limit");
    let calls: Vec<Value> = (0..=most).map(|call| json!(["Core/echo", {}, call.to_string()])).collect();
    let (status, problem) = problem(&json!({ "using": [CORE], "methodCalls": calls }).to_string());
    assert_eq!(status, 400);
    assert_eq!(problem["type"], "urn:ietf:params:jmap:error:limit");
    assert_eq!(problem["limit"], "maxCallsInRequest");
    let answers = client.calls_using(&[CORE], json!(calls[1..]));
    assert_eq!(answers.len() as u64, most);
}

#[test]
fn too_large_a_request_fails() {
    let client = Server::shared().account();
    let most = client.session["capabilities"][CORE]["maxSizeRequest"].as_u64().expect("limit");
    let text = "x".repeat(most as usize);
    let (status, problem) =
        problem(&json!({ "using": [CORE], "methodCalls": [["Core/echo", { "x": text }, "c"]] }).to_string());
    assert!(status == 400 || status == 413, "{status}");
    assert_eq!(problem["type"], "urn:ietf:params:jmap:error:limit");
    assert_eq!(problem["limit"], "maxSizeRequest");
}

#[test]
fn using_decides_what_there_is() {
    let client = Server::shared().account();
    let mailboxes = json!([["Mailbox/get", { "accountId": client.account }, "c"]]);
    let answer = &client.calls_using(&[], mailboxes.clone())[0];
    assert_eq!((answer.name.as_str(), &answer.arguments["type"]), ("error", &json!("unknownMethod")));
    let answer = &client.calls_using(&[CORE], mailboxes.clone())[0];
    assert_eq!((answer.name.as_str(), &answer.arguments["type"]), ("error", &json!("unknownMethod")));
    assert_eq!(client.calls_using(&[MAIL], mailboxes)[0].name, "Mailbox/get", "core left out is served");
    let submission = json!([["EmailSubmission/get", { "accountId": client.account, "ids": [] }, "c"]]);
    assert_eq!(client.calls_using(&[CORE, MAIL], submission.clone())[0].arguments["type"], "unknownMethod");
    assert_eq!(client.calls_using(&[CORE, SUBMISSION], submission)[0].name, "EmailSubmission/get");
}

#[test]
fn unknown_methods_fail_alone() {
    let client = Server::shared().account();
    let answers = client.calls(json!([
        ["Core/echo", { "n": 1 }, "a"],
        ["Mailbox/fly", {}, "b"],
        ["core/echo", {}, "c"],
        ["Core/echo", { "n": 2 }, "d"],
    ]));
    let got: Vec<(&str, &str)> =
        answers.iter().map(|answer| (answer.name.as_str(), answer.call_id.as_str())).collect();
    assert_eq!(got, [("Core/echo", "a"), ("error", "b"), ("error", "c"), ("Core/echo", "d")]);
    assert_eq!(answers[1].arguments["type"], "unknownMethod");
}

#[test]
fn arguments_are_checked() {
    let client = Server::shared().account();
    let error = |method: &str, arguments: Value| {
        let answer = client.calls(json!([[method, arguments, "c"]])).remove(0);
        assert_eq!(answer.name, "error", "{method}: {}", answer.arguments);
        answer.arguments["type"].as_str().unwrap_or_default().to_owned()
    };
    let account = &client.account;
    assert_eq!(error("Mailbox/get", json!({})), "invalidArguments");
    assert_eq!(error("Mailbox/get", json!({ "accountId": null })), "invalidArguments");
    assert_eq!(error("Mailbox/get", json!({ "accountId": 7 })), "invalidArguments");
    assert_eq!(error("Mailbox/get", json!({ "accountId": "nobody" })), "accountNotFound");
    assert_eq!(error("Mailbox/get", json!({ "accountId": account, "ids": "x" })), "invalidArguments");
    assert_eq!(error("Mailbox/get", json!({ "accountId": account, "ids": [7] })), "invalidArguments");
    assert_eq!(
        error("Mailbox/get", json!({ "accountId": account, "properties": ["nope"] })),
        "invalidArguments"
    );
    assert_eq!(error("Mailbox/get", json!({ "accountId": account, "unknown": 1 })), "invalidArguments");
    assert_eq!(error("Email/query", json!({ "accountId": account, "position": "x" })), "invalidArguments");
    assert_eq!(error("Email/query", json!({ "accountId": account, "limit": -1 })), "invalidArguments");
    assert_eq!(
        error("Email/query", json!({ "accountId": account, "filter": { "nope": 1 } })),
        "unsupportedFilter"
    );
    assert_eq!(
        error("Email/query", json!({ "accountId": account, "sort": [{ "property": "nope" }] })),
        "unsupportedSort"
    );
    assert_eq!(error("Email/changes", json!({ "accountId": account })), "invalidArguments");
    assert_eq!(
        error("Email/changes", json!({ "accountId": account, "sinceState": "nonsense" })),
        "cannotCalculateChanges"
    );
    let state = client.state("Email");
    assert_eq!(
        error("Email/changes", json!({ "accountId": account, "sinceState": state, "maxChanges": 0 })),
        "invalidArguments"
    );
}

#[test]
fn gets_return_what_was_asked_for_and_no_more() {
    let client = Server::shared().account();
    let answer = client.call("Mailbox/get", json!({ "ids": null, "properties": ["name"] }));
    let list = answer["list"].as_array().expect("list");
    assert!(list.len() >= 5, "an account begins with mailboxes: {answer}");
    for mailbox in list {
        let names: Vec<&String> = mailbox.as_object().expect("object").keys().collect();
        assert_eq!(names.len(), 2, "{mailbox}");
        assert!(mailbox["id"].is_string() && mailbox["name"].is_string());
    }
    let answer = client.call("Mailbox/get", json!({ "ids": [] }));
    assert_eq!((&answer["list"], &answer["notFound"]), (&json!([]), &json!([])));
    let inbox = client.mailbox("inbox");
    let answer =
        client.call("Mailbox/get", json!({ "ids": [inbox, "unknown", inbox, ""], "properties": ["id"] }));
    assert_eq!(answer["list"], json!([{ "id": inbox }]), "an id given twice is returned once");
    assert_eq!(answer["notFound"].as_array().map(Vec::len), Some(2), "{answer}");
    assert_eq!(answer["accountId"], json!(client.account));
}

#[test]
fn too_many_objects_are_refused() {
    let client = Server::shared().account();
    let core = &client.session["capabilities"][CORE];
    let most = core["maxObjectsInGet"].as_u64().expect("limit");
    let ids: Vec<String> = (0..=most).map(|id| format!("m{id}")).collect();
    assert_eq!(client.error("Email/get", json!({ "ids": ids })), "requestTooLarge");
    assert_eq!(
        client.call("Email/get", json!({ "ids": ids[1..] }))["notFound"].as_array().map(Vec::len),
        Some(most as usize)
    );
    let most = core["maxObjectsInSet"].as_u64().expect("limit");
    let ids: Vec<String> = (0..=most).map(|id| format!("m{id}")).collect();
    assert_eq!(client.error("Email/set", json!({ "destroy": ids })), "requestTooLarge");
}

#[test]
fn result_references_are_resolved() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    for number in 0..3 {
        client.create_email(&inbox, &format!("mail {number}"), "text");
    }
    let account = &client.account;
    let answers = client.calls(json!([
        ["Email/query", { "accountId": account, "filter": { "inMailbox": inbox } }, "q"],
        ["Email/get", { "accountId": account, "#ids": { "resultOf": "q", "name": "Email/query", "path": "/ids" },
            "properties": ["threadId"] }, "g"],
        ["Thread/get", { "accountId": account,
            "#ids": { "resultOf": "g", "name": "Email/get", "path": "/list/*/threadId" } }, "t"],
        ["Email/get", { "accountId": account, "properties": ["subject"],
            "#ids": { "resultOf": "t", "name": "Thread/get", "path": "/list/*/emailIds" } }, "e"],
        ["Email/get", { "accountId": account, "properties": ["subject"],
            "#ids": { "resultOf": "q", "name": "Email/query", "path": "/ids/0" } }, "wrong type"],
        ["Email/get", { "accountId": account,
            "#ids": { "resultOf": "q", "name": "Email/query", "path": "/nowhere" } }, "wrong path"],
        ["Email/get", { "accountId": account,
            "#ids": { "resultOf": "q", "name": "Email/get", "path": "/ids" } }, "wrong name"],
        ["Email/get", { "accountId": account,
            "#ids": { "resultOf": "later", "name": "Email/query", "path": "/ids" } }, "no such call"],
        ["Email/get", { "accountId": account, "ids": [],
            "#ids": { "resultOf": "q", "name": "Email/query", "path": "/ids" } }, "both"],
        ["Email/query", { "accountId": account }, "later"],
    ]));
    let lists: Vec<Option<usize>> =
        answers.iter().map(|answer| answer.arguments["list"].as_array().map(Vec::len)).collect();
    assert_eq!(lists[1..4], [Some(3), Some(3), Some(3)], "{answers:?}");
    for (answer, kind) in answers[4..9].iter().zip([
        "invalidArguments",
        "invalidResultReference",
        "invalidResultReference",
        "invalidResultReference",
        "invalidArguments",
    ]) {
        assert_eq!(answer.arguments["type"], kind, "{}: {answer:?}", answer.call_id);
    }
}

#[test]
fn creation_ids_are_known_to_later_calls() {
    let client = Server::shared().account();
    let account = &client.account;
    let response = client.request(&json!({
        "using": [CORE, MAIL],
        "createdIds": { "given": client.mailbox("inbox") },
        "methodCalls": [
            ["Mailbox/set", { "accountId": account, "create": {
                "child": { "name": "child", "parentId": "#parent" },
                "parent": { "name": "parent" },
            } }, "0"],
            ["Email/set", { "accountId": account, "create": {
                "mail": plain_email("#child", &client.address, "by reference", "text"),
                "known": plain_email("#given", &client.address, "by a known id", "text"),
                "lost": plain_email("#nobody", &client.address, "lost", "text"),
            } }, "1"],
            ["Mailbox/get", { "accountId": account, "ids": ["#child", "#nobody"] }, "2"],
        ],
    }));
    let created = &response["methodResponses"][0][1]["created"];
    assert!(created["child"]["id"].is_string() && created["parent"]["id"].is_string(), "{response}");
    let emails = &response["methodResponses"][1][1];
    assert!(
        emails["created"]["mail"]["id"].is_string() && emails["created"]["known"]["id"].is_string(),
        "{emails}"
    );
    assert_eq!(emails["notCreated"]["lost"]["type"], "invalidProperties", "{emails}");
    let child = &response["methodResponses"][2][1]["list"][0];
    assert_eq!(child["parentId"], created["parent"]["id"]);
    assert_eq!(response["createdIds"]["child"], created["child"]["id"]);
    assert_eq!(response["createdIds"]["given"], json!(client.mailbox("inbox")));
    let without = client.request(&json!({ "using": [CORE], "methodCalls": [["Core/echo", {}, "c"]] }));
    assert!(without.get("createdIds").is_none(), "createdIds only where they were given: {without}");
}

#[test]
fn sets_check_the_state_and_tell_the_new_one() {
    let client = Server::shared().account();
    let before = client.state("Mailbox");
    let answer =
        client.call("Mailbox/set", json!({ "ifInState": before, "create": { "a": { "name": "a" } } }));
    assert_eq!(answer["oldState"], json!(before));
    assert_ne!(answer["newState"], json!(before));
    let error =
        client.error("Mailbox/set", json!({ "ifInState": before, "create": { "b": { "name": "b" } } }));
    assert_eq!(error, "stateMismatch");
    let answer = client.call("Mailbox/set", json!({}));
    assert_eq!(answer["oldState"], answer["newState"]);
}

#[test]
fn set_errors_stand_beside_what_went_well() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let good = id_of(&client.create("Mailbox", json!({ "name": "good" })));
    let answer = client.call(
        "Mailbox/set",
        json!({
            "create": { "ok": { "name": "ok" }, "bad": { "name": 7 }, "unknown": { "name": "u", "colour": "red" },
                "server": { "name": "s", "totalEmails": 3 } },
            "update": { &good: { "name": "better" }, "nobody": { "name": "x" }, &inbox: { "colour": "red" } },
            "destroy": ["nobody-else"],
        }),
    );
    assert!(answer["created"]["ok"]["id"].is_string());
    for name in ["bad", "unknown", "server"] {
        assert_eq!(answer["notCreated"][name]["type"], "invalidProperties", "{answer}");
        assert!(answer["notCreated"][name]["properties"].is_array(), "{answer}");
    }
    assert!(answer["updated"].get(&good).is_some());
    assert_eq!(answer["notUpdated"]["nobody"]["type"], "notFound");
    assert_eq!(answer["notUpdated"][&inbox]["type"], "invalidProperties");
    assert_eq!(answer["notDestroyed"]["nobody-else"]["type"], "notFound");
    let answer =
        client.call("Mailbox/set", json!({ "update": { &good: { "name": "x" } }, "destroy": [good] }));
    assert_eq!(answer["notUpdated"][&good]["type"], "willDestroy", "{answer}");
}

#[test]
fn patches_are_json_pointers_with_rules() {
    let client = Server::shared().account();
    let id = client.create_email(&client.mailbox("inbox"), "patched", "text");
    for patch in [
        json!({ "keywords/$seen": true, "keywords": {} }),
        json!({ "/keywords/$seen": true }),
        json!({ "keywords/$seen/deeper": true }),
        json!({ "nothing/here": true }),
    ] {
        let error = client.update_error("Email", &id, patch.clone());
        assert!(error["type"] == "invalidPatch" || error["type"] == "invalidProperties", "{patch}: {error}");
    }
    client.update("Email", &id, json!({ "keywords/a~1b": true, "keywords/c~0d": true }));
    assert_eq!(client.get("Email", &id, &["keywords"])["keywords"], json!({ "a/b": true, "c~d": true }));
    client.update("Email", &id, json!({ "keywords/a~1b": null, "keywords/never-there": null }));
    assert_eq!(client.get("Email", &id, &["keywords"])["keywords"], json!({ "c~d": true }));
}

#[test]
fn copies_need_two_accounts() {
    let client = Server::shared().account();
    let arguments = json!({ "fromAccountId": client.account, "create": {} });
    assert_eq!(client.error("Email/copy", arguments), "invalidArguments");
    let arguments = json!({ "fromAccountId": "nobody", "create": {} });
    assert_eq!(client.error("Email/copy", arguments), "fromAccountNotFound");
}

#[test]
fn sign_in_is_needed_everywhere() {
    let server = Server::shared();
    let client = server.account();
    let api = path_of(client.session["apiUrl"].as_str().expect("apiUrl")).to_owned();
    let upload = path_of(client.session["uploadUrl"].as_str().expect("uploadUrl"))
        .replace("{accountId}", &client.account);
    let download = client.download_path("bxx", "x", "text/plain");
    let events = "/jmap/eventsource/?types=*&closeafter=no&ping=0";
    for request in [
        Request::get("/.well-known/jmap"),
        Request::post(&api).json(&json!({ "using": [], "methodCalls": [] })),
        Request::post(&upload).body("text/plain", "x"),
        Request::get(&download),
        Request::get(path_of(client.session["eventSourceUrl"].as_str().unwrap_or(events))),
    ] {
        for wrong in [
            None,
            Some(basic(&client.address, "wrong")),
            Some(basic("nobody@example.test", PASSWORD)),
            Some("Bearer nonsense".to_owned()),
            Some("Basic !!!".to_owned()),
            Some("Basic".to_owned()),
            Some("Digest x".to_owned()),
        ] {
            let request = match &wrong {
                Some(value) => request.clone().header("Authorization", value),
                None => request.clone(),
            };
            let response = server.request(request);
            assert_eq!(response.status, 401, "{wrong:?}: {response:?}");
            let offers = response.header_all("www-authenticate").join(", ");
            assert!(offers.contains("Basic") && offers.contains("Bearer"), "{response:?}");
        }
    }
}

#[test]
fn browsers_are_not_asked_for_a_password_by_scripts() {
    let server = Server::shared();
    let response = server.request(Request::get("/.well-known/jmap").header("Sec-Fetch-Mode", "cors"));
    assert_eq!(response.status, 401);
    let offers = response.header_all("www-authenticate").join(", ");
    assert!(offers.contains("Bearer") && !offers.contains("Basic"), "{offers}");
}

#[test]
fn cross_origin_requests_are_allowed_with_authorization() {
    let server = Server::shared();
    let client = server.account();
    let api = path_of(client.session["apiUrl"].as_str().expect("apiUrl")).to_owned();
    let preflight = Request::new("OPTIONS", &api)
        .header("Origin", "https://app.test")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,content-type");
    let response = server.request(preflight);
    assert!(response.status == 200 || response.status == 204, "{response:?}");
    assert!(
        response
            .header("access-control-allow-origin")
            .is_some_and(|origin| origin == "*" || origin == "https://app.test")
    );
    let headers = response.header("access-control-allow-headers").unwrap_or_default().to_ascii_lowercase();
    assert!(headers.contains("authorization") && headers.contains("content-type"), "{response:?}");
    assert!(response.header("access-control-max-age").is_some(), "the preflight is not cached: {response:?}");
    let session = client.signed(Request::get("/.well-known/jmap").header("Origin", "https://app.test"));
    assert!(server.request(session).header("access-control-allow-origin").is_some());
    let unsigned = server.request(Request::get("/.well-known/jmap").header("Origin", "https://app.test"));
    assert_eq!(unsigned.status, 401);
    assert!(unsigned.header("access-control-allow-origin").is_some(), "a script cannot read this 401");
}

#[test]
fn api_tokens_sign_in_until_they_are_revoked() {
    let server = Server::shared();
    let client = server.account();
    let added = server.cli_json(&["token", "add", &client.address]);
    let token = added["token"].as_str().unwrap_or_else(|| panic!("{added}")).to_owned();
    let ask = || {
        let request = Request::get("/.well-known/jmap").header("Authorization", &format!("Bearer {token}"));
        server.request(request)
    };
    assert_eq!(ask().expect(200).json()["username"], json!(client.address));
    let listed = server.cli_json(&["token", "list", &client.address]);
    assert!(!listed.to_string().contains(&token), "a list shows the token");
    let id = added["id"].as_str().unwrap_or_else(|| panic!("{added}"));
    server.cli(&["token", "revoke", id]);
    assert_eq!(ask().status, 401, "a revoked token counts at once");
}

#[test]
fn a_changed_password_counts_at_once() {
    let server = Server::shared();
    let client = server.account();
    let session = |password: &str| {
        server.request(Request::get("/.well-known/jmap").basic(&client.address, password)).status
    };
    assert_eq!(session(PASSWORD), 200);
    server.cli(&["account", "password", &client.address, "--password", "another one entirely"]);
    assert_eq!(session(PASSWORD), 401);
    assert_eq!(session("another one entirely"), 200);
}
