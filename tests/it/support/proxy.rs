//! A TCP proxy that can be cut: the server behind it is away then, for everybody who goes through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards to one address until it is cut.
pub struct Proxy {
    pub address: SocketAddr,
    open: watch::Sender<bool>,
    lose_commit: Arc<AtomicBool>,
}

impl Proxy {
    /// Forwards connections to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(true);
        let state = open.subscribe();
        let lose_commit = Arc::new(AtomicBool::new(false));
        let armed = Arc::clone(&lose_commit);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Accepted and dropped: reset, as by a server that is going down.
                if *state.borrow() {
                    tokio::spawn(forward(client, target, state.clone(), Arc::clone(&armed)));
                }
            }
        });
        Self { address, open, lose_commit }
    }

    /// Breaks every connection and takes no more.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Forwards again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }

    /// The server gets the next COMMIT, and its answer is lost with the connection: nobody on this side knows whether it
    /// committed.
    pub fn lose_next_commits_answer(&self) {
        self.lose_commit.store(true, Ordering::SeqCst);
    }

    /// Whether that has not happened yet.
    pub fn will_lose_a_commits_answer(&self) -> bool {
        self.lose_commit.load(Ordering::SeqCst)
    }
}

async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<bool>,
    armed: Arc<AtomicBool>,
) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mute = AtomicBool::new(false);
    let up = async {
        let mut bytes = vec![0; 65_536];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..length].windows(6).any(|window| window == b"COMMIT")
                && armed.swap(false, Ordering::SeqCst)
            {
                mute.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
    };
    let down = async {
        let mut bytes = vec![0; 65_536];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            if mute.load(Ordering::SeqCst) || to_client.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = state.wait_for(|open| !open) => {}
    }
}
