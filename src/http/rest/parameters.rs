//! Parameters in the path and the query, with errors of the API. A parameter that the document does not
//! describe is refused: one that is misspelt would change what is done.

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::http::rest::BASE;
use crate::http::rest::problem::Problem;

/// The names of the parameters after the question mark, by path and method.
pub type Described = Arc<HashMap<(String, Method), BTreeSet<String>>>;

/// What a document describes.
pub fn described(document: &OpenApi) -> Described {
    let mut all = HashMap::new();
    for (path, item) in &document.paths.paths {
        let operations: [(Method, &Option<Operation>); 5] = [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in operations {
            let parameters = operation.iter().flat_map(|operation| operation.parameters.iter().flatten());
            let names = parameters.filter_map(|parameter| match parameter {
                RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
                    Some(parameter.name.clone())
                }
                _ => None,
            });
            let names = names.collect();
            all.insert((path.clone(), method), names);
        }
    }
    Arc::new(all)
}

/// Refuses a request with a parameter that is not described.
pub async fn only_described(
    State(described): State<Described>,
    matched: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let path = matched.as_ref().map(|path| path.as_str().trim_start_matches(BASE).to_owned());
    let names = path.and_then(|path| described.get(&(path, request.method().clone())));
    let given = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri());
    let given = given.map(|given| given.0).unwrap_or_default();
    let unknown =
        names.and_then(|names| given.into_iter().map(|(name, _)| name).find(|name| !names.contains(name)));
    match unknown {
        None => next.run(request).await,
        Some(name) => Problem::invalid(format!("{name:?} is no parameter of this; see {BASE}/openapi.json."))
            .into_response(),
    }
}

/// The parameters after the question mark, each known by its name.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, Problem> {
        let read = axum::extract::Query::try_from_uri(&parts.uri);
        read.map(|read| Query(read.0)).map_err(|error| {
            // The text of the rejection, and below it what serde says.
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = error.to_string();
                cause = error.source();
            }
            Problem::invalid(format!("The query is not as it should be: {text}."))
        })
    }
}

/// The parameters within the path.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|read| Path(read.0))
            .map_err(|_| Problem::invalid("The path is no UTF-8, or not as it should be."))
    }
}

/// How many a page has.
pub fn page_limit(given: Option<usize>, usual: usize, max: usize) -> Result<usize, Problem> {
    let limit = given.unwrap_or(usual);
    if limit == 0 || limit > max {
        return Err(Problem::invalid(format!("limit: a number from 1 to {max} is wanted.")));
    }
    Ok(limit)
}

/// Where a page begins.
pub fn read_cursor<T: FromStr>(given: Option<&str>) -> Result<Option<T>, Problem> {
    let wrong = |_| Problem::invalid("cursor: give nextCursor of the page before, as it is.");
    given.map(str::parse).transpose().map_err(wrong)
}
