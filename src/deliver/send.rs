//! Sending one HTTP request: one deadline over everything, a bounded part of the answer, no redirects, no proxy, no
//! retries of its own, and no address that the egress guard refuses.

use std::fmt::Display;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::{Method, Uri};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use url::Url;

use super::connect::Connector;
use super::egress::EgressGuard;
use super::metered::Meter;

/// Bytes of an answer that are read, and kept.
pub const ANSWER_KEPT: usize = 16 * 1024;
/// Bytes that headers may have, and that one read brings at most: all of them are looked at in one turn.
const HEADERS_AT_MOST: usize = 32 * 1024;
/// Bytes of a body that may be under way unasked for, where a connection carries many (RFC 9113, section 5.2).
const WINDOW: u32 = 64 * 1024;
/// The same, for all bodies of a connection.
const CONNECTION_WINDOW: u32 = 128 * 1024;

/// Bytes of an error's text that are kept.
const ERROR_KEPT: usize = 500;

/// A connection that nobody uses is kept so long: shorter than receivers do (Node.js and uvicorn 5 s, others more). Of a request over
/// one that the other side is just closing, nobody knows whether it arrived.
const KEPT_IDLE: Duration = Duration::from_secs(4);

/// How we name ourselves to receivers.
const OURSELVES: &str = concat!("watchbell/", env!("CARGO_PKG_VERSION"));

/// A timer that is so late was not late by chance.
const STOPPED: Duration = Duration::from_millis(100);
/// Then, for what came before it. With the former well within the time between a request's end and its lease's.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// Where the requests of a destination go, made ready once.
#[derive(Debug, Clone)]
pub struct Target {
    uri: Uri,
    /// If it is written in the URL. Such a one never reaches the resolver.
    address: Option<IpAddr>,
    headers: HeaderMap,
}

impl Target {
    /// This URL, with these headers; secrets among them are marked sensitive. A name and a password in the URL are sent as what they
    /// are.
    ///
    /// # Errors
    /// Says what is wrong with the URL.
    pub fn new(url: &str, mut headers: HeaderMap) -> Result<Self, String> {
        let unusable = |error: &dyn Display| format!("the destination's url can't be used: {error}");
        let mut url = Url::parse(url).map_err(|error| unusable(&error))?;
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, HeaderValue::from_static(OURSELVES));
        if let Some(credentials) = take_credentials(&mut url) {
            headers.insert(AUTHORIZATION, credentials);
        }
        let address = match url.host() {
            Some(url::Host::Ipv4(v4)) => Some(v4.into()),
            Some(url::Host::Ipv6(v6)) => Some(v6.into()),
            _ => None,
        };
        let uri = Uri::try_from(url.as_str()).map_err(|error| unusable(&error))?;
        Ok(Self { uri, address, headers })
    }

    /// Where.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// With what.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// A request with this body.
    pub fn request(&self, body: Vec<u8>, deadline: Instant) -> Request {
        let mut http = hyper::Request::new(Full::new(Bytes::from(body)));
        *http.method_mut() = Method::POST;
        *http.uri_mut() = self.uri.clone();
        *http.headers_mut() = self.headers.clone();
        Request { http, address: self.address, deadline }
    }
}

/// A request, ready to be sent.
#[derive(Debug)]
pub struct Request {
    http: hyper::Request<Full<Bytes>>,
    address: Option<IpAddr>,
    /// For connecting, sending, and the whole answer.
    deadline: Instant,
}

impl Request {
    /// With a header more.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.http.headers_mut().insert(name, value);
        self
    }
}

/// An answer, as far as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The header's text.
    pub retry_after: Option<String>,
    /// At most 16 KiB of it.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SendError {
    /// The egress guard refused the address: nothing was sent.
    #[error("{0} is not a public address, and deliver.egress_allow does not allow it")]
    Refused(String),
    /// The lease was all but over before it began: nothing was sent.
    #[error("it was too late to begin")]
    TooLate,
    /// No connection: nothing was sent.
    #[error("failed to connect: {0}")]
    Connect(String),
    /// The receiver said that it did not look at it (RFC 9113, sections 6.8 and 8.7), as when it ends its connections.
    #[error("the receiver did not take it: {0}")]
    NotTaken(String),
    /// No answer in time; whether the bytes arrived is not known.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The connection broke; whether the bytes arrived is not known.
    #[error("no answer: {0}")]
    Broken(String),
}

impl SendError {
    /// Whether the receiver may have got it all the same.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Refused(_) | Self::TooLate | Self::Connect(_) | Self::NotTaken(_) => false,
            Self::Timeout(_) | Self::Broken(_) => true,
        }
    }
}

/// Sends requests; shared by all destinations.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client<Connector, Full<Bytes>>,
    guard: Arc<EgressGuard>,
}

impl Sender {
    /// A client that goes where `guard` permits.
    ///
    /// # Errors
    /// If no TLS roots are found.
    pub fn new(guard: EgressGuard) -> anyhow::Result<Self> {
        let guard = Arc::new(guard);
        let connector = Connector::new(Arc::clone(&guard))?;
        // It knows of no redirects and no proxies, and sends again only what never left for a connection that was closed
        // before.
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_IDLE)
            .http1_max_buf_size(HEADERS_AT_MOST)
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .build(connector);
        Ok(Self { client, guard })
    }

    /// Sends it.
    ///
    /// # Errors
    /// If there is no answer; of one that is not whole, what came in time is returned.
    pub async fn send(&self, request: Request) -> Result<Answer, SendError> {
        let Request { mut http, address, deadline } = request;
        if let Some(address) = address.filter(|address| !self.guard.permits(*address)) {
            return Err(SendError::Refused(address.to_string()));
        }
        let timeout = deadline.saturating_duration_since(Instant::now());
        if timeout.is_zero() {
            return Err(SendError::TooLate);
        }
        let shared = Shared::by(&mut http);
        let Some(sent) = until(deadline, self.client.request(http)).await else {
            shared.leave();
            return Err(SendError::Timeout(timeout));
        };
        let response = sent.map_err(|error| reason(&error))?;
        let meter = response.extensions().get::<Meter>().cloned().unwrap_or_default();
        meter.count_anew();
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // The status is the answer: a body that breaks off, or does not end in time, does not make it unsaid.
        let mut body = Vec::new();
        if until(deadline, read_beginning(response.into_body(), &mut body, &meter)).await.is_none() {
            shared.leave();
        }
        meter.count_anew();
        Ok(Answer { status, retry_after, body })
    }
}

/// The connection of a request that may carry others too. With TLS, it may be one of HTTP/2; a request without one has it for itself,
/// and closes it when it is not answered.
struct Shared(Option<CaptureConnection>);

impl Shared {
    fn by(request: &mut hyper::Request<Full<Bytes>>) -> Self {
        let over_tls = request.uri().scheme() == Some(&Scheme::HTTPS);
        Self(over_tls.then(|| capture_connection(request)))
    }

    /// Nothing more is sent over it: it may be dead without anybody having said so, and all that followed would wait on it. What is
    /// under way there goes on.
    fn leave(&self) {
        if let Some(connection) = self.0.as_ref().map(CaptureConnection::connection_metadata)
            && let Some(connection) = connection.as_ref()
        {
            connection.poison();
        }
    }
}

/// What comes of it by the deadline. Who was stopped, or starved, until after it finds its timer over before anybody has looked
/// into the socket: what came meanwhile is still read.
async fn until<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout_at(deadline, work.as_mut()).await {
        return Some(done);
    }
    if deadline.elapsed() < STOPPED {
        return None;
    }
    tokio::time::timeout(LAST_LOOK, work).await.ok()
}

/// Reads until the answer ends, breaks off, or is as long as is kept; the connection is closed then.
async fn read_beginning(mut answer: Incoming, body: &mut Vec<u8>, meter: &Meter) {
    while let Some(Ok(frame)) = answer.frame().await {
        let Ok(chunk) = frame.into_data() else { continue };
        let kept = chunk.len().min(ANSWER_KEPT - body.len());
        body.extend_from_slice(&chunk[..kept]);
        meter.forgive(kept);
        if body.len() == ANSWER_KEPT {
            return;
        }
    }
}

/// Why there is no answer. Never with the URL: some destinations keep their secret in it.
fn reason(error: &legacy::Error) -> SendError {
    let mut cause: &dyn std::error::Error = error;
    loop {
        if let Some(SendError::Refused(address)) = cause.downcast_ref() {
            return SendError::Refused(address.clone());
        }
        if let Some(told) = cause.downcast_ref::<h2::Error>().filter(|error| error.is_remote()) {
            return of_http2(told);
        }
        let Some(source) = cause.source() else { break };
        cause = source;
    }
    let text = beginning(cause.to_string());
    if error.is_connect() { SendError::Connect(text) } else { SendError::Broken(text) }
}

/// Some go on: a certificate may have a thousand names, and all of them are in the error.
fn beginning(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR_KEPT));
    text
}

/// What a receiver gave as its reason to end a request or the connection. Not what it wrote beside it: that may be anything, also what
/// it was sent. Of a request that it refused, or that came after the last one it looked at when it ended the connection in good
/// order, it is known that it was not taken.
fn of_http2(told: &h2::Error) -> SendError {
    let reason = told.reason().unwrap_or(h2::Reason::INTERNAL_ERROR);
    let ended = if told.is_go_away() { "connection" } else { "request" };
    let text = format!("it ended the {ended} with {reason:?}");
    let not_taken = if told.is_go_away() { h2::Reason::NO_ERROR } else { h2::Reason::REFUSED_STREAM };
    if reason == not_taken { SendError::NotTaken(text) } else { SendError::Broken(text) }
}

/// What a URL with a name and a password in it asks for (RFC 7617); it is left without them.
fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    url.set_username("").and_then(|()| url.set_password(None)).ok()?;
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(&pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_goes_on_is_cut() {
        assert_eq!(beginning("too short to cut".to_owned()), "too short to cut");
        assert_eq!(beginning("ü".repeat(1_000)).len(), ERROR_KEPT);
    }

    #[test]
    fn a_name_and_a_password_in_a_url_are_its_credentials() {
        let of = |url: &str| {
            let mut url = url.parse().unwrap();
            let credentials = take_credentials(&mut url);
            assert_eq!(url.as_str(), "http://example/");
            credentials.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(
            of("http://Aladdin:open%20sesame@example"),
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".into())
        );
        assert_eq!(of("http://a:bc@example"), Some("Basic YTpiYw==".into()));
        assert_eq!(of("http://ab:c@example"), Some("Basic YWI6Yw==".into()));
        assert_eq!(of("http://a@example"), Some("Basic YTo=".into()));
        assert_eq!(of("http://example"), None);
    }
}
