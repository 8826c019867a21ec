//! The demo hub on a port.
//!
//! Owns the life of the listener and what becomes of a call. Invariant: once the hub is down every connection is closed and the port
//! refuses, a hanging call included; what it remembers and was told to do survives until it comes back.
//! `watchbell dev up` and the integration tests start it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Reply};
use super::contract::{Call, Contract};
use super::engine::EngineRules;
use super::record::{Answered, Received, Record};
use super::rules::{BODY_LIMIT, EVENTS_PATH, Rules};
use super::wire::{Line, Lines};
use crate::dev::port;

const DOWN_DEADLINE: Duration = Duration::from_secs(5);

/// How a hub should be.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The key that callers must show.
    pub api_key: String,
    /// How many first calls are answered 503.
    pub first_503: usize,
    /// Calls that pass in each minute; `None`: all.
    pub rate_per_minute: Option<u32>,
    /// What it says of each event: how many rules had a recipient for it.
    pub processed: u32,
    /// The port on 127.0.0.1; `None`: any that is free.
    pub port: Option<u16>,
    /// How many calls the record keeps, the newest.
    pub keep: usize,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            api_key: "demo-hub-key".into(),
            first_503: 0,
            rate_per_minute: Some(200),
            processed: 1,
            port: None,
            keep: 10_000,
        }
    }
}

/// A running hub. Dropping it closes it.
#[derive(Debug)]
pub struct Hub {
    mind: Arc<Mind>,
    address: SocketAddr,
    running: Option<Running>,
}

impl Hub {
    /// Starts a hub; it takes calls as soon as this returns.
    pub async fn start(options: HubOptions) -> anyhow::Result<Self> {
        let HubOptions { api_key, first_503, rate_per_minute, processed, port, keep } = options;
        let rules = Rules::new(&api_key, first_503, rate_per_minute, processed);
        Self::start_with(Box::new(rules), port, keep).await
    }

    /// Starts a workflow engine in a hub's place: everything but the contract is the same.
    pub async fn start_engine(rules: EngineRules, port: Option<u16>) -> anyhow::Result<Self> {
        Self::start_with(Box::new(rules), port, HubOptions::default().keep).await
    }

    async fn start_with(rules: Box<dyn Contract>, port: Option<u16>, keep: usize) -> anyhow::Result<Self> {
        let mind =
            Arc::new(Mind { rules: Mutex::new(rules), script: Mutex::default(), record: Record::new(keep) });
        let port = match port {
            Some(port) => port,
            None => port::free()?,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut hub = Self { mind, address, running: None };
        hub.restart().await?;
        Ok(hub)
    }

    /// `http://127.0.0.1:port/api/events`: where events are posted to.
    pub fn url(&self) -> String {
        format!("http://{}{EVENTS_PATH}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Queues what becomes of the next call that nothing is queued for yet. Calls come off the queue whatever their
    /// path; they don't count for the rules.
    pub fn push_answer(&self, answer: impl Into<Answer>) {
        self.mind.script().next.push_back(answer.into());
    }

    /// Forgets what is queued.
    pub fn clear_answers(&self) {
        self.mind.script().next.clear();
    }

    /// What becomes of calls when nothing is queued; [`Answer::ByTheRules`] to begin with.
    pub fn set_default(&self, answer: impl Into<Answer>) {
        self.mind.script().default = answer.into();
    }

    /// The calls that came in, oldest first; of many, the newest.
    pub fn received(&self) -> Vec<Received> {
        self.mind.record.all()
    }

    /// How many calls came in since the start.
    pub fn total(&self) -> u64 {
        self.mind.record.total()
    }

    /// Waits until the condition holds for [`Hub::received`], and returns that; an error that lists it when time is up.
    pub async fn wait_for(
        &self,
        condition: impl FnMut(&[Received]) -> bool,
        timeout: Duration,
    ) -> anyhow::Result<Vec<Received>> {
        self.mind.record.wait_for(condition, timeout).await
    }

    /// Closes the port and every connection; [`Hub::restart`] brings it back with all it remembers.
    pub async fn take_down(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.down.cancel();
            if tokio::time::timeout(DOWN_DEADLINE, &mut running.task).await.is_err() {
                running.task.abort();
            }
        }
    }

    /// Brings it back on the same port; takes it down first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.take_down().await;
        let listener = TcpListener::bind(self.address).await;
        let listener =
            listener.with_context(|| format!("failed to listen on {} for the hub", self.address))?;
        self.address = listener.local_addr()?;
        let down = CancellationToken::new();
        let router = Router::new().fallback(take_call).with_state(Arc::clone(&self.mind));
        let lines = Lines::new(listener, down.clone());
        let serve = axum::serve(lines, router.into_make_service_with_connect_info::<Line>())
            .with_graceful_shutdown(down.clone().cancelled_owned());
        let task = tokio::spawn(async move {
            // It ends when it is told to, and only then.
            let _ = serve.await;
        });
        self.running = Some(Running { down, task });
        Ok(())
    }

    /// Closes it for good.
    pub async fn stop(mut self) {
        self.take_down().await;
    }
}

#[derive(Debug)]
struct Running {
    down: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.down.cancel();
    }
}

/// What outlives the listener.
#[derive(Debug)]
struct Mind {
    rules: Mutex<Box<dyn Contract>>,
    script: Mutex<Script>,
    record: Record,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Answer>,
    default: Answer,
}

impl Mind {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of a call, and how long its answer takes.
    fn decide(&self, call: Call<'_>) -> (Answer, Duration) {
        let scripted = {
            let mut script = self.script();
            script.next.pop_front().unwrap_or_else(|| script.default.clone())
        };
        match scripted {
            Answer::ByTheRules => (self.by_the_rules(call), Duration::ZERO),
            Answer::Slow(delay) => (self.by_the_rules(call), delay),
            other => (other, Duration::ZERO),
        }
    }

    fn by_the_rules(&self, call: Call<'_>) -> Answer {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        Answer::Reply(rules.answer(call, Instant::now()))
    }
}

async fn take_call(
    State(mind): State<Arc<Mind>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let Ok((body, whole)) = read(body).await else {
        // The caller went away in the middle; it never was a call.
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (answer, delay) = mind.decide(Call {
        method: head.method.as_str(),
        path: head.uri.path(),
        headers: &head.headers,
        body: whole.then_some(&*body),
    });
    let answered = match &answer {
        Answer::Reply(reply) => Answered::Status(reply.status),
        Answer::Hang => Answered::Hung,
        Answer::Close | Answer::ByTheRules | Answer::Slow(_) => Answered::Closed,
    };
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    mind.record.push(Received {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        headers: head.headers,
        event_id: event["event_id"].as_str().map(str::to_owned),
        body,
        at: Timestamp::now(),
        answered,
    });
    match answer {
        Answer::Reply(reply) => {
            tokio::time::sleep(delay).await;
            response(reply)
        }
        Answer::Hang => {
            line.when_cut().await;
            StatusCode::SERVICE_UNAVAILABLE.into_response() // nobody sees it: the line is cut by then
        }
        Answer::Close | Answer::ByTheRules | Answer::Slow(_) => {
            line.cut();
            StatusCode::SERVICE_UNAVAILABLE.into_response() // nor this
        }
    }
}

/// The body up to the limit, and whether that is all of it. The rest is read too and thrown away: a caller that still
/// sends when the connection closes would see a reset and not the answer.
async fn read(body: Body) -> Result<(Bytes, bool), axum::Error> {
    let mut kept = BytesMut::new();
    let mut whole = true;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        let room = BODY_LIMIT - kept.len();
        whole &= chunk.len() <= room;
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok((kept.freeze(), whole))
}

fn response(reply: Reply) -> Response {
    let mut builder = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        builder = builder.header(name, value);
    }
    // Fails for a status or header that HTTP doesn't know: whoever scripted that sees it in the answer.
    builder.body(Body::from(reply.body)).unwrap_or_else(|error| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("no such answer in HTTP: {error}")).into_response()
    })
}

#[cfg(test)]
mod tests {
    use reqwest::Client;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn client() -> Client {
        // Plain HTTP, but the client wants a provider to be there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder().build().unwrap()
    }

    async fn post(hub: &Hub, event_id: &str) -> Result<reqwest::Response, reqwest::Error> {
        let body = format!(r#"{{"event_type":"alert.opened","event_id":"{event_id}","payload":{{}}}}"#);
        client().post(hub.url()).header("X-API-Key", "demo-hub-key").body(body).send().await
    }

    #[tokio::test]
    async fn what_was_received_is_kept_to_the_byte() {
        let hub = Hub::start(HubOptions::default()).await.unwrap();
        let body = r#" {"event_type":"t" ,"event_id":"n-7","payload":{"a":1.50}} "#;
        let answer =
            client().post(hub.url()).header("X-API-Key", "demo-hub-key").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), r#"{"processed":1,"published":true}"#);
        let received = hub.received();
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].body, body.as_bytes());
        assert_eq!(received[0].event_id.as_deref(), Some("n-7"));
        assert_eq!(received[0].header("x-api-key"), Some("demo-hub-key"));
        assert_eq!((received[0].method.as_str(), received[0].path.as_str()), ("POST", EVENTS_PATH));
        assert!(received[0].was_accepted());
    }

    #[tokio::test]
    async fn a_body_over_one_mebibyte_is_answered_500() {
        let hub = Hub::start(HubOptions::default()).await.unwrap();
        let largest =
            |size| format!(r#"{{"event_type":"t","event_id":"n","payload":{{"a":"{}"}}}}"#, "x".repeat(size));
        let frame = largest(0).len();
        for (size, status) in
            [(BODY_LIMIT - frame, 200), (BODY_LIMIT - frame + 1, 500), (8 * BODY_LIMIT, 500)]
        {
            let request = client().post(hub.url()).header("X-API-Key", "demo-hub-key").body(largest(size));
            assert_eq!(request.send().await.unwrap().status(), status, "{size}");
        }
    }

    #[tokio::test]
    async fn the_script_comes_first_in_its_order_then_the_default() {
        let hub = Hub::start(HubOptions { first_503: 1, ..HubOptions::default() }).await.unwrap();
        hub.push_answer(Answer::too_many_requests("7"));
        hub.push_answer(Reply::new(418, "short and stout"));
        let first = post(&hub, "a").await.unwrap();
        assert_eq!((first.status().as_u16(), first.headers()["retry-after"].to_str().unwrap()), (429, "7"));
        let second = post(&hub, "a").await.unwrap();
        assert_eq!(
            (second.status().as_u16(), second.text().await.unwrap().as_str()),
            (418, "short and stout")
        );
        assert_eq!(post(&hub, "a").await.unwrap().status(), 503);
        assert_eq!(post(&hub, "a").await.unwrap().status(), 200);
        hub.set_default(Answer::status(503));
        assert_eq!(post(&hub, "b").await.unwrap().status(), 503);
        hub.set_default(Answer::ByTheRules);
        assert_eq!(post(&hub, "b").await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn a_slow_call_is_on_record_before_it_is_answered() {
        let hub = Hub::start(HubOptions::default()).await.unwrap();
        hub.push_answer(Answer::Slow(PATIENCE));
        let url = hub.url();
        let body = r#"{"event_type":"t","event_id":"n","payload":{}}"#;
        let request = client().post(url).header("X-API-Key", "demo-hub-key").body(body);
        let call = tokio::spawn(request.send());
        let received = hub.wait_for(|calls| !calls.is_empty(), PATIENCE).await.unwrap();
        assert!(received[0].was_accepted() && !call.is_finished());
        call.abort();
        // Its caller went away; the hub remembers that it was told.
        let again =
            client().post(hub.url()).header("X-API-Key", "demo-hub-key").body(body).send().await.unwrap();
        assert!(again.text().await.unwrap().contains(r#""processed":0"#));
    }

    #[tokio::test]
    async fn a_closed_connection_is_no_answer_and_is_on_record() {
        let hub = Hub::start(HubOptions::default()).await.unwrap();
        hub.set_default(Answer::Close);
        assert!(post(&hub, "a").await.is_err());
        assert!(hub.received().iter().all(|call| call.answered == Answered::Closed));
    }

    #[tokio::test]
    async fn a_hanging_call_is_cut_when_the_hub_goes_down() {
        let mut hub = Hub::start(HubOptions::default()).await.unwrap();
        hub.push_answer(Answer::Hang);
        let url = hub.url();
        let call = tokio::spawn(async move { client().post(url).body("{}").send().await });
        let received = hub.wait_for(|calls| !calls.is_empty(), PATIENCE).await.unwrap();
        assert_eq!(received[0].answered, Answered::Hung);
        assert!(!call.is_finished());
        hub.take_down().await;
        assert!(call.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn it_refuses_while_it_is_down_and_comes_back_with_its_memory() {
        let mut hub = Hub::start(HubOptions::default()).await.unwrap();
        let client = client();
        let body = r#"{"event_type":"t","event_id":"n","payload":{}}"#;
        let request = || client.post(hub.url()).header("X-API-Key", "demo-hub-key").body(body);
        let first = request();
        let down = request();
        let again = request();
        assert!(first.send().await.unwrap().text().await.unwrap().contains(r#""processed":1"#));
        hub.take_down().await;
        assert!(down.send().await.unwrap_err().is_connect());
        hub.restart().await.unwrap();
        assert!(again.send().await.unwrap().text().await.unwrap().contains(r#""processed":0"#));
        assert_eq!(hub.total(), 2);
    }

    #[tokio::test]
    async fn waiting_in_vain_lists_what_came_instead() {
        let hub = Hub::start(HubOptions { keep: 1, ..HubOptions::default() }).await.unwrap();
        post(&hub, "forgotten").await.unwrap();
        post(&hub, "kept").await.unwrap();
        let waited = hub.wait_for(|calls| calls.len() > 1, Duration::from_millis(1)).await;
        let error = waited.unwrap_err().to_string();
        assert!(error.contains("event_id kept: Status(200)") && !error.contains("forgotten"), "{error}");
        assert_eq!(hub.total(), 2);
    }
}
