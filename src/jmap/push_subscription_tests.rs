//! How long a PushSubscription lasts, and what is left of it.

use serde_json::{Value, json};

use crate::jmap::fixture::{Fixture, User};
use crate::store::cluster;
use crate::store::db::sql;
use crate::store::directory::access;
use crate::store::directory::token::{self, TokenWanted};
use crate::types::date::utc_date;
use crate::types::id::{AccountId, Id};
use crate::types::scope::{Reach, Rights};

const DAY_MS: i64 = 86_400_000;

async fn set(user: &User<'_>, arguments: Value) -> Value {
    user.request(json!([["PushSubscription/set", arguments, "0"]])).await[0][1].clone()
}

async fn create(user: &User<'_>, more: Value) -> Value {
    let mut object = json!({"deviceClientId": "d", "url": "https://push.example/x"});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    set(user, json!({"create": {"new": object}})).await["created"]["new"].clone()
}

async fn rows(fixture: &Fixture) -> i64 {
    let mut snapshot = fixture.jmap.store.read().await.unwrap();
    let count = sql("select count(*) from push_subscription").everywhere().value(&mut snapshot).await;
    count.unwrap().unwrap()
}

#[tokio::test]
async fn it_lasts_for_two_weeks_or_as_long_as_its_token() {
    let fixture = Fixture::new().await;
    let mut alice = fixture.user("alice@example.test").await;
    let now = fixture.directory.clock.now_ms();
    let two_weeks = utc_date(now + 14 * DAY_MS);
    assert_eq!(create(&alice, json!({})).await["expires"], json!(two_weeks));
    let week = utc_date(now + 7 * DAY_MS);
    let created = create(&alice, json!({"expires": week})).await;
    assert!(created.get("expires").is_none(), "as it was asked for: {created}");
    assert_eq!(
        create(&alice, json!({"expires": utc_date(now + 15 * DAY_MS)})).await["expires"],
        json!(two_weeks)
    );
    // Renewed a week later.
    fixture.directory.clock.advance_ms(DAY_MS);
    let id = created["id"].as_str().unwrap();
    let renewed = set(&alice, json!({"update": {id: {"expires": null}}})).await;
    assert_eq!(renewed["updated"][id]["expires"], json!(utc_date(now + 15 * DAY_MS)));
    // A token that ends earlier takes it along; one that ends later lets it last.
    (alice.caller.token_id, alice.caller.expires_at) = (Id(9), now + 2 * DAY_MS);
    assert_eq!(create(&alice, json!({})).await["expires"], json!(utc_date(now + 2 * DAY_MS)));
    alice.caller.expires_at = now + 90 * DAY_MS;
    let created = create(&alice, json!({"expires": utc_date(now + 60 * DAY_MS)})).await;
    assert!(created["id"].is_string() && created.get("expires").is_none(), "{created}");
    let refused = set(&alice, json!({"ifInState": "s1-1"})).await;
    assert_eq!(refused["type"], json!("invalidArguments"));
}

#[tokio::test]
async fn nothing_is_left_of_what_is_destroyed_or_over() {
    let fixture = Fixture::new().await;
    let alice = fixture.user("alice@example.test").await;
    let first = create(&alice, json!({})).await["id"].clone();
    create(&alice, json!({})).await;
    assert_eq!(rows(&fixture).await, 2);
    set(&alice, json!({"destroy": [first]})).await;
    assert_eq!(rows(&fixture).await, 1);
    fixture.directory.clock.advance_ms(14 * DAY_MS);
    let got = alice.request(json!([["PushSubscription/get", {}, "0"]])).await[0][1].clone();
    assert_eq!(got, json!({"list": [], "notFound": []}));
    cluster::sweep::push_subscriptions_trim(&fixture.jmap.store).await.unwrap();
    assert_eq!(rows(&fixture).await, 0);
}

#[tokio::test]
async fn a_login_may_make_so_many_in_an_hour() {
    let fixture = Fixture::new().await;
    let alice = fixture.user("alice@example.test").await;
    for _ in 0..crate::jmap::limits::PUSH_SUBSCRIPTIONS_PER_HOUR {
        let id = create(&alice, json!({})).await["id"].clone();
        set(&alice, json!({"destroy": [id]})).await;
    }
    let object = json!({"deviceClientId": "d", "url": "https://push.example/x"});
    let answer = set(&alice, json!({"create": {"new": object}})).await;
    assert_eq!(answer["notCreated"]["new"]["type"], json!("rateLimit"));
}

/// Accounts of which a subscription hears, by the hints beside them.
async fn hears_of(fixture: &Fixture, subscription: &Value) -> Vec<AccountId> {
    let id: Id = subscription.as_str().unwrap().parse().unwrap();
    let mut snapshot = fixture.jmap.store.read().await.unwrap();
    let query = "select account_id from push_interest where subscription_id = $1 order by account_id";
    sql(query).bind(id).everywhere().column(&mut snapshot).await.unwrap()
}

async fn verify(fixture: &Fixture, user: &User<'_>, subscription: &Value) {
    let id: Id = subscription.as_str().unwrap().parse().unwrap();
    let mut snapshot = fixture.jmap.store.read().await.unwrap();
    let query = "select verification_code from push_subscription where id = $1";
    let code: String = sql(query).bind(id).everywhere().value(&mut snapshot).await.unwrap().unwrap();
    drop(snapshot);
    let answer = set(user, json!({"update": {id.to_string(): {"verificationCode": code}}})).await;
    assert!(answer["notUpdated"].is_null(), "{answer}");
}

#[tokio::test]
async fn a_key_for_one_account_hears_of_no_other_that_its_login_is_given() {
    let fixture = Fixture::new().await;
    let mut alice = fixture.user("alice@example.test").await;
    let bob = fixture.user("bob@example.test").await;
    let (own, shared) = (alice.caller.accounts[0].id, bob.caller.accounts[0].id);
    let (store, login) = (&fixture.jmap.store, alice.caller.login_id);
    let by_password = create(&alice, json!({})).await["id"].clone();
    verify(&fixture, &alice, &by_password).await;
    let mut by_key = Vec::new();
    for reach in [Reach::Account(own), Reach::Login] {
        let rights = Rights { reach, ..Rights::default() };
        let wanted = TokenWanted { name: "phone".to_owned(), expires_at: 0, rights };
        alice.caller.token_id = token::add(store, login, wanted).await.unwrap().id;
        let subscription = create(&alice, json!({})).await["id"].clone();
        verify(&fixture, &alice, &subscription).await;
        by_key.push(subscription);
    }
    access::grant(store, login, shared, true).await.unwrap();
    let mut both = [own, shared];
    both.sort();
    assert_eq!(hears_of(&fixture, &by_password).await, both);
    assert_eq!(hears_of(&fixture, &by_key[0]).await, [own]);
    assert_eq!(hears_of(&fixture, &by_key[1]).await, both);
}
