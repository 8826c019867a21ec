//! A receiver that answers to the byte what a test tells it to, in ways that no decent HTTP server would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::http2;

/// A hub accepts, and says that it closes the connection. Who does not say so keeps it: another request may be on its way over it.
pub const ACCEPTED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 32\r\nconnection: close\r\n\r\n{\"published\":true,\"processed\":1}";

const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What it does with each request.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends these bytes, and waits for the next request.
    Keeps(Vec<u8>),
    /// Accepts what does not contain this, and forbids the rest.
    Forbids(&'static str),
    /// Reads and says nothing.
    Silent,
    /// Sends these bytes once the test opens the gate.
    Gated(Vec<u8>),
    /// Sends these bytes, then so many bytes of a body, as fast as they are taken.
    Flood(Vec<u8>, usize),
    /// Sends these bytes, then a byte of the body every 100 ms, for ever.
    Trickle(Vec<u8>),
    /// The same, a byte a second.
    Drips(Vec<u8>),
    /// Sends these bytes again and again, a thousand times a second at most.
    Repeats(Vec<u8>),
    /// Sends the first bytes, then the second again and again, as fast as they are taken.
    Pours(Vec<u8>, Vec<u8>),
    /// Takes the connection, and never reads.
    Deaf,
    /// Speaks HTTP/2.
    Http2(http2::Manner),
}

/// A listener on a free port of 127.0.0.1.
pub struct Receiver {
    pub address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
}

struct State {
    manner: Manner,
    open: watch::Sender<bool>,
    seen: Arc<Seen>,
}

/// What came, and what was taken.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub ended: AtomicUsize,
    pub requests: watch::Sender<usize>,
    pub sent: AtomicUsize,
}

impl Receiver {
    pub async fn start(manner: Manner) -> Self {
        Self::listen(None, manner).await
    }

    /// The same over TLS.
    pub async fn start_tls(acceptor: TlsAcceptor, manner: Manner) -> Self {
        Self::listen(Some(acceptor), manner).await
    }

    async fn listen(acceptor: Option<TlsAcceptor>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { manner, open: watch::Sender::new(false), seen: Arc::default() });
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let is_first = shared.seen.connections.fetch_add(1, Ordering::SeqCst) == 0;
                let (state, acceptor) = (Arc::clone(&shared), acceptor.clone());
                // The caller may go away at any time.
                tokio::spawn(async move {
                    let served = match acceptor {
                        Some(acceptor) => serve(acceptor.accept(stream).await?, is_first, &state).await,
                        None => serve(stream, is_first, &state).await,
                    };
                    state.seen.ended.fetch_add(1, Ordering::SeqCst);
                    served
                });
            }
        });
        Self { address, scheme, state }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Connections that were made, whatever came over them.
    pub fn connections(&self) -> usize {
        self.state.seen.connections.load(Ordering::SeqCst)
    }

    /// Those of them that are over; with TLS, those whose handshake ended well.
    pub fn ended(&self) -> usize {
        self.state.seen.ended.load(Ordering::SeqCst)
    }

    /// Requests that came in; in HTTP/1.1, wholly.
    pub fn requests(&self) -> usize {
        *self.state.seen.requests.borrow()
    }

    /// Waits for so many requests.
    pub async fn wait_for_requests(&self, count: usize) {
        let mut requests = self.state.seen.requests.subscribe();
        let came = requests.wait_for(|requests| *requests >= count);
        tokio::time::timeout(super::wait::PATIENCE, came).await.expect("requests come").unwrap();
    }

    /// Bytes of bodies that were taken from it.
    pub fn sent(&self) -> usize {
        self.state.seen.sent.load(Ordering::SeqCst)
    }

    /// Lets gated answers go.
    pub fn open(&self) {
        self.state.open.send_replace(true);
    }
}

async fn serve<S>(mut stream: S, is_first: bool, state: &State) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match &state.manner {
        Manner::Deaf => return std::future::pending().await,
        Manner::Http2(manner) => return http2::serve(stream, manner, is_first, &state.seen).await,
        _ => {}
    }
    let request = read_request(&mut stream).await?;
    state.seen.requests.send_modify(|requests| *requests += 1);
    match &state.manner {
        Manner::Bytes(bytes) => stream.write_all(bytes).await?,
        Manner::Keeps(bytes) => loop {
            stream.write_all(bytes).await?;
            read_request(&mut stream).await?;
            state.seen.requests.send_modify(|requests| *requests += 1);
        },
        Manner::Forbids(text) if request.contains(text) => stream.write_all(FORBIDDEN).await?,
        Manner::Forbids(_) => stream.write_all(ACCEPTED).await?,
        Manner::Silent | Manner::Deaf | Manner::Http2(_) => std::future::pending().await,
        Manner::Gated(bytes) => {
            let _ = state.open.subscribe().wait_for(|open| *open).await;
            stream.write_all(bytes).await?;
        }
        Manner::Flood(head, total) => {
            stream.write_all(head).await?;
            while state.seen.sent.load(Ordering::SeqCst) < *total {
                state.seen.sent.fetch_add(stream.write(&[b'x'; 65_536]).await?, Ordering::SeqCst);
            }
        }
        Manner::Trickle(head) => trickle(&mut stream, head, Duration::from_millis(100), state).await?,
        Manner::Drips(head) => trickle(&mut stream, head, Duration::from_secs(1), state).await?,
        Manner::Pours(head, bytes) => {
            stream.write_all(head).await?;
            let many = bytes.repeat(65_536 / bytes.len());
            loop {
                stream.write_all(&many).await?;
                state.seen.sent.fetch_add(many.len(), Ordering::SeqCst);
            }
        }
        Manner::Repeats(bytes) => loop {
            stream.write_all(bytes).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        },
    }
    stream.shutdown().await
}

async fn trickle(
    stream: &mut (impl AsyncWrite + Unpin),
    head: &[u8],
    pause: Duration,
    state: &State,
) -> std::io::Result<()> {
    stream.write_all(head).await?;
    loop {
        stream.write_all(b"x").await?;
        state.seen.sent.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(pause).await;
    }
}

/// Head and body, as long as `content-length` says; in small letters.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        if body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0) {
            return Ok(text);
        }
    }
}
