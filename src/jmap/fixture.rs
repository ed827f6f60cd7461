//! A server without its network, for the tests of methods: accounts, and requests as JSON.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::blob::testing::blobs_in;
use crate::cache::Cache;
use crate::config::engine::CacheUrl;
use crate::index::Index;
use crate::jmap::call::{AccountAccess, Caller, Jmap};
use crate::jmap::capability::Capability;
use crate::jmap::limits::UPLOAD_QUOTA;
use crate::jmap::request::Request;
use crate::store::directory::access::{self, accounts_of_login};
use crate::store::directory::account::{Created, set_quota};
use crate::store::directory::fixture::Fixture as Directory;
use crate::store::mailbox;
use crate::store::tx::Tx;
use crate::types::blob_id::BlobId;
use crate::types::id::Id;
use crate::types::scope::Scopes;

/// The parts that methods work on, over folders of their own.
pub struct Fixture {
    /// Accounts and the clock, which stands still.
    pub directory: Directory,
    /// The parts.
    pub jmap: Jmap,
}

impl Fixture {
    /// A server with the domain `example.test`, on which an account writes to 100 recipients in an
    /// hour at the most.
    pub async fn new() -> Fixture {
        let directory = Directory::new().await;
        let (folder, store) = (directory.folder.path(), directory.store.clone());
        let blobs = blobs_in(folder, store.clone());
        let index = Index::in_folder(&folder.join("index")).unwrap();
        let jmap = Jmap {
            store,
            blobs,
            index,
            cache: Cache::open(&CacheUrl::Memory, 1 << 20, directory.clock.clone()),
            hostname: Arc::from("mx.example.test"),
            max_upload: 1 << 20,
            recipients_per_hour: 100,
            push_key: Arc::from("key"),
            push_networks: Arc::from([]),
        };
        Fixture { directory, jmap }
    }

    /// Adds an account; who calls when its login does.
    pub async fn user(&self, address: &str) -> User<'_> {
        let Created { login, .. } = self.directory.account(address).await;
        self.login(login, address).await
    }

    /// A login as it is now.
    pub async fn login(&self, login_id: Id, address: &str) -> User<'_> {
        let mut snapshot = self.jmap.store.read().await.unwrap();
        let accounts = accounts_of_login(&mut snapshot, login_id).await.unwrap();
        let accounts =
            accounts.into_iter().map(|account| AccountAccess::of(login_id, account, Scopes::USER)).collect();
        let caller = Caller {
            login_id,
            token_id: Id(0),
            expires_at: 0,
            username: address.to_owned(),
            scopes: Scopes::USER,
            accounts,
        };
        User { fixture: self, caller }
    }
}

/// Someone who calls methods.
pub struct User<'a> {
    pub fixture: &'a Fixture,
    pub caller: Caller,
}

impl User<'_> {
    /// The id of their own account.
    pub fn account(&self) -> String {
        self.caller.accounts[0].id.to_string()
    }

    /// The id of the mailbox with a role in their own account.
    pub async fn mailbox(&self, role: &str) -> String {
        let mut snapshot = self.fixture.jmap.store.read().await.unwrap();
        let account = self.caller.accounts[0].id;
        mailbox::id_by_role(&mut snapshot, account, role).await.unwrap().unwrap().to_string()
    }

    /// Lets them use, or only read, another's account; `Fixture::login` then knows it.
    pub async fn grant(&self, other: &User<'_>, is_read_only: bool) {
        let (login, account) = (self.caller.login_id, other.caller.accounts[0].id);
        access::grant(&self.fixture.jmap.store, login, account, is_read_only).await.unwrap();
    }

    /// Limits what their own account may keep.
    pub async fn set_quota(&self, octets: i64) {
        set_quota(&self.fixture.jmap.store, self.caller.accounts[0].id, octets).await.unwrap();
    }

    /// Uploads to their own account; the blob's id.
    pub async fn upload(&self, octets: &[u8]) -> String {
        let blob = self.fixture.jmap.blobs.prepare(Bytes::copy_from_slice(octets)).await.unwrap();
        let (id, login) = (BlobId::whole(blob.hash()), self.caller.login_id);
        let unit = async move |tx: &mut Tx| blob.reference_upload(tx, login, UPLOAD_QUOTA).await;
        self.fixture.jmap.store.write(self.caller.accounts[0].id, unit).await.unwrap();
        id.to_string()
    }

    /// Puts a message with keywords into their inbox; the Email's id.
    pub async fn email(&self, octets: &[u8], keywords: Value) -> String {
        let (blob, inbox) = (self.upload(octets).await, self.mailbox("inbox").await);
        let email = json!({"blobId": blob, "mailboxIds": {inbox: true}, "keywords": keywords});
        let answer = self.call("Email/import", json!({"emails": {"k": email}})).await;
        answer["created"]["k"]["id"].as_str().unwrap().to_owned()
    }

    /// Runs a request; its responses.
    pub async fn request(&self, calls: Value) -> Vec<Value> {
        let using: Vec<&str> = Capability::ALL.iter().map(|capability| capability.urn()).collect();
        self.request_using(&using, calls).await
    }

    /// Runs a request that names these capabilities; its responses.
    pub async fn request_using(&self, using: &[&str], calls: Value) -> Vec<Value> {
        let body = json!({"using": using, "methodCalls": calls}).to_string();
        let request = Request::parse(body.as_bytes()).unwrap();
        let response = request.run(&self.fixture.jmap, &self.caller, "s").await;
        let response: Value = serde_json::from_str(&response).unwrap();
        response["methodResponses"].as_array().unwrap().clone()
    }

    /// Runs one method on their own account; the arguments of its response, whatever its name.
    pub async fn call(&self, method: &str, mut arguments: Value) -> Value {
        if arguments.get("accountId").is_none() {
            arguments["accountId"] = json!(self.account());
        }
        self.request(json!([[method, arguments, "0"]])).await[0][1].clone()
    }
}
