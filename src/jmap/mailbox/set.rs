//! Mailbox/set (RFC 8621, 2.5). `outcome` works out what a call comes to; here it is written.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Body, Call, MethodResult};
use crate::jmap::error::MethodError;
use crate::jmap::mailbox::outcome::{Asked, Change, Outcome, is_provisional};
use crate::jmap::mailbox::to_json;
use crate::jmap::standard::set::{Creations, SetOutcome, SetRequest, check_state};
use crate::store::change::state_of;
use crate::store::email::delete::remove_from_mailbox;
use crate::store::email::trash;
use crate::store::error::StoreError;
use crate::store::mailbox::{self, Mailbox, NewMailbox, Viewer};
use crate::store::tx::Tx;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// Emails removed in one transaction when a mailbox is destroyed with its mail.
const REMOVED_AT_ONCE: usize = 1_000;

/// A call.
struct Wanted {
    account: AccountAccess,
    request: SetRequest,
    removes_emails: bool,
}

impl Wanted {
    fn outcome(&self, all: &[Mailbox], creations: &Creations) -> Outcome {
        let Wanted { account, request, removes_emails } = self;
        Outcome::of(all, Asked { account, request, removes_emails: *removes_emails, creations })
    }
}

/// Mailbox/set.
pub async fn set(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.account(&mut arguments)?;
    let request = SetRequest::read(&mut arguments)?;
    let removes_emails = arguments.boolean("onDestroyRemoveEmails")?;
    arguments.finish()?;
    if account.is_read_only && !only_subscribes(&request) {
        return Err(MethodError::AccountReadOnly);
    }
    let mut wanted = Wanted { account, request, removes_emails };
    if removes_emails && !wanted.request.destroy.is_empty() {
        empty_large_mailboxes(call, &mut wanted).await?;
    }
    let account = wanted.account.id;
    let wanted = Arc::new(wanted);
    let creations = Creations(call.created_ids.clone());
    let unit = async move |tx: &mut Tx| write(tx, &wanted, creations).await;
    let (outcome, creations) = call.jmap.store.write(account, unit).await??;
    if let Err(error) = trash::finish_recount(&call.jmap.store, account).await {
        // What was asked is done; the next change of mail, or the sweep, counts on.
        tracing::warn!(%error, "a recount after a change of the trash was cut short");
    }
    *call.created_ids = creations.0;
    Ok(Body::Json(outcome.to_json(account)))
}

/// Whether a call changes nothing but subscriptions, which are the caller's own in any account that
/// the caller can see (RFC 8621, 2).
fn only_subscribes(request: &SetRequest) -> bool {
    let SetRequest { if_in_state: _, create, update, destroy } = request;
    create.is_empty()
        && destroy.is_empty()
        && !update.is_empty()
        && update.iter().all(|(_, patch)| patch.keys().all(|name| name == "isSubscribed"))
}

/// Removes the mail of large mailboxes about to be destroyed by the thousand, so that no
/// transaction holds the account for long; the rest goes with the mailbox itself.
async fn empty_large_mailboxes(call: &Call<'_>, wanted: &mut Wanted) -> Result<(), MethodError> {
    let (store, account) = (&call.jmap.store, wanted.account.id);
    let mut snapshot = store.read().await?;
    let all = mailbox::all(&mut snapshot, account, wanted.account.viewer()).await?;
    let state = state_of(&mut snapshot, account, ObjectType::Mailbox).await?;
    drop(snapshot);
    let outcome = wanted.outcome(&all, &Creations(call.created_ids.clone()));
    let destroyed: Vec<_> =
        outcome.destroyed.iter().filter_map(|(_, destroyed)| destroyed.as_ref().ok()).collect();
    // Many small mailboxes are as much work as one large one.
    let total: i64 = destroyed.iter().map(|mailbox| mailbox.counts.total_emails).sum();
    let is_much = total > REMOVED_AT_ONCE as i64;
    for mailbox in destroyed.into_iter().filter(|mailbox| is_much && mailbox.counts.total_emails > 0) {
        // From here on the state is another, by this call's own doing.
        if wanted.request.if_in_state.take().is_some_and(|wanted| wanted != state.to_string()) {
            return Err(MethodError::StateMismatch);
        }
        let id = mailbox.id;
        let unit = async move |tx: &mut Tx| remove_from_mailbox(tx, id, REMOVED_AT_ONCE).await;
        while store.write(account, unit).await? == REMOVED_AT_ONCE {}
    }
    Ok(())
}

async fn write(
    tx: &mut Tx,
    wanted: &Wanted,
    mut creations: Creations,
) -> Result<Result<(SetOutcome, Creations), MethodError>, StoreError> {
    let if_in_state = wanted.request.if_in_state.as_deref();
    let old_state = match check_state(tx, ObjectType::Mailbox, if_in_state).await? {
        Ok(state) => state,
        Err(error) => return Ok(Err(error)),
    };
    let mut told = SetOutcome::new(old_state);
    let (account, viewer) = (tx.account(), wanted.account.viewer());
    let all = mailbox::all(tx, account, viewer).await?;
    let Outcome { created, updated, destroyed, trash } = wanted.outcome(&all, &creations);
    // First, while roles and counters still are as they were.
    let gone = destroyed.iter().filter_map(|(_, destroyed)| destroyed.as_ref().ok());
    for mailbox in gone.filter(|mailbox| mailbox.counts.total_emails > 0) {
        while remove_from_mailbox(tx, mailbox.id, REMOVED_AT_ONCE).await? == REMOVED_AT_ONCE {}
    }
    if created.len() + updated.len() + destroyed.len() > 1 {
        let moving = updated.iter().filter_map(|(_, changed)| changed.as_ref().ok()).filter(|change| {
            let key = |mailbox: &Mailbox| (mailbox.parent_id, mailbox.name.clone(), mailbox.role.clone());
            !is_provisional(change.before.id) && key(&change.before) != key(&change.after)
        });
        let moving = moving.map(|change| change.before.id);
        let gone = destroyed.iter().filter_map(|(_, destroyed)| Some(destroyed.as_ref().ok()?.id));
        mailbox::vacate(tx, &moving.chain(gone).collect::<Vec<_>>()).await?;
    }
    // Ids of mailboxes that were made, by their provisional ones.
    let mut ids: HashMap<Id, Id> = HashMap::new();
    let real = |ids: &HashMap<Id, Id>, id: Id| ids.get(&id).copied().unwrap_or(id);
    for (key, made) in created {
        match made {
            Ok(mut new) => {
                let provisional = new.id;
                new.parent_id = real(&ids, new.parent_id);
                new.id = insert(tx, viewer, &new).await?;
                ids.insert(provisional, new.id);
                creations.0.insert(key.clone(), new.id.to_string());
                let given = wanted.request.create.iter().find(|(known, _)| *known == key);
                let mut properties = to_json(&new, &wanted.account);
                // What the client gave is not echoed unless it was changed, such as a name made NFC.
                properties
                    .retain(|name, value| given.is_none_or(|(_, given)| given.get(name) != Some(value)));
                properties.insert("id".to_owned(), json!(new.id));
                told.created.insert(key, Value::Object(properties));
            }
            Err(error) => {
                told.not_created.insert(key, error.to_json());
            }
        }
    }
    for (given, changed) in updated {
        let shown = creations.resolve(&given).map_or_else(|| given.clone(), |id| id.to_string());
        match changed {
            Ok(Change { before, mut after }) => {
                let is_subscribed = after.is_subscribed;
                let is_changed = Mailbox { is_subscribed, ..before.clone() } != after;
                after.id = real(&ids, after.id);
                after.parent_id = real(&ids, after.parent_id);
                if is_changed {
                    mailbox::update(tx, &after).await?;
                }
                if before.is_subscribed != is_subscribed {
                    mailbox::subscribe(tx, viewer.login_id, after.id, is_subscribed).await?;
                }
                let patch = wanted.request.update.iter().find(|(known, _)| *known == given);
                let name = patch.and_then(|(_, patch)| patch.get("name"));
                let is_renamed = name.is_some_and(|name| *name != json!(after.name));
                let renamed = || Value::Object(Map::from_iter([("name".to_owned(), json!(after.name))]));
                told.updated.insert(shown, if is_renamed { renamed() } else { Value::Null });
            }
            Err(error) => {
                told.not_updated.insert(shown, error.to_json());
            }
        }
    }
    let old_trash = all.iter().find(|mailbox| mailbox.role.as_deref() == Some("trash")).map(|trash| trash.id);
    if old_trash != trash.map(|id| real(&ids, id)) {
        trash::changed(tx, old_trash).await?;
    }
    for (shown, gone) in destroyed {
        match gone {
            Ok(mailbox) => {
                let id = real(&ids, mailbox.id);
                mailbox::delete(tx, id).await?;
                told.destroyed.push(id.to_string());
            }
            Err(error) => {
                told.not_destroyed.insert(shown, error.to_json());
            }
        }
    }
    told.conclude(tx, ObjectType::Mailbox);
    Ok(Ok((told, creations)))
}

async fn insert(tx: &mut Tx, viewer: Viewer, new: &Mailbox) -> Result<Id, StoreError> {
    let Mailbox { parent_id, ref name, ref role, sort_order, is_subscribed, .. } = *new;
    let id = mailbox::insert(tx, &NewMailbox { parent_id, name, role: role.as_deref(), sort_order }).await?;
    if is_subscribed != viewer.is_owner {
        mailbox::subscribe(tx, viewer.login_id, id, is_subscribed).await?;
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::{Fixture, User};
    use crate::jmap::mailbox::set::REMOVED_AT_ONCE;
    use crate::types::state::State;

    async fn make(user: &User<'_>, create: Value) -> Value {
        let answer = user.call("Mailbox/set", json!({"create": create})).await;
        assert_eq!(answer["notCreated"], Value::Null);
        answer["created"].clone()
    }

    async fn get(user: &User<'_>, id: &Value) -> Value {
        user.call("Mailbox/get", json!({"ids": [id]})).await["list"][0].clone()
    }

    #[tokio::test]
    async fn roles_and_names_change_hands_in_one_call() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let (archive, sent) = (user.mailbox("archive").await, user.mailbox("sent").await);
        // The one that takes comes before the one that gives, and the other way round.
        let answer = user
            .call(
                "Mailbox/set",
                json!({"update": {
                    &archive: {"role": "sent", "name": "Sent"},
                    &sent: {"role": "archive", "name": "Archive"},
                }}),
            )
            .await;
        assert_eq!(answer["updated"], json!({&archive: null, &sent: null}), "{answer}");
        assert_eq!(user.mailbox("archive").await, sent);
        assert_eq!(get(&user, &json!(archive)).await["name"], json!("Sent"));
        // A new mailbox takes the role and the name of one that is destroyed.
        let answer = user
            .call(
                "Mailbox/set",
                json!({
                    "create": {"new": {"name": "Archive", "role": "archive"}}, "destroy": [sent],
                }),
            )
            .await;
        assert_eq!(answer["destroyed"], json!([sent]), "{answer}");
        assert_eq!(json!(user.mailbox("archive").await), answer["created"]["new"]["id"]);
        // Without the other half of the exchange it is refused.
        let answer = user.call("Mailbox/set", json!({"update": {&archive: {"role": "archive"}}})).await;
        assert_eq!(answer["notUpdated"][&archive]["properties"], json!(["role"]));
    }

    #[tokio::test]
    async fn parent_and_child_change_places() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let made = make(
            &user,
            json!({
                "inner": {"name": "inner", "parentId": "#outer"}, "outer": {"name": "outer"},
            }),
        )
        .await;
        assert_eq!(made["inner"]["parentId"], made["outer"]["id"]);
        assert_eq!(made["outer"]["parentId"], Value::Null);
        assert_eq!(made["outer"]["isSubscribed"], json!(true));
        assert_eq!(made["outer"].get("name"), None);
        let (inner, outer) = (made["inner"]["id"].as_str().unwrap(), made["outer"]["id"].as_str().unwrap());
        let answer = user
            .call(
                "Mailbox/set",
                json!({"update": {
                    outer: {"parentId": inner}, inner: {"parentId": null},
                }}),
            )
            .await;
        assert_eq!(answer["notUpdated"], Value::Null, "{answer}");
        assert_eq!(get(&user, &json!(outer)).await["parentId"], json!(inner));
        let answer = user.call("Mailbox/set", json!({"update": {inner: {"parentId": outer}}})).await;
        assert_eq!(answer["notUpdated"][inner]["properties"], json!(["parentId"]));
        // Named in any order, a tree is destroyed from its leaves up.
        let answer = user.call("Mailbox/set", json!({"destroy": [inner, outer, outer]})).await;
        assert_eq!(answer["destroyed"], json!([outer, inner]));
        assert_eq!(answer["notDestroyed"], Value::Null);
    }

    #[tokio::test]
    async fn each_bad_object_is_refused_and_no_other() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let (inbox, drafts) = (user.mailbox("inbox").await, user.mailbox("drafts").await);
        let answer = user
            .call(
                "Mailbox/set",
                json!({
                    "create": {
                        "good": {"name": "Caf\u{65}\u{301}"},
                        "same": {"name": "Drafts"},
                        "inner": {"name": "Drafts", "parentId": "#good"},
                        "nameless": {"role": null},
                        "blank": {"name": " "},
                        "role": {"name": "r", "role": "Archive"},
                        "count": {"name": "c", "totalEmails": 1},
                        "lost": {"name": "l", "parentId": "aaaaaaaaaaaaa"},
                        "long": {"name": "x".repeat(256)},
                        "order": {"name": "o", "sortOrder": 2_147_483_648_i64},
                    },
                    "update": {
                        "#good": {"sortOrder": 3},
                        &inbox: {"role": null},
                        &drafts: {"isSubscribed": false, "name": "Drafts", "totalEmails": 0},
                    },
                    "destroy": [&inbox, "none"],
                }),
            )
            .await;
        let created = &answer["created"];
        assert_eq!(created["good"]["name"], json!("Caf\u{e9}"));
        assert_eq!(created.as_object().unwrap().len(), 2);
        assert_eq!(answer["notCreated"]["same"]["type"], "alreadyExists");
        assert_eq!(answer["notCreated"]["same"]["existingId"], json!(drafts));
        for (key, property) in [
            ("nameless", "name"),
            ("blank", "name"),
            ("role", "role"),
            ("count", "totalEmails"),
            ("lost", "parentId"),
            ("long", "name"),
            ("order", "sortOrder"),
        ] {
            assert_eq!(answer["notCreated"][key]["properties"], json!([property]), "{key}: {answer}");
        }
        let good = created["good"]["id"].as_str().unwrap();
        assert_eq!(answer["updated"], json!({good: null, &drafts: null}));
        assert_eq!(get(&user, &json!(good)).await["sortOrder"], json!(3));
        assert_eq!(answer["notUpdated"][&inbox]["type"], "willDestroy");
        assert_eq!(answer["notDestroyed"][&inbox]["type"], "forbidden");
        assert_eq!(answer["notDestroyed"]["none"]["type"], "notFound");
    }

    #[tokio::test]
    async fn mail_goes_with_its_mailbox_when_that_is_wanted() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let trash = user.mailbox("trash").await;
        let inbox = user.mailbox("inbox").await;
        let only_here = user.email(b"Subject: a\r\n\r\n", json!({})).await;
        let both = user.email(b"Subject: b\r\n\r\n", json!({})).await;
        user.call(
            "Email/set",
            json!({"update": {
                &only_here: {"mailboxIds": {&trash: true}},
                &both: {"mailboxIds": {&trash: true, &inbox: true}},
            }}),
        )
        .await;
        let destroy = json!({"destroy": [trash]});
        let answer = user.call("Mailbox/set", destroy.clone()).await;
        assert_eq!(answer["notDestroyed"][&trash]["type"], "mailboxHasEmail");
        let child = make(&user, json!({"c": {"name": "c", "parentId": trash}})).await["c"]["id"].clone();
        let mut removing = destroy.clone();
        removing["onDestroyRemoveEmails"] = json!(true);
        let answer = user.call("Mailbox/set", removing.clone()).await;
        assert_eq!(answer["notDestroyed"][&trash]["type"], "mailboxHasChild");
        removing["destroy"] = json!([trash, child]);
        let answer = user.call("Mailbox/set", removing).await;
        assert_eq!(answer["destroyed"], json!([child, trash]));
        let got =
            user.call("Email/get", json!({"ids": [only_here, both], "properties": ["mailboxIds"]})).await;
        assert_eq!(got["notFound"], json!([only_here]));
        assert_eq!(got["list"][0]["mailboxIds"], json!({&inbox: true}));
        let counts = get(&user, &json!(inbox)).await;
        assert_eq!((&counts["totalEmails"], &counts["unreadThreads"]), (&json!(1), &json!(1)));
    }

    #[tokio::test]
    async fn many_small_mailboxes_are_emptied_in_steps() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let blob = user.upload(b"Subject: small\r\n\r\n").await;
        let names = (0..6).map(|number| (format!("m{number}"), json!({"name": format!("small {number}")})));
        let made = make(&user, names.collect()).await;
        let ids: Vec<&Value> = made.as_object().unwrap().values().map(|mailbox| &mailbox["id"]).collect();
        let emails = (0..REMOVED_AT_ONCE + 2).map(|number| {
            let mailbox = ids[number % ids.len()].as_str().unwrap();
            (format!("e{number}"), json!({"blobId": blob, "mailboxIds": {mailbox: true}}))
        });
        let emails: Value = emails.collect();
        let answer = user.call("Email/import", json!({"emails": emails})).await;
        assert_eq!(answer["notCreated"], Value::Null);
        let modseq = |state: &Value| state.as_str().unwrap().parse::<State>().unwrap().modseq;
        let before = modseq(&answer["newState"]);
        let destroy = json!({"destroy": ids, "onDestroyRemoveEmails": true});
        let answer = user.call("Mailbox/set", destroy).await;
        assert_eq!(answer["notDestroyed"], Value::Null, "{answer}");
        // Each transaction takes a number: one for each mailbox, and the last for all of them.
        assert_eq!(modseq(&answer["newState"]) - before, ids.len() as i64 + 1);
        let left = user.call("Email/get", json!({"ids": null, "properties": ["id"]})).await;
        assert_eq!(left["list"], json!([]));
    }

    #[tokio::test]
    async fn another_trash_counts_threads_anew() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let (archive, trash) = (user.mailbox("archive").await, user.mailbox("trash").await);
        let read = user.email(b"Subject: a\r\nMessage-ID: <1@x>\r\n\r\n", json!({"$seen": true})).await;
        let unread = user.email(b"Subject: Re: a\r\nIn-Reply-To: <1@x>\r\n\r\n", json!({})).await;
        user.call("Email/set", json!({"update": {&unread: {"mailboxIds": {&archive: true}}}})).await;
        let inbox = json!(user.mailbox("inbox").await);
        assert_eq!(get(&user, &inbox).await["unreadThreads"], json!(1), "{read}");
        let answer = user
            .call("Mailbox/set", json!({"update": {&archive: {"role": "trash"}, &trash: {"role": null}}}))
            .await;
        assert_eq!(answer["notUpdated"], Value::Null);
        assert_eq!(get(&user, &inbox).await["unreadThreads"], json!(0));
        assert_eq!(get(&user, &json!(archive)).await["unreadThreads"], json!(1));
    }
}
