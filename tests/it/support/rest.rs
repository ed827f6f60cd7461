//! A program that speaks to the REST API with a key.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::http::{Request, Response};
use crate::support::server::Server;

/// A server and a key.
#[derive(Clone)]
pub struct Api {
    pub server: SocketAddr,
    /// Without it, nobody calls.
    pub key: Option<String>,
    /// By which the key is revoked.
    pub key_id: String,
    /// The address that a proxy says the program has.
    pub client: Option<String>,
}

impl Api {
    /// With a new key of a login, made with these arguments of `token add`.
    pub fn new(server: &Server, login: &str, rights: &[&str]) -> Api {
        let made = server.cli_json(&[&["token", "add", login][..], rights].concat());
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        Api { server: server.http(), key: Some(text("token")), key_id: text("id"), client: None }
    }

    /// The same server without a key.
    pub fn nobody(&self) -> Api {
        Api { key: None, ..self.clone() }
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        let request = Request::new(method, &format!("/api/v1{path}"));
        let request = match &self.client {
            Some(client) => request.header("X-Forwarded-For", client),
            None => request,
        };
        match &self.key {
            Some(key) => request.header("Authorization", &format!("Bearer {key}")),
            None => request,
        }
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let request = self.request(method, path);
        match body {
            Some(body) => request.json(body).send(self.server),
            None => request.send(self.server),
        }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).expect(200).json()
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let response = self.ask("POST", path, Some(body));
        assert!((200..300).contains(&response.status), "{} {}", response.status, response.text());
        response.json()
    }

    /// What is wrong: the status and the code of the problem.
    #[track_caller]
    pub fn problem(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let response = self.ask(method, path, body);
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{}", response.text());
        assert!(response.header("x-request-id").is_some());
        let problem = response.json();
        assert_eq!(problem["status"], response.status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        (response.status, problem["code"].as_str().expect("a code").to_owned())
    }
}
