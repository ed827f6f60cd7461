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
use crate::types::scope::{Scope, Scopes};

type Running<'a> = Pin<Box<dyn Future<Output = MethodResult> + Send + 'a>>;

/// A method.
pub struct Method {
    /// Its name, which is its response's too.
    pub name: &'static str,
    /// The capability that must be in `using`.
    pub capability: Capability,
    /// One of these scopes is wanted of the caller's credential.
    pub needs: Scopes,
    /// Runs a call.
    pub run: for<'a> fn(&'a mut Call<'_>, Arguments) -> Running<'a>,
}

macro_rules! methods {
    ($($name:literal $capability:ident [$($scope:ident)*] $run:path;)*) => {
        &[$(Method {
            name: $name,
            capability: Capability::$capability,
            needs: Scopes::of(&[$(Scope::$scope),*]),
            run: |call, arguments| Box::pin($run(call, arguments)),
        }),*]
    };
}

static METHODS: &[Method] = methods! {
    "Core/echo" Core [Read Write Send Admin] echo;

    "Blob/copy" Core [Write] blob::copy::copy;
    "Blob/upload" Blob [Write Send] blob::upload::upload;
    "Blob/get" Blob [Read] blob::get::get;
    "Blob/lookup" Blob [Read] blob::lookup::lookup;

    "PushSubscription/get" Core [Read] push_subscription::get;
    "PushSubscription/set" Core [Read] push_subscription::set;

    "Mailbox/get" Mail [Read] mailbox::get;
    "Mailbox/changes" Mail [Read] mailbox::changes;
    "Mailbox/query" Mail [Read] mailbox::query;
    "Mailbox/queryChanges" Mail [Read] mailbox::query_changes;
    "Mailbox/set" Mail [Write] mailbox::set;

    "Thread/get" Mail [Read] thread::get;
    "Thread/changes" Mail [Read] thread::changes;

    "Email/get" Mail [Read] email::get::get;
    "Email/changes" Mail [Read] email::get::changes;
    "Email/query" Mail [Read] email::query::query;
    "Email/queryChanges" Mail [Read] email::query::query_changes;
    "Email/set" Mail [Write] email::set::set;
    "Email/copy" Mail [Write] email::copy::copy;
    "Email/import" Mail [Write] email::import::import;
    "Email/parse" Mail [Read] email::parse::parse;

    "SearchSnippet/get" Mail [Read] snippet::get;

    "Identity/get" Submission [Read Send] identity::get;
    "Identity/changes" Submission [Read Send] identity::changes;
    "Identity/set" Submission [Write] identity::set;

    "EmailSubmission/get" Submission [Read Send] submission::get;
    "EmailSubmission/changes" Submission [Read Send] submission::changes;
    "EmailSubmission/query" Submission [Read Send] submission::query::query;
    "EmailSubmission/queryChanges" Submission [Read Send] submission::query::query_changes;
    "EmailSubmission/set" Submission [Send] submission::set::set;

    "VacationResponse/get" VacationResponse [Read] vacation::get;
    "VacationResponse/set" VacationResponse [Write] vacation::set;

    "Quota/get" Quota [Read] quota::get;
    "Quota/changes" Quota [Read] quota::changes;
    "Quota/query" Quota [Read] quota::query;
    "Quota/queryChanges" Quota [Read] quota::query_changes;
};

/// All methods.
pub fn all() -> &'static [Method] {
    METHODS
}

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
