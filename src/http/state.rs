//! What every handler has at hand.

use std::ops::Deref;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;

use crate::admin::Office;
use crate::app::App;
use crate::events::feed::Feed;
use crate::events::webhook::Webhooks;
use crate::http::health::LastAnswers;
use crate::http::limits::{Concurrency, Openings, PushPlaces};
use crate::http::ticket::Tickets;
use crate::jmap::call::Jmap;
use crate::push::hub::Hub;

/// The parts that handlers use. Cheap to clone, and small to keep: each connection has one.
#[derive(Clone)]
pub struct HttpState(Arc<Parts>);

impl Deref for HttpState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// See `HttpState`.
pub struct Parts {
    /// The server's parts.
    pub app: App,
    /// What methods work on.
    pub jmap: Jmap,
    /// Administrative acts.
    pub office: Office,
    /// Push.
    pub hub: Hub,
    /// Who listens to logs of events.
    pub feed: Feed,
    /// Posts to webhooks, for trial.
    pub webhooks: Webhooks,
    /// Tickets for browsers.
    pub tickets: Tickets,
    /// Requests under way, by login.
    pub concurrency: Concurrency,
    /// Clients connected for push, by login.
    pub push_places: PushPlaces,
    /// The turns by which they come in.
    pub openings: Openings,
    /// Of the endpoints that anybody may ask.
    pub last_answers: LastAnswers,
    /// Renders the metrics; absent where they are not collected.
    pub metrics: Option<PrometheusHandle>,
}

impl HttpState {
    /// Over the server's parts.
    pub fn new(
        app: App,
        office: Office,
        hub: Hub,
        feed: Feed,
        webhooks: Webhooks,
        metrics: Option<PrometheusHandle>,
    ) -> HttpState {
        let jmap = Jmap {
            store: app.store.clone(),
            blobs: app.blobs.clone(),
            index: app.index.clone(),
            cache: app.cache.clone(),
            hostname: app.config.hostname.as_str().into(),
            max_upload: usize::try_from(app.config.max_upload_size).unwrap_or(usize::MAX),
            recipients_per_hour: app.config.recipients_per_hour,
            push_key: app.vapid.public_key().into(),
            push_networks: app.config.push_networks.as_slice().into(),
        };
        let tickets = Tickets::new(app.ticket_key, app.clock.clone(), app.cache.clone());
        HttpState(Arc::new(Parts {
            office,
            app,
            jmap,
            hub,
            feed,
            webhooks,
            tickets,
            concurrency: Concurrency::default(),
            push_places: PushPlaces::default(),
            openings: Openings::default(),
            last_answers: LastAnswers::default(),
            metrics,
        }))
    }
}
