//! SearchSnippet/get (RFC 8621, 5): what of an Email a text search has found. Made anew from the
//! message at each call; there is nothing stored and no state.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::index::query::TextQuery;
use crate::index::snippet::{Snippet, snippet};
use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::email::create::run_parsing;
use crate::jmap::email::query::{Condition, read_filter};
use crate::jmap::limits::MAX_SIZE_BLOBS_PER_CALL;
use crate::jmap::standard::get::{check_count, too_many};
use crate::jmap::standard::query::Filter;
use crate::mail::scan::scan;
use crate::mail::text::search_text;
use crate::store::email::read;
use crate::types::blob_id::BlobHash;
use crate::types::id::Id;

/// Messages whose octets are in memory at a time.
const MESSAGES_AT_ONCE: usize = 8;

/// SearchSnippet/get.
pub async fn get(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.account(&mut arguments)?;
    let filter = arguments.object("filter")?.map(Value::Object);
    let given = arguments.required_strings("emailIds")?;
    arguments.finish()?;
    check_count(&given)?;
    let mut queries = Vec::new();
    if let Some(filter) = &filter {
        gather(&read_filter(call, filter)?, &mut queries);
    }
    let ids: Vec<Id> = given.iter().filter_map(|id| call.resolve_id(id)).collect();
    let mut snapshot = call.jmap.store.read().await?;
    let rows = read::rows(&mut snapshot, account.id, &ids).await?;
    drop(snapshot);
    let mut snippets: HashMap<Id, Snippet> = HashMap::with_capacity(rows.len());
    if queries.is_empty() {
        // Without a text nothing is marked, and no message need be read.
        snippets.extend(rows.iter().map(|row| (row.id, Snippet::default())));
    } else {
        let size: i64 = rows.iter().map(|row| row.size).sum();
        if size > MAX_SIZE_BLOBS_PER_CALL as i64 {
            return Err(too_many());
        }
        let queries: Arc<[TextQuery]> = queries.into();
        for rows in rows.chunks(MESSAGES_AT_ONCE) {
            let hashes: Vec<BlobHash> = rows.iter().map(|row| row.blob_hash).collect();
            let octets = call.jmap.blobs.read_many(call.reader(&account), &hashes).await?;
            for row in rows {
                // Destroyed meanwhile, when it is not there.
                let Some(raw) = octets.get(&row.blob_hash).cloned() else { continue };
                let queries = queries.clone();
                let marked = run_parsing(raw.len(), move || {
                    let text = search_text(&raw, &scan(&raw));
                    snippet(&text.subject, &text.body, &queries)
                });
                snippets.insert(row.id, marked.await?);
            }
        }
    }
    let mut list = Vec::with_capacity(snippets.len());
    let mut not_found = Vec::new();
    let mut seen = HashSet::with_capacity(given.len());
    for given in given.iter().filter(|given| seen.insert(*given)) {
        let id = call.resolve_id(given);
        match id.and_then(|id| Some((id, snippets.get(&id)?))) {
            Some((id, Snippet { subject, preview })) => {
                list.push(json!({"emailId": id, "subject": subject, "preview": preview}));
            }
            None => not_found.push(given),
        }
    }
    Ok(Body::Json(json!({
        "accountId": account.id.to_string(),
        "list": list,
        "notFound": Some(not_found).filter(|ids| !ids.is_empty()),
    })))
}

/// The texts that an Email may have matched by. What stands under a NOT was not found in it.
fn gather(filter: &Filter<Vec<Condition>>, queries: &mut Vec<TextQuery>) {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().for_each(|part| gather(part, queries)),
        Filter::Not(_) => {}
        Filter::Is(conditions) => queries.extend(conditions.iter().filter_map(|leaf| match leaf {
            Condition::Text(text) => Some(text.clone()),
            Condition::Stored(_) => None,
        })),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::Fixture;

    #[tokio::test]
    async fn matches_are_marked_but_not_what_was_excluded() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let message = b"Subject: apples & pears\r\n\r\nThe pears are ripe, the plums are not.\r\n";
        let email = user.email(message, json!({})).await;
        let get = async |filter: Value| {
            let asked = json!({"filter": filter, "emailIds": [email, "none", email]});
            user.call("SearchSnippet/get", asked).await
        };
        let filter = json!({"operator": "AND", "conditions": [
            {"text": "pears", "hasKeyword": "$seen"},
            {"operator": "NOT", "conditions": [{"text": "plums"}]},
        ]});
        let answer = get(filter).await;
        assert_eq!(answer["notFound"], json!(["none"]));
        assert_eq!(
            answer["list"],
            json!([{
                "emailId": email,
                "subject": "apples &amp; <mark>pears</mark>",
                "preview": "The <mark>pears</mark> are ripe, the plums are not.",
            }])
        );
        let nothing = json!([{"emailId": email, "subject": null, "preview": null}]);
        assert_eq!(get(json!({"text": "cherries"})).await["list"], nothing);
        assert_eq!(get(json!({"hasAttachment": true})).await["list"], nothing);
        assert_eq!(get(Value::Null).await["list"], nothing);
        assert_eq!(get(json!({"nonsense": 1})).await["type"], "unsupportedFilter");
        let ids: Vec<String> = (0..4_097).map(|number| number.to_string()).collect();
        let answer = user.call("SearchSnippet/get", json!({"emailIds": ids})).await;
        assert_eq!(answer["type"], "requestTooLarge");
        let answer = user.call("SearchSnippet/get", json!({"emailIds": []})).await;
        assert_eq!((&answer["list"], &answer["notFound"]), (&json!([]), &Value::Null));
    }

    #[tokio::test]
    async fn emails_of_others_are_not_found() {
        let fixture = Fixture::new().await;
        let (alice, bob) = (fixture.user("alice@example.test").await, fixture.user("bob@example.test").await);
        let email = alice.email(b"Subject: secret\r\n\r\n", json!({})).await;
        let asked = json!({"filter": {"text": "secret"}, "emailIds": [email]});
        let answer = bob.call("SearchSnippet/get", asked).await;
        assert_eq!((&answer["list"], &answer["notFound"]), (&json!([]), &json!([email])));
    }
}
