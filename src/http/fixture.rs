//! The HTTP face without its network, for the tests of handlers: one account, and who calls.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::admin::Office;
use crate::app;
use crate::config::Config;
use crate::config::settings::Settings;
use crate::events::feed::Feed;
use crate::events::testing::webhooks;
use crate::http::auth::SignedIn;
use crate::http::origin::Origin;
use crate::http::state::HttpState;
use crate::jmap::call::{AccountAccess, Caller};
use crate::push::hub::Hub;
use crate::store::directory::account::{self, NewAccount};
use crate::store::directory::domain::{self, NewDomain};
use crate::store::directory::login::Login;
use crate::types::address::Address;
use crate::types::clock::Clock;
use crate::types::id::Id;
use crate::types::scope::Scopes;

/// A server over a folder of its own.
pub struct Fixture {
    /// What handlers have at hand.
    pub state: HttpState,
    /// The caller, with one account.
    pub caller: Caller,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// A server with the account `alice@example.test`.
    pub async fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let variables = [("POSTRIDER_DATA".into(), folder.path().join("data").into_os_string())];
        let settings = Settings::gather(None, variables.into_iter()).unwrap();
        let config = Arc::new(Config::from_settings(&settings).unwrap());
        let app = app::open(config, Clock::fixed(1_750_000_000_000)).await.unwrap();
        let domain = NewDomain { name: "example.test".to_owned(), dkim_keys: "[]".to_owned() };
        domain::add(&app.store, domain).await.unwrap();
        let name = "alice@example.test".to_owned();
        let address = Address::parse(&name).unwrap();
        let new = NewAccount { address, password_hash: String::new(), quota_bytes: 0 };
        let created = account::create(&app.store, new).await.unwrap();
        let accounts = vec![AccountAccess {
            id: created.account,
            login_id: created.login,
            name: name.clone(),
            is_read_only: false,
            may_send: true,
            is_personal: true,
        }];
        let caller = Caller {
            login_id: created.login,
            token_id: Id(0),
            expires_at: 0,
            username: name,
            scopes: Scopes::USER,
            accounts,
        };
        let hub = Hub::new(app.store.clone(), CancellationToken::new());
        let feed = Feed::new(app.bus.clone(), CancellationToken::new());
        let office = Office::new(app.store.clone(), app.blobs.clone(), &app.config);
        let webhooks = webhooks(app.store.clone());
        Fixture { state: HttpState::new(app, office, hub, feed, webhooks, None), caller, _folder: folder }
    }

    /// The caller as handlers get it.
    pub fn signed_in(&self) -> SignedIn {
        let login = Login { id: self.caller.login_id, name: self.caller.username.clone(), version: 1 };
        SignedIn(self.caller.clone(), login)
    }

    /// A request's origin.
    pub fn origin(&self) -> Origin {
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Origin { client, base_url: "https://mail.example.test".to_owned() }
    }
}
