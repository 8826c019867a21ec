//! A receiver that keeps its connections, and closes each over its second request or while it is idle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::receiver::read_request;

const ACCEPTED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 32\r\n\r\n{\"published\":true,\"processed\":1}";

/// When it closes a connection that it said it would keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closes {
    /// When it has read the second request, without an answer.
    OverARequest,
    /// Just after the first answer.
    WhileIdle,
}

/// A listener on a free port of 127.0.0.1.
pub struct Keeper {
    address: SocketAddr,
    counts: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Keeper {
    pub async fn start(closes: Closes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let shared = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.0.fetch_add(1, Ordering::SeqCst);
                let counts = Arc::clone(&shared);
                // The caller may go away at any time.
                tokio::spawn(async move { drop(serve(stream, closes, &counts.1).await) });
            }
        });
        Self { address, counts }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections that were made.
    pub fn connections(&self) -> usize {
        self.counts.0.load(Ordering::SeqCst)
    }

    /// Requests that came in wholly.
    pub fn requests(&self) -> usize {
        self.counts.1.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, closes: Closes, requests: &AtomicUsize) -> std::io::Result<()> {
    read_request(&mut stream).await?;
    requests.fetch_add(1, Ordering::SeqCst);
    stream.write_all(ACCEPTED).await?;
    if closes == Closes::OverARequest {
        read_request(&mut stream).await?;
        requests.fetch_add(1, Ordering::SeqCst);
    }
    stream.shutdown().await
}
