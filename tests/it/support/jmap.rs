//! A JMAP client of the tests' own: it sends what it is told and reads what comes, and helps with
//! nothing that a server should be tested for.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::support::events::EventStream;
use crate::support::http::{Request, Response, basic, path_of, percent};
use crate::support::server::LogOnFailure;
use crate::support::{eventually, poll};

pub const CORE: &str = "urn:ietf:params:jmap:core";
pub const MAIL: &str = "urn:ietf:params:jmap:mail";
pub const SUBMISSION: &str = "urn:ietf:params:jmap:submission";
pub const VACATION: &str = "urn:ietf:params:jmap:vacationresponse";
pub const QUOTA: &str = "urn:ietf:params:jmap:quota";
pub const BLOB: &str = "urn:ietf:params:jmap:blob";

/// What a request uses when the test says nothing else.
const USING: [&str; 4] = [CORE, MAIL, SUBMISSION, VACATION];

/// A signed-in client of one account.
#[derive(Clone)]
pub struct Client {
    pub server: SocketAddr,
    /// The address that it signs in with.
    pub address: String,
    pub password: String,
    pub authorization: String,
    pub session: Value,
    pub account: String,
    /// Prints the server's log when the test fails.
    pub log: Option<Arc<LogOnFailure>>,
}

/// One response of a method call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub name: String,
    pub arguments: Value,
    pub call_id: String,
}

impl Client {
    /// Reads the session and takes its primary mail account.
    #[track_caller]
    pub fn connect(server: SocketAddr, address: &str, password: &str) -> Client {
        let authorization = basic(address, password);
        let session = Request::get("/.well-known/jmap")
            .header("Authorization", &authorization)
            .send(server)
            .expect(200)
            .json();
        let account =
            session["primaryAccounts"][MAIL].as_str().unwrap_or_else(|| panic!("session: {session}"));
        Client {
            server,
            address: address.to_owned(),
            password: password.to_owned(),
            authorization,
            account: account.to_owned(),
            session,
            log: None,
        }
    }

    /// The same login, working on another of its accounts.
    pub fn in_account(&self, account: &str) -> Client {
        Client { account: account.to_owned(), ..self.clone() }
    }

    /// A request with this client's credentials.
    pub fn signed(&self, request: Request) -> Request {
        request.header("Authorization", &self.authorization)
    }

    /// Sends a request object as it stands.
    #[track_caller]
    pub fn post(&self, request: &Value) -> Response {
        let path = path_of(self.session["apiUrl"].as_str().expect("apiUrl")).to_owned();
        self.signed(Request::post(&path)).json(request).send(self.server)
    }

    /// Sends a request object, which must be answered by a response object.
    #[track_caller]
    pub fn request(&self, request: &Value) -> Value {
        let response = self.post(request).expect(200).json();
        assert!(response["methodResponses"].is_array(), "{response}");
        assert!(response["sessionState"].is_string(), "{response}");
        response
    }

    /// Sends method calls as `[name, arguments, call id]`.
    #[track_caller]
    pub fn calls_using(&self, using: &[&str], calls: Value) -> Vec<Answer> {
        let response = self.request(&json!({ "using": using, "methodCalls": calls }));
        response["methodResponses"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|answer| Answer {
                name: answer[0].as_str().unwrap_or_default().to_owned(),
                arguments: answer[1].clone(),
                call_id: answer[2].as_str().unwrap_or_default().to_owned(),
            })
            .collect()
    }

    /// As [`Client::calls_using`] with the usual capabilities.
    #[track_caller]
    pub fn calls(&self, calls: Value) -> Vec<Answer> {
        self.calls_using(&USING, calls)
    }

    /// One call, whatever its answer. The account is added when the arguments name none.
    #[track_caller]
    pub fn answer(&self, method: &str, arguments: Value) -> Answer {
        let arguments = self.with_account(arguments);
        let mut answers = self.calls(json!([[method, arguments, "c"]]));
        assert!(!answers.is_empty(), "{method}: no answer");
        let answer = answers.remove(0);
        assert_eq!(answer.call_id, "c");
        answer
    }

    /// One call that must succeed; its arguments.
    #[track_caller]
    pub fn call(&self, method: &str, arguments: Value) -> Value {
        let answer = self.answer(method, arguments);
        assert_eq!(answer.name, method, "{}", answer.arguments);
        answer.arguments
    }

    /// One call that must fail; the type of its error.
    #[track_caller]
    pub fn error(&self, method: &str, arguments: Value) -> String {
        let answer = self.answer(method, arguments);
        assert_eq!(answer.name, "error", "{method} should have failed: {}", answer.arguments);
        answer.arguments["type"].as_str().unwrap_or_default().to_owned()
    }

    fn with_account(&self, mut arguments: Value) -> Value {
        if let Some(arguments) = arguments.as_object_mut()
            && !arguments.contains_key("accountId")
        {
            let mut whole = Map::new();
            whole.insert("accountId".into(), json!(self.account));
            whole.append(arguments);
            *arguments = whole;
        }
        arguments
    }

    /// A /set that must create its one object; the object as the server returned it.
    #[track_caller]
    pub fn create(&self, kind: &str, object: Value) -> Value {
        let answer = self.call(&format!("{kind}/set"), json!({ "create": { "new": object } }));
        assert!(answer["created"]["new"]["id"].is_string(), "{kind} not created: {answer}");
        answer["created"]["new"].clone()
    }

    /// A /set whose one creation must be refused; the SetError.
    #[track_caller]
    pub fn create_error(&self, kind: &str, object: Value) -> Value {
        let answer = self.call(&format!("{kind}/set"), json!({ "create": { "new": object } }));
        let error = answer["notCreated"]["new"].clone();
        assert!(error["type"].is_string(), "{kind} created: {answer}");
        error
    }

    /// A /set that must update its one object.
    #[track_caller]
    pub fn update(&self, kind: &str, id: &str, patch: Value) -> Value {
        let answer = self.call(&format!("{kind}/set"), json!({ "update": { id: patch } }));
        assert!(answer["updated"].get(id).is_some(), "{kind} not updated: {answer}");
        answer
    }

    /// A /set whose one update must be refused; the SetError.
    #[track_caller]
    pub fn update_error(&self, kind: &str, id: &str, patch: Value) -> Value {
        let answer = self.call(&format!("{kind}/set"), json!({ "update": { id: patch } }));
        let error = answer["notUpdated"][id].clone();
        assert!(error["type"].is_string(), "{kind} updated: {answer}");
        error
    }

    /// A /set that must destroy its one object.
    #[track_caller]
    pub fn destroy(&self, kind: &str, id: &str) -> Value {
        let answer = self.call(&format!("{kind}/set"), json!({ "destroy": [id] }));
        assert_eq!(answer["destroyed"], json!([id]), "{answer}");
        answer
    }

    /// A /get of one object, which must be there.
    #[track_caller]
    pub fn get(&self, kind: &str, id: &str, properties: &[&str]) -> Value {
        self.get_with(kind, id, json!({ "properties": properties }))
    }

    /// As [`Client::get`], with all default properties or whatever the arguments say.
    #[track_caller]
    pub fn get_with(&self, kind: &str, id: &str, arguments: Value) -> Value {
        let mut arguments = arguments;
        arguments["ids"] = json!([id]);
        let answer = self.call(&format!("{kind}/get"), arguments);
        assert_eq!(answer["list"].as_array().map(Vec::len), Some(1), "{kind} {id}: {answer}");
        answer["list"][0].clone()
    }

    /// The state of a type.
    #[track_caller]
    pub fn state(&self, kind: &str) -> String {
        let answer = self.call(&format!("{kind}/get"), json!({ "ids": [] }));
        answer["state"].as_str().unwrap_or_else(|| panic!("no state: {answer}")).to_owned()
    }

    /// The ids of an Email/query with a filter, newest first.
    #[track_caller]
    pub fn query(&self, filter: Value) -> Vec<String> {
        let answer = self.call(
            "Email/query",
            json!({ "filter": filter, "sort": [{ "property": "receivedAt", "isAscending": false }] }),
        );
        strings(&answer["ids"])
    }

    /// The mailbox with a role.
    #[track_caller]
    pub fn mailbox(&self, role: &str) -> String {
        match self.find_mailbox(role) {
            Some(id) => id,
            None => panic!("{}: no mailbox with the role {role}", self.address),
        }
    }

    /// The mailbox with a role, if there is one.
    #[track_caller]
    pub fn find_mailbox(&self, role: &str) -> Option<String> {
        let answer = self.call("Mailbox/get", json!({ "ids": null, "properties": ["role"] }));
        let list = answer["list"].as_array()?;
        list.iter().find(|mailbox| mailbox["role"] == role)?["id"].as_str().map(str::to_owned)
    }

    /// Waits until a filter finds exactly so many Emails, newest first.
    #[track_caller]
    pub fn wait_for_emails(&self, filter: Value, count: usize) -> Vec<String> {
        let mut last = Vec::new();
        let found = poll(|| {
            last = self.query(filter.clone());
            (last.len() == count).then(|| last.clone())
        });
        match found {
            Some(ids) => ids,
            None => panic!("{}: {} Emails instead of {count} for {filter}", self.address, last.len()),
        }
    }

    /// Waits until the Email with a subject has arrived.
    #[track_caller]
    pub fn wait_for_subject(&self, subject: &str) -> String {
        eventually(&format!("{}: mail with the subject {subject:?}", self.address), || {
            let answers = self.calls(json!([
                ["Email/query", { "accountId": self.account }, "q"],
                ["Email/get", {
                    "accountId": self.account,
                    "#ids": { "resultOf": "q", "name": "Email/query", "path": "/ids" },
                    "properties": ["subject"],
                }, "g"],
            ]));
            let list = answers.get(1)?.arguments["list"].as_array()?.clone();
            list.iter().find(|email| email["subject"] == subject)?["id"].as_str().map(str::to_owned)
        })
    }

    /// Uploads bytes; the answer of the upload endpoint.
    #[track_caller]
    pub fn upload(&self, kind: &str, bytes: impl Into<Vec<u8>>) -> Value {
        let answer = self.upload_response(kind, bytes).expect(201).json();
        assert!(answer["blobId"].is_string(), "{answer}");
        answer
    }

    #[track_caller]
    pub fn upload_response(&self, kind: &str, bytes: impl Into<Vec<u8>>) -> Response {
        let url = self.session["uploadUrl"].as_str().expect("uploadUrl");
        let path = path_of(url).replace("{accountId}", &self.account);
        self.signed(Request::post(&path)).body(kind, bytes).send(self.server)
    }

    /// The path at which a blob is downloaded.
    pub fn download_path(&self, blob: &str, name: &str, kind: &str) -> String {
        let url = self.session["downloadUrl"].as_str().unwrap_or_default();
        path_of(url)
            .replace("{accountId}", &self.account)
            .replace("{blobId}", &percent(blob))
            .replace("{name}", &percent(name))
            .replace("{type}", &percent(kind))
    }

    /// The bytes of a blob, which must be there.
    #[track_caller]
    pub fn download(&self, blob: &str) -> Vec<u8> {
        let path = self.download_path(blob, "blob", "application/octet-stream");
        self.signed(Request::get(&path)).send(self.server).expect(200).body
    }

    /// Opens the event source.
    #[track_caller]
    pub fn events(&self, types: &str, close_after: &str, ping: u32) -> EventStream {
        let path = self.events_path(types, close_after, ping);
        EventStream::open(self.server, self.signed(Request::get(&path)))
    }

    /// The path of the event source.
    pub fn events_path(&self, types: &str, close_after: &str, ping: u32) -> String {
        let url = self.session["eventSourceUrl"].as_str().expect("eventSourceUrl");
        path_of(url)
            .replace("{types}", &percent(types))
            .replace("{closeafter}", close_after)
            .replace("{ping}", &ping.to_string())
    }

    /// Creates a mailbox at the top; its id.
    #[track_caller]
    pub fn create_mailbox(&self, name: &str) -> String {
        id_of(&self.create("Mailbox", json!({ "name": name })))
    }

    /// Creates a plain Email in a mailbox; its id.
    #[track_caller]
    pub fn create_email(&self, mailbox: &str, subject: &str, text: &str) -> String {
        id_of(&self.create("Email", plain_email(mailbox, &self.address, subject, text)))
    }

    /// Uploads a message and imports it into a mailbox; the id of the Email.
    #[track_caller]
    pub fn import(&self, mailbox: &str, message: impl Into<Vec<u8>>) -> String {
        let blob = self.upload("message/rfc822", message);
        let answer = self.call(
            "Email/import",
            json!({ "emails": { "new": { "blobId": blob["blobId"], "mailboxIds": { mailbox: true } } } }),
        );
        assert!(answer["created"]["new"]["id"].is_string(), "not imported: {answer}");
        id_of(&answer["created"]["new"])
    }
}

/// An Email object for Email/set: one text part.
pub fn plain_email(mailbox: &str, from: &str, subject: &str, text: &str) -> Value {
    json!({
        "mailboxIds": { mailbox: true },
        "from": [{ "email": from }],
        "to": [{ "name": "Somebody", "email": "somebody@elsewhere.test" }],
        "subject": subject,
        "bodyStructure": { "type": "text/plain", "partId": "1" },
        "bodyValues": { "1": { "value": text } },
    })
}

/// The id of an object.
#[track_caller]
pub fn id_of(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no id: {object}")).to_owned()
}

/// A JSON list of strings.
#[track_caller]
pub fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The names of an object's members, sorted.
#[track_caller]
pub fn names(object: &Value) -> Vec<&str> {
    let members = object.as_object().unwrap_or_else(|| panic!("no object: {object}"));
    let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}
