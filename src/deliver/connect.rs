//! Connecting: only to addresses that the egress guard permits, through no proxy, in bounded time, and metered.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::net::TcpStream;
use tower_service::Service;

use super::egress::EgressGuard;
use super::metered::Metered;
use super::send::SendError;

/// For a connection, name and TLS included. Shorter than any request's own deadline: past it nothing has been sent, and that is
/// known.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of it in which all addresses of a name are tried, each for an equal share: one that drops what comes is no reason not to
/// try the next.
const ADDRESSES_TIMEOUT: Duration = Duration::from_secs(4);
/// A peer that is gone without a word is noticed after so long.
const KEEPALIVE: Duration = Duration::from_secs(15);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Doing<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
type Wire = TokioIo<Metered<TcpStream>>;

/// Connects to where a URL says, with TLS if it says so.
#[derive(Clone)]
pub struct Connector(HttpsConnector<Dial>);

impl Connector {
    /// One that goes where `guard` permits. Addresses in a URL never reach its resolver: the caller asks the guard.
    ///
    /// # Errors
    /// If no TLS roots are found.
    pub fn new(guard: Arc<EgressGuard>) -> anyhow::Result<Self> {
        let tls = rustls::ClientConfig::with_platform_verifier().context(
            "to tell receivers from impostors: install the system's certificates (ca-certificates), or name a file with SSL_CERT_FILE",
        )?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions();
        Ok(Self(https.wrap_connector(Dial(http(GuardedResolver(guard))))))
    }
}

fn http<R>(resolver: R) -> HttpConnector<R> {
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_connect_timeout(Some(ADDRESSES_TIMEOUT));
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    http.set_keepalive_interval(Some(KEEPALIVE));
    http.set_keepalive_retries(Some(3));
    #[cfg(target_os = "linux")]
    http.set_tcp_user_timeout(Some(2 * KEEPALIVE));
    http
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Wire>;
    type Error = BoxError;
    type Future = Doing<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move { tokio::time::timeout(CONNECT_TIMEOUT, connecting).await? })
    }
}

/// Without TLS.
#[derive(Clone)]
struct Dial(HttpConnector<GuardedResolver>);

impl Service<Uri> for Dial {
    type Response = Wire;
    type Error = BoxError;
    type Future = Doing<Wire>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let dialling = self.0.call(to);
        Box::pin(async move { Ok(TokioIo::new(Metered::new(dialling.await?.into_inner()))) })
    }
}

/// Resolves names with the system's resolver, and leaves out addresses that requests may not go to.
#[derive(Clone)]
struct GuardedResolver(Arc<EgressGuard>);

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Doing<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(permitted(&guard, name.as_str(), &found)?.into_iter())
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Any name has these addresses.
    #[derive(Clone)]
    struct Fixed(Vec<SocketAddr>);

    impl Service<Name> for Fixed {
        type Response = std::vec::IntoIter<SocketAddr>;
        type Error = BoxError;
        type Future = Doing<Self::Response>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            let addresses = self.0.clone().into_iter();
            Box::pin(async { Ok(addresses) })
        }
    }

    #[tokio::test]
    async fn an_address_that_drops_what_comes_does_not_keep_us_from_the_next() {
        let well = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let well = well.local_addr().unwrap();
        // Nobody accepts, and its queue is full: what comes is dropped.
        let dropping = TcpSocket::new_v4().unwrap();
        dropping.bind(SocketAddr::new("127.0.0.2".parse().unwrap(), well.port())).unwrap();
        let dropping = dropping.listen(1).unwrap();
        let at = dropping.local_addr().unwrap();
        let waits = Duration::from_millis(100);
        let mut queue = Vec::new();
        while let Ok(connected) = tokio::time::timeout(waits, TcpStream::connect(at)).await {
            queue.push(connected.unwrap());
        }
        let connecting =
            http(Fixed(vec![at, well])).call(format!("http://hub.example:{}", well.port()).parse().unwrap());
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        assert_eq!(connected.unwrap().unwrap().into_inner().peer_addr().unwrap(), well);
    }

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
