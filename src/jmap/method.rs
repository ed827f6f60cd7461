//! The one table of all methods.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::LazyLock;

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::capability::Capability;
use crate::jmap::{
    blob, email, identity, mailbox, push_subscription, quota, snippet, submission, thread, vacation,
};

type Running<'a> = Pin<Box<dyn Future<Output = MethodResult> + Send + 'a>>;

/// A method.
pub struct Method {
    /// Its name, which is its response's too.
    pub name: &'static str,
    /// The capability that must be in `using`.
    pub capability: Capability,
    /// Runs a call.
    pub run: for<'a> fn(&'a mut Call<'_>, Arguments) -> Running<'a>,
}

macro_rules! methods {
    ($($name:literal $capability:ident $run:path;)*) => {
        &[$(Method {
            name: $name,
            capability: Capability::$capability,
            run: |call, arguments| Box::pin($run(call, arguments)),
        }),*]
    };
}

static METHODS: &[Method] = methods! {
    "Core/echo" Core echo;

    "Blob/copy" Core blob::copy::copy;
    "Blob/upload" Blob blob::upload::upload;
    "Blob/get" Blob blob::get::get;
    "Blob/lookup" Blob blob::lookup::lookup;

    "PushSubscription/get" Core push_subscription::get;
    "PushSubscription/set" Core push_subscription::set;

    "Mailbox/get" Mail mailbox::get;
    "Mailbox/changes" Mail mailbox::changes;
    "Mailbox/query" Mail mailbox::query;
    "Mailbox/queryChanges" Mail mailbox::query_changes;
    "Mailbox/set" Mail mailbox::set;

    "Thread/get" Mail thread::get;
    "Thread/changes" Mail thread::changes;

    "Email/get" Mail email::get::get;
    "Email/changes" Mail email::get::changes;
    "Email/query" Mail email::query::query;
    "Email/queryChanges" Mail email::query::query_changes;
    "Email/set" Mail email::set::set;
    "Email/copy" Mail email::copy::copy;
    "Email/import" Mail email::import::import;
    "Email/parse" Mail email::parse::parse;

    "SearchSnippet/get" Mail snippet::get;

    "Identity/get" Submission identity::get;
    "Identity/changes" Submission identity::changes;
    "Identity/set" Submission identity::set;

    "EmailSubmission/get" Submission submission::get;
    "EmailSubmission/changes" Submission submission::changes;
    "EmailSubmission/query" Submission submission::query::query;
    "EmailSubmission/queryChanges" Submission submission::query::query_changes;
    "EmailSubmission/set" Submission submission::set::set;

    "VacationResponse/get" VacationResponse vacation::get;
    "VacationResponse/set" VacationResponse vacation::set;

    "Quota/get" Quota quota::get;
    "Quota/changes" Quota quota::changes;
    "Quota/query" Quota quota::query;
    "Quota/queryChanges" Quota quota::query_changes;
};

/// The method of a name.
pub fn named(name: &str) -> Option<&'static Method> {
    static BY_NAME: LazyLock<HashMap<&str, &Method>> =
        LazyLock::new(|| METHODS.iter().map(|method| (method.name, method)).collect());
    BY_NAME.get(name).copied()
}

/// Core/echo (RFC 8620, 4).
async fn echo(_call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    Ok(Body::Json(arguments.into_value()))
}
