//! RFC 8620, sections 1.5 and 3: what a request may be, what its calls may refer to, and where
//! errors stand.

use serde_json::{Value, json};

use crate::support::http::{Request, path_of};
use crate::support::jmap::{CORE, Client, MAIL, QUOTA, SUBMISSION, VACATION, id_of};
use crate::support::server::Server;

/// Posts a body to the API as it stands.
fn post(client: &Client, body: impl Into<Vec<u8>>) -> crate::support::http::Response {
    let path = path_of(client.session["apiUrl"].as_str().expect("apiUrl")).to_owned();
    client.signed(Request::post(&path)).body("application/json", body).send(client.server)
}

#[test]
fn a_member_that_is_named_twice_is_no_i_json() {
    let client = Server::shared().account();
    for body in [
        format!(r#"{{"using":["{CORE}"],"methodCalls":[],"methodCalls":[]}}"#),
        format!(r#"{{"using":["{CORE}"],"methodCalls":[["Core/echo",{{"a":{{"b":1,"b":1}}}},"c"]]}}"#),
    ] {
        let response = post(&client, body.clone()).expect(400);
        assert_eq!(response.json()["type"], "urn:ietf:params:jmap:error:notJSON", "{body}");
    }
}

#[test]
fn a_request_without_a_type_is_not_json() {
    let client = Server::shared().account();
    let path = path_of(client.session["apiUrl"].as_str().expect("apiUrl")).to_owned();
    let body = r#"{"using":[],"methodCalls":[]}"#;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        client.authorization,
        body.len()
    );
    let response = crate::support::http::raw(client.server, head.as_bytes()).expect("an answer");
    assert_eq!(response.status, 400);
    assert_eq!(response.json()["type"], "urn:ietf:params:jmap:error:notJSON");
}

#[test]
fn answers_are_i_json_whatever_the_mail_says() {
    let client = Server::shared().account();
    let message = "From: a@sender.test\r\nSubject: odd\u{ffff}\u{fdd0}\u{1fffe}end\r\n\r\ntext \u{fffe}\r\n";
    let id = client.import(&client.mailbox("inbox"), message);
    let arguments = json!({ "accountId": client.account, "ids": [id], "fetchTextBodyValues": true });
    let body = json!({ "using": [CORE, MAIL], "methodCalls": [["Email/get", arguments, "c"]] });
    let response = post(&client, body.to_string()).expect(200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let text = String::from_utf8(response.body).expect("UTF-8");
    let is_noncharacter = |c: char| ('\u{fdd0}'..='\u{fdef}').contains(&c) || u32::from(c) & 0xfffe == 0xfffe;
    assert!(!text.contains(is_noncharacter), "{text}");
    assert!(text.contains("odd\u{fffd}\u{fffd}\u{fffd}end"), "{text}");
}

#[test]
fn what_a_request_holds_beyond_the_rfc_is_ignored() {
    let client = Server::shared().account();
    let response = client.request(&json!({
        "using": [CORE], "methodCalls": [["Core/echo", {}, "c"]], "futureThing": { "a": [1] }, "": 0,
    }));
    assert_eq!(response["methodResponses"], json!([["Core/echo", {}, "c"]]));
    let members: Vec<&String> = response.as_object().expect("object").keys().collect();
    assert_eq!(members, ["methodResponses", "sessionState"]);
}

#[test]
fn calls_are_run_in_their_order() {
    let client = Server::shared().account();
    let account = &client.account;
    let get = json!({ "accountId": account, "ids": null, "properties": ["name"] });
    let answers = client.calls(json!([
        ["Mailbox/get", get, "before"],
        ["Mailbox/set", { "accountId": account, "create": { "k": { "name": "in order" } } }, "set"],
        ["Mailbox/get", get, "between"],
        ["Mailbox/set", { "accountId": account, "destroy": ["#k"] }, "unset"],
        ["Mailbox/get", get, "after"],
    ]));
    let order: Vec<&str> = answers.iter().map(|answer| answer.call_id.as_str()).collect();
    assert_eq!(order, ["before", "set", "between", "unset", "after"]);
    let holds = |place: usize| answers[place].arguments["list"].to_string().contains("in order");
    assert_eq!([holds(0), holds(2), holds(4)], [false, true, false]);
    assert_eq!(answers[0].arguments["state"], answers[1].arguments["oldState"]);
    assert_eq!(answers[1].arguments["newState"], answers[2].arguments["state"]);
}

#[test]
fn an_error_stands_in_its_place_and_has_changed_nothing() {
    let client = Server::shared().account();
    let account = &client.account;
    let state = client.state("Mailbox");
    let make = |name: &str| json!({ "k": { "name": name } });
    let answers = client.calls(json!([
        ["Core/echo", { "n": 1 }, "first"],
        ["Mailbox/set", { "accountId": account, "create": make("a"), "ifInState": "s0-0" }, "state"],
        ["Mailbox/set", { "accountId": account, "create": make("b"), "unknownArgument": true }, "unknown"],
        ["Mailbox/set", { "accountId": account, "create": make("c"), "update": [] }, "type"],
        ["Mailbox/set", { "accountId": account, "create": make("d"), "destroy": "x" }, "type"],
        ["Mailbox/set", { "accountId": account, "create": make("e"), "#destroy": {
            "resultOf": "first", "name": "Core/echo", "path": "/none" } }, "reference"],
        ["Core/echo", { "n": 2 }, "last"],
    ]));
    let got: Vec<(&str, Value)> =
        answers.iter().map(|answer| (answer.name.as_str(), answer.arguments["type"].clone())).collect();
    assert_eq!(
        got,
        [
            ("Core/echo", Value::Null),
            ("error", json!("stateMismatch")),
            ("error", json!("invalidArguments")),
            ("error", json!("invalidArguments")),
            ("error", json!("invalidArguments")),
            ("error", json!("invalidResultReference")),
            ("Core/echo", Value::Null),
        ]
    );
    assert!(answers[2].arguments["description"].is_string(), "{answers:?}");
    assert_eq!(client.state("Mailbox"), state);
}

#[test]
fn references_follow_pointers_and_the_first_response() {
    let client = Server::shared().account();
    let given = json!({ "list": [
        { "id": "a", "parts": [{ "n": [1, 2] }, { "n": [3] }] }, { "id": "b", "parts": [{ "n": [] }] },
    ], "odd/na~me": { "*": 7 }, "none": null });
    let refer =
        |result_of: &str, path: &str| json!({ "resultOf": result_of, "name": "Core/echo", "path": path });
    let answers = client.calls(json!([
        ["Core/echo", given, "same"],
        ["Core/echo", { "list": "of the second" }, "same"],
        ["Core/echo", {
            "#whole": refer("same", ""),
            "#ids": refer("same", "/list/*/id"),
            "#flat": refer("same", "/list/*/parts/*/n"),
            "#place": refer("same", "/list/1/id"),
            "#escaped": refer("same", "/odd~1na~0me/*"),
            "#null": refer("same", "/none"),
        }, "right"],
        ["Core/echo", { "#x": refer("same", "/list/2/id") }, "wrong"],
        ["Core/echo", { "#x": refer("same", "list") }, "wrong"],
        ["Core/echo", { "#x": refer("same", "/list/*/nothing") }, "wrong"],
        ["Core/echo", { "#x": refer("same", "/list/-") }, "wrong"],
        ["Core/echo", { "#x": refer("wrong", "/type") }, "wrong"],
        ["Core/echo", { "#x": refer("never", "") }, "wrong"],
        ["Core/echo", { "#x": "same" }, "no reference"],
        ["Core/echo", { "#x": { "resultOf": "same", "name": "Core/echo" } }, "no reference"],
        ["Core/echo", { "x": null, "#x": refer("same", "") }, "both"],
    ]));
    let right = &answers[2].arguments;
    assert_eq!(right["whole"], given);
    assert_eq!(right["ids"], json!(["a", "b"]));
    assert_eq!(right["flat"], json!([1, 2, 3]));
    assert_eq!(right["place"], "b");
    assert_eq!(right["escaped"], 7);
    assert_eq!(right.get("null"), Some(&Value::Null));
    for answer in &answers[3..] {
        let wanted = if answer.call_id == "wrong" { "invalidResultReference" } else { "invalidArguments" };
        assert_eq!(
            (answer.name.as_str(), &answer.arguments["type"]),
            ("error", &json!(wanted)),
            "{answer:?}"
        );
    }
}

#[test]
fn references_cannot_be_made_to_grow_without_end() {
    let client = Server::shared().account();
    let mut calls = vec![json!(["Core/echo", { "a": "x".repeat(50_000) }, "0"])];
    for number in 1..64 {
        let refer = json!({ "resultOf": (number - 1).to_string(), "name": "Core/echo", "path": "" });
        calls.push(json!(["Core/echo", { "#a": refer, "#b": refer }, number.to_string()]));
    }
    let response = client.post(&json!({ "using": [CORE], "methodCalls": calls })).expect(200);
    assert!(response.body.len() < 100_000_000, "{} octets", response.body.len());
    let last = &response.json()["methodResponses"][63];
    assert_eq!(last[1]["type"], "invalidResultReference");
}

#[test]
fn a_creation_id_that_is_used_again_is_that_of_the_latest() {
    let client = Server::shared().account();
    let account = &client.account;
    let response = client.request(&json!({
        "using": [CORE, MAIL],
        "createdIds": {},
        "methodCalls": [
            ["Mailbox/set", { "accountId": account, "create": { "k": { "name": "first" } } }, "0"],
            ["Mailbox/set", { "accountId": account, "create": { "k": { "name": "second" } } }, "1"],
            ["Mailbox/set", { "accountId": account, "create": { "child": { "name": "c", "parentId": "#k" } } }, "2"],
        ],
    }));
    let second = &response["methodResponses"][1][1]["created"]["k"]["id"];
    let child = id_of(&response["methodResponses"][2][1]["created"]["child"]);
    assert_eq!(client.get("Mailbox", &child, &["parentId"])["parentId"], *second);
    assert_eq!(response["createdIds"], json!({ "k": second, "child": child }));
}

#[test]
fn creations_come_before_what_names_them_in_one_call() {
    let client = Server::shared().account();
    let moved = client.create_mailbox("moved");
    let answer = client.call(
        "Mailbox/set",
        json!({
            "create": {
                "leaf": { "name": "leaf", "parentId": "#stem" }, "stem": { "name": "stem", "parentId": "#root" },
                "root": { "name": "root" }, "gone": { "name": "gone" },
            },
            "update": { &moved: { "parentId": "#stem" }, "#root": { "sortOrder": 9 } },
            "destroy": ["#gone"],
        }),
    );
    let created = &answer["created"];
    let (root, stem) = (id_of(&created["root"]), id_of(&created["stem"]));
    assert_eq!(client.get("Mailbox", &moved, &["parentId"])["parentId"], json!(stem));
    assert_eq!(
        client.get("Mailbox", &root, &["sortOrder", "parentId"]),
        json!({ "id": root, "sortOrder": 9, "parentId": null })
    );
    assert!(answer["updated"].get(&root).is_some(), "{answer}");
    assert_eq!(answer["destroyed"], json!([created["gone"]["id"]]), "{answer}");
}

#[test]
fn a_read_only_account_refuses_every_method_that_changes() {
    let server = Server::shared();
    let (owner, reader) = (server.account(), server.account());
    server.cli(&["access", "grant", &reader.address, &owner.address, "--read-only"]);
    let reader = server.sign_in(&reader.address);
    let (own, others) = (reader.account.clone(), owner.account.clone());
    for (method, arguments) in [
        ("Mailbox/set", json!({})),
        ("Email/set", json!({})),
        ("Email/import", json!({ "emails": {} })),
        ("Email/copy", json!({ "fromAccountId": own, "create": {} })),
        ("Identity/set", json!({})),
        ("EmailSubmission/set", json!({})),
        ("VacationResponse/set", json!({})),
        ("Blob/copy", json!({ "fromAccountId": own, "blobIds": [] })),
        ("Blob/upload", json!({ "create": {} })),
    ] {
        let mut arguments = arguments;
        arguments["accountId"] = json!(others);
        let using = [CORE, MAIL, SUBMISSION, VACATION, QUOTA, crate::support::jmap::BLOB];
        let answer = reader.calls_using(&using, json!([[method, arguments, "c"]])).remove(0);
        assert_eq!(
            (answer.name.as_str(), &answer.arguments["type"]),
            ("error", &json!("accountReadOnly")),
            "{method}: {answer:?}"
        );
    }
    let response = reader.in_account(&others).upload_response("text/plain", "x");
    assert_eq!(response.status, 403, "{response:?}");
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("application/problem+json")),
        "{response:?}"
    );
}
