//! Sending one HTTP request: one deadline over everything, a bounded part of the answer, no redirects, no proxy, no
//! retries of its own, and no address that the egress guard refuses.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect};
use tokio::time::Instant;

use super::egress::EgressGuard;

/// Bytes of an answer that are read, and kept.
pub const ANSWER_KEPT: usize = 16 * 1024;

/// For a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A timer that is so late was not late by chance.
const STOPPED: Duration = Duration::from_millis(100);
/// Then, for what came before it. With the former well within the time between a request's end and its lease's.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// A request, ready to be sent.
#[derive(Debug)]
pub struct Request {
    /// Where to.
    pub url: Url,
    /// With these headers; secrets among them are marked sensitive.
    pub headers: HeaderMap,
    /// The exact bytes.
    pub body: Vec<u8>,
    /// For connecting, sending, and the whole answer.
    pub deadline: Instant,
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
            Self::Refused(_) | Self::TooLate | Self::Connect(_) => false,
            Self::Timeout(_) | Self::Broken(_) => true,
        }
    }
}

/// Sends requests; shared by all destinations.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    guard: Arc<EgressGuard>,
}

impl Sender {
    /// A client that goes where `guard` permits.
    ///
    /// # Errors
    /// If no TLS roots are found.
    pub fn new(guard: EgressGuard) -> anyhow::Result<Self> {
        let guard = Arc::new(guard);
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(Arc::new(GuardedResolver(Arc::clone(&guard))))
            // Shorter than any request's own deadline: past it nothing has been sent, and that is known.
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("watchbell/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, guard })
    }

    /// Sends it.
    ///
    /// # Errors
    /// If there is no answer; of one that is not whole, what came in time is returned.
    pub async fn send(&self, request: Request) -> Result<Answer, SendError> {
        // Addresses in a URL never reach the resolver.
        let literal = match request.url.host() {
            Some(url::Host::Ipv4(v4)) => Some(v4.into()),
            Some(url::Host::Ipv6(v6)) => Some(v6.into()),
            _ => None,
        };
        if let Some(address) = literal.filter(|address| !self.guard.permits(*address)) {
            return Err(SendError::Refused(address.to_string()));
        }
        let deadline = request.deadline;
        let timeout = deadline.saturating_duration_since(Instant::now());
        if timeout.is_zero() {
            return Err(SendError::TooLate);
        }
        let sending = self.client.post(request.url).headers(request.headers).body(request.body).send();
        let sent = until(deadline, sending).await.ok_or(SendError::Timeout(timeout))?;
        let response = sent.map_err(|error| {
            let text = innermost(&error);
            if text.contains("is not a public address") {
                SendError::Refused(text.split(' ').next().unwrap_or_default().to_owned())
            } else if error.is_connect() {
                SendError::Connect(text)
            } else {
                SendError::Broken(text)
            }
        })?;
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // The status is the answer: a body that breaks off, or does not end in time, does not make it unsaid.
        let mut body = Vec::new();
        let _ = until(deadline, read_beginning(response, &mut body)).await;
        Ok(Answer { status, retry_after, body })
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
async fn read_beginning(mut response: Response, body: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_KEPT - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == ANSWER_KEPT {
            return;
        }
    }
}

/// Resolves names with the system's resolver, and leaves out addresses that requests may not go to.
struct GuardedResolver(Arc<EgressGuard>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let permitted = permitted(&guard, name.as_str(), &found)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// Of all addresses of a name those that requests may go to; an error if there are none.
fn permitted(guard: &EgressGuard, name: &str, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, SendError> {
    let permitted: Vec<SocketAddr> =
        found.iter().filter(|address| guard.permits(address.ip())).copied().collect();
    match (permitted.is_empty(), found.first()) {
        (true, Some(refused)) => Err(SendError::Refused(format!("{name} ({})", refused.ip()))),
        _ => Ok(permitted),
    }
}

/// The cause that says what happened. Never the URL: some destinations keep their secret in it.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(cause, error as &dyn std::error::Error) {
        "request failed".to_owned()
    } else {
        cause.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_addresses_of_a_name_only_the_permitted_are_gone_to() {
        let of = |found: &[&str]| {
            let found: Vec<SocketAddr> =
                found.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
            permitted(&EgressGuard::default(), "name.example", &found)
                .map(|permitted| permitted.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["10.0.0.1", "1.1.1.1", "::1", "fd00:ec2::254"]), Ok(vec!["1.1.1.1".to_owned()]));
        let refused = Err(SendError::Refused("name.example (169.254.169.254)".to_owned()));
        assert_eq!(of(&["169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::7f00:1"]), refused);
        assert_eq!(of(&[]), Ok(vec![]));
    }
}
