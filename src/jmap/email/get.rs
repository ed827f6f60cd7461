//! Email/get and Email/changes (RFC 8621, 4.2 and 4.3).

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::cache::{Cache, Space};
use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, Jmap, MethodResult};
use crate::jmap::email::properties::Wanted;
use crate::jmap::email::view::{Metadata, Source, TooCostly, write};
use crate::jmap::error::MethodError;
use crate::jmap::limits::{MAX_OBJECTS_IN_GET, MAX_SIZE_RESPONSE};
use crate::jmap::request::push_json;
use crate::jmap::standard;
use crate::jmap::standard::get::{GetRequest, too_many};
use crate::mail::list_properties::StoredProperties;
use crate::mail::scan::scan;
use crate::mail::structure::{PARSER_VERSION, Structure};
use crate::store::blob::Reader;
use crate::store::change::state_of;
use crate::store::db::Conn;
use crate::store::email::place::{Placed, placements};
use crate::store::email::read::{self, EmailRow};
use crate::store::error::StoreError;
use crate::types::blob_id::{BlobHash, BlobId};
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// Messages whose octets are in memory at a time, at the most.
const MESSAGES_AT_ONCE: usize = 16;
/// Octets of messages in memory at a time; a larger message is read alone.
const OCTETS_AT_ONCE: i64 = 32 << 20;

/// Emails whose structures are in memory at a time, at the most.
const STRUCTURES_AT_ONCE: usize = 64;

/// Emails that one call puts into the cache, at the most.
const REMEMBERED_AT_ONCE: usize = 256;

/// Cuts Emails into runs whose messages can be in memory together.
pub fn runs(rows: &[EmailRow]) -> impl Iterator<Item = &[EmailRow]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut octets = 0;
        let fits = |row: &&EmailRow| {
            octets += row.size;
            octets <= OCTETS_AT_ONCE
        };
        let length = rest.iter().take(MESSAGES_AT_ONCE).take_while(fits).count().max(1);
        let (run, later) = rest.split_at_checked(length)?;
        rest = later;
        Some(run)
    })
}

/// Email/get.
pub async fn get(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = GetRequest::read(call, &mut arguments)?;
    let wanted = Wanted::of_get(request.properties, &mut arguments)?;
    arguments.finish()?;
    let account = request.account.id;
    let mut snapshot = call.jmap.store.read().await?;
    let state = state_of(&mut snapshot, account, ObjectType::Email).await?;
    let shown: Vec<String> = match request.ids {
        Some(ids) => ids,
        None => {
            let ids = read::ids(&mut snapshot, account, MAX_OBJECTS_IN_GET + 1).await?;
            if ids.len() > MAX_OBJECTS_IN_GET {
                return Err(too_many());
            }
            ids.iter().map(Id::to_string).collect()
        }
    };
    let ids: Vec<Id> = shown.iter().filter_map(|id| id.parse().ok()).collect();
    // What an Email is never changes and may be remembered; that it is there is asked every time.
    let placed = placements(&mut snapshot, account, &ids).await?;
    let there: Vec<Id> = placed.iter().map(|placed| placed.email_id).collect();
    let places: HashMap<Id, Placed> = placed.into_iter().map(|placed| (placed.email_id, placed)).collect();
    let rows = remembered_rows(&call.jmap.cache, &mut snapshot, account, &there).await?;
    let mut by_id: HashMap<Id, EmailRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    drop(snapshot);

    let mut out = String::with_capacity(256 + by_id.len() * 768);
    out.push_str("{\"accountId\":\"");
    account.0.push_to(&mut out);
    out.push_str("\",\"state\":");
    push_json(&mut out, &state.to_string());
    out.push_str(",\"list\":[");
    let mut not_found: Vec<&str> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::with_capacity(shown.len());
    let mut order: Vec<EmailRow> = Vec::with_capacity(by_id.len());
    for id in &shown {
        if seen.insert(id) {
            match id.parse().ok().and_then(|id| by_id.remove(&id)) {
                Some(row) => order.push(row),
                None => not_found.push(id),
            }
        }
    }
    let reader = Reader::login(account, call.caller.login_id);
    let needs_octets = wanted.needs_octets();
    let mut is_first = true;
    let mut gone = Vec::new();
    for rows in order.chunks(STRUCTURES_AT_ONCE) {
        // Read when their turn comes: like messages, structures can be large.
        let structures = structures_of(call.jmap, &wanted, reader, account, rows).await?;
        for rows in runs(rows) {
            let octets = if needs_octets {
                let hashes: Vec<BlobHash> = rows.iter().map(|row| row.blob_hash).collect();
                call.jmap.blobs.read_many(reader, &hashes).await?
            } else {
                HashMap::new()
            };
            for row in rows {
                let (structure, raw) = (structures.get(&row.id), octets.get(&row.blob_hash));
                if (needs_octets && raw.is_none()) || (wanted.needs_structure() && structure.is_none()) {
                    // Destroyed since the snapshot.
                    gone.push(row.id.to_string());
                    continue;
                }
                if !std::mem::take(&mut is_first) {
                    out.push(',');
                }
                let written = write_email(&mut out, &wanted, row, structure, places.get(&row.id), raw)?;
                written.map_err(|_| {
                    MethodError::RequestTooLarge(format!(
                        "Email {} is too large for the properties asked for; ask for fewer header fields, \
                         or leave it out",
                        row.id
                    ))
                })?;
                if out.len() > MAX_SIZE_RESPONSE {
                    let text = "the Emails are too large for one response; ask for fewer ids".to_owned();
                    return Err(MethodError::RequestTooLarge(text));
                }
            }
        }
    }
    not_found.extend(gone.iter().map(String::as_str));
    out.push_str("],\"notFound\":");
    push_json(&mut out, &not_found);
    out.push('}');
    Ok(Body::Text(out))
}

/// The rows of Emails that are there, from the cache as far as it has them.
async fn remembered_rows(
    cache: &Cache,
    conn: &mut Conn,
    account: AccountId,
    ids: &[Id],
) -> Result<Vec<EmailRow>, StoreError> {
    let mut rows = Vec::with_capacity(ids.len());
    let mut unknown = Vec::new();
    for (id, kept) in ids.iter().zip(cache.get_many(Space::Email, account, ids).await) {
        match kept.and_then(|kept| EmailRow::from_bytes(*id, &kept)) {
            Some(row) => rows.push(row),
            None => unknown.push(*id),
        }
    }
    if !unknown.is_empty() {
        let read = read::rows(conn, account, &unknown).await?;
        // A few at a time are what is looked at again; a client that reads all of its mail would
        // only push that out.
        if unknown.len() <= REMEMBERED_AT_ONCE {
            let kept = read.iter().map(|row| (row.id, row.to_bytes())).collect();
            cache.put_many(Space::Email, account, kept).await;
        }
        rows.extend(read);
    }
    Ok(rows)
}

/// The structures of Emails, if they are wanted. One that another version of the parser made is made
/// anew from its message: ids of parts stand in the octets, so that they stay what they were.
async fn structures_of(
    jmap: &Jmap,
    wanted: &Wanted,
    reader: Reader,
    account: AccountId,
    rows: &[EmailRow],
) -> Result<HashMap<Id, Structure>, MethodError> {
    if !wanted.needs_structure() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Id> = rows.iter().map(|row| row.id).collect();
    let stored = read::structures(&mut *jmap.store.read().await?, account, &ids).await?;
    let mut structures = HashMap::with_capacity(stored.len());
    for (id, text) in stored {
        structures.extend(current_structure(&text).map(|structure| (id, structure)));
    }
    let old: Vec<EmailRow> = rows.iter().filter(|row| !structures.contains_key(&row.id)).cloned().collect();
    for rows in runs(&old) {
        let hashes: Vec<BlobHash> = rows.iter().map(|row| row.blob_hash).collect();
        let octets = jmap.blobs.read_many(reader, &hashes).await?;
        for row in rows {
            structures.extend(octets.get(&row.blob_hash).map(|raw| (row.id, scan(raw))));
        }
    }
    Ok(structures)
}

/// A stored structure, when this version of the parser made it.
pub(super) fn current_structure(text: &str) -> Option<Structure> {
    Structure::from_json(text).ok().filter(|structure| structure.version == PARSER_VERSION)
}

/// Writes a stored Email at the end of `out`. `placed` and `raw` are needed where what is wanted
/// needs them.
pub(super) fn write_email(
    out: &mut String,
    wanted: &Wanted,
    row: &EmailRow,
    structure: Option<&Structure>,
    placed: Option<&Placed>,
    raw: Option<&Bytes>,
) -> Result<Result<(), TooCostly>, StoreError> {
    let corrupt = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::corrupt_value(&format!("{what} of Email {}", row.id), error)
    };
    let list = StoredProperties::read(&row.list_properties)
        .ok_or_else(|| corrupt("list_properties", &"its lines"))?;
    let source = Source {
        blob_id: &BlobId::whole(row.blob_hash),
        raw: raw.map_or(&[], |raw| raw.as_ref()),
        structure,
        list: &list,
        size: row.size,
        has_attachment: row.has_attachment,
        metadata: Some(Metadata {
            id: row.id,
            thread_id: row.thread_id,
            received_at: row.received_at,
            placed,
        }),
    };
    Ok(write(out, wanted, &source))
}

/// Email/changes.
pub async fn changes(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    let answer = standard::changes::changes(call, arguments, ObjectType::Email, |id| id.to_string()).await?;
    Ok(answer.into_body())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::cache::Space;
    use crate::jmap::fixture::Fixture;
    use crate::store::email::read::EmailRow;
    use crate::store::testing::replace_structure;
    use crate::types::id::Id;

    #[tokio::test]
    async fn what_an_email_is_comes_from_the_cache_and_that_it_is_there_does_not() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let (cache, account) = (&fixture.jmap.cache, user.caller.accounts[0].id);
        let shown = user.email(b"Subject: a\r\n\r\n", json!({})).await;
        let id: Id = shown.parse().unwrap();
        let get = async || {
            user.call("Email/get", json!({"ids": [shown], "properties": ["subject", "size", "keywords"]}))
                .await
        };
        let first = get().await;
        assert_eq!(first["list"], json!([{"id": shown, "subject": "a", "size": 14, "keywords": {}}]));
        let kept = cache.get_many(Space::Email, account, &[id]).await[0].clone().unwrap();
        let mut row = EmailRow::from_bytes(id, &kept).unwrap();
        assert_eq!(EmailRow::from_bytes(id, &kept[..20]), None);
        // Told from here on, so that it can be seen; keywords are never remembered.
        row.size = 15;
        cache.put_many(Space::Email, account, vec![(id, row.to_bytes())]).await;
        user.call("Email/set", json!({"update": {&shown: {"keywords/$seen": true}}})).await;
        let second = get().await;
        assert_eq!(
            second["list"],
            json!([{"id": shown, "subject": "a", "size": 15, "keywords": {"$seen": true}}])
        );
        user.call("Email/set", json!({"destroy": [shown]})).await;
        assert_eq!(get().await["notFound"], json!([shown]));
    }

    #[tokio::test]
    async fn a_structure_of_another_version_is_made_anew() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n\
                    Content-Type: image/png\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n";
        let shown = user.email(raw, json!({})).await;
        let get = async || {
            let wanted = ["bodyStructure", "textBody", "attachments", "hasAttachment"];
            user.call("Email/get", json!({"ids": [shown], "properties": wanted})).await["list"][0].clone()
        };
        let before = get().await;
        assert_eq!(before["attachments"][0]["type"], "image/png");
        let (account, id) = (user.caller.accounts[0].id, shown.parse().unwrap());
        for old in [r#"{"v":0,"p":[]}"#, r#"{"v":200,"parts":"another form"}"#] {
            replace_structure(&fixture.jmap.store, account, id, old).await;
            assert_eq!(get().await, before, "{old}");
        }
    }

    #[tokio::test]
    async fn a_large_field_is_not_multiplied_by_the_properties_asked_for() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let raw = format!("Xlargeone: {}\r\n\r\ntext\r\n", "y".repeat(900_000));
        let shown = user.email(raw.as_bytes(), json!({})).await;
        // Names of fields that differ by case only are one field, and a property each.
        let names: Vec<String> = (0..90_usize)
            .map(|n| {
                let cased = "xlargeone".chars().enumerate().map(|(place, c)| match n >> place & 1 {
                    1 => c.to_ascii_uppercase(),
                    _ => c,
                });
                format!("header:{}", cased.collect::<String>())
            })
            .collect();
        let get = async |names: &[String]| {
            let wanted = json!({"ids": [shown], "properties": ["textBody"], "bodyProperties": names});
            user.call("Email/get", wanted).await
        };
        let few = get(&names[..2]).await;
        let text = few["list"][0]["textBody"][0]["header:xlargeone"].as_str().unwrap();
        assert!(text.len() >= 900_000);
        assert_eq!(get(&names).await["type"], "requestTooLarge");
    }
}
