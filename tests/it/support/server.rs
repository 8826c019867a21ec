//! The real server on a free port, and a client for it.

use std::sync::Arc;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use watchbell::api::server::serve;
use watchbell::api::state::ApiState;
use watchbell::config::Config;
use watchbell::db::pool::{Pool, Role};
use watchbell::telemetry::metrics::Metrics;

/// A server that stops with the test.
pub struct TestServer {
    pub url: String,
    pub client: Client,
    _stop: DropGuard,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What the handlers need, for this database and a broker that is connected or not.
pub fn state(config: &Config, broker_is_connected: bool) -> ApiState {
    ApiState {
        pool: Pool::new(&config.database, Role::Api, 4).unwrap(),
        metrics: Metrics::new(),
        broker: Some(Arc::new(move || broker_is_connected)),
        intake: None,
        public_url: config.api.public_url.clone(),
    }
}

impl TestServer {
    /// Programs and people, on this database.
    pub async fn start(config: &Config) -> Self {
        Self::serve(watchbell::console::server::router(state(config, true))).await
    }

    /// Whatever is given.
    pub async fn serve(router: axum::Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        tokio::spawn(serve(listener, router, cancel.clone()));
        // The second test to come here finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { url, client: Client::new(), _stop: cancel.drop_guard() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str, key: &str) -> Answer {
        send(self.request(Method::GET, path).bearer_auth(key)).await
    }

    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).bearer_auth(key).json(body)).await
    }

    pub async fn delete(&self, path: &str, key: &str) -> Answer {
        send(self.request(Method::DELETE, path).bearer_auth(key)).await
    }

    pub async fn get_without_key(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }
}

pub async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

/// Each error is a problem with this status; returns its members.
pub fn assert_problem(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    for member in ["type", "title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    problem
}
