//! An event as programs see it: in answers of the API, and in the bodies of webhooks.

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::event::log::LoggedEvent;
use crate::types::date::utc_date;
use crate::types::event::EventData;

/// Something that has happened to mail.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "id": "agvkzq2bw2cdq", "type": "message.delivered", "timestamp": "2026-11-27T09:30:00Z",
    "accountId": "agvkzq2bvv3wq", "account": "shop@example.org", "cursor": "1041.77.0",
    "data": {
        "sendId": "agvkzq2bw2cda", "messageId": "agvkzq2bw2ccy", "from": "shop@example.org",
        "recipient": "bob@example.net", "reply": "250 2.0.0 OK", "tags": ["order"], "metadata": { "order": 1234 }
    }
}))]
pub struct EventObject {
    /// The same whenever and wherever it is told: what comes twice is known by it.
    pub id: String,
    /// What has happened: `message.received`, `message.sent` (taken for sending), `message.delivered` (the
    /// recipient's server has it, or it was filed here), `message.deferred` (it is tried again),
    /// `message.bounced` (given up), `message.complained` (the recipient calls it unwanted),
    /// `message.suppressed` (the recipient is not tried), `message.canceled`. More may come.
    pub r#type: String,
    /// When it happened.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// Whose mail it is.
    pub account_id: String,
    /// The primary address of that account.
    pub account: String,
    /// The place after it: as `after`, it gives what comes next.
    pub cursor: String,
    /// What is told of it.
    pub data: EventData,
}

impl From<LoggedEvent> for EventObject {
    fn from(event: LoggedEvent) -> EventObject {
        EventObject {
            id: event.id.to_string(),
            r#type: event.kind.map_or_else(String::new, |kind| kind.name().to_owned()),
            timestamp: utc_date(event.created_at),
            account_id: event.account.to_string(),
            cursor: event.cursor().to_string(),
            account: event.account_name,
            data: event.data,
        }
    }
}
