//! A TCP proxy that can be cut: the server behind it is away then, for everybody who goes through it. It counts what
//! PostgreSQL is asked for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// Forwards to one address until it is cut.
pub struct Proxy {
    pub address: SocketAddr,
    open: watch::Sender<bool>,
    lose_commit: Arc<AtomicBool>,
    lose_answer: Arc<AtomicBool>,
    late_commit: Arc<AtomicBool>,
    let_go: Arc<Notify>,
    transactions: Arc<Mutex<Vec<usize>>>,
}

impl Proxy {
    /// Forwards connections to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(true);
        let state = open.subscribe();
        let lose_commit = Arc::<AtomicBool>::default();
        let lose_answer = Arc::<AtomicBool>::default();
        let late_commit = Arc::<AtomicBool>::default();
        let armed = [&lose_commit, &lose_answer, &late_commit].map(Arc::clone);
        let let_go = Arc::<Notify>::default();
        let late = Arc::clone(&let_go);
        let transactions = Arc::new(Mutex::new(Vec::new()));
        let counted = Arc::clone(&transactions);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Accepted and dropped: reset, as by a server that is going down.
                if *state.borrow() {
                    let count = Count { transactions: Arc::clone(&counted), ..Count::default() };
                    tokio::spawn(forward(
                        client,
                        target,
                        state.clone(),
                        armed.clone(),
                        Arc::clone(&late),
                        count,
                    ));
                }
            }
        });
        Self { address, open, lose_commit, lose_answer, late_commit, let_go, transactions }
    }

    /// Breaks every connection and takes no more.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Forwards again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }

    /// The next COMMIT never comes to the server: it is lost with the connection.
    pub fn lose_next_commit(&self) {
        self.lose_commit.store(true, Ordering::SeqCst);
    }

    /// The server gets the next COMMIT, and its answer is lost with the connection: nobody on this side knows whether it
    /// committed.
    pub fn lose_next_commits_answer(&self) {
        self.lose_answer.store(true, Ordering::SeqCst);
    }

    /// The connection of the next COMMIT breaks before it, and the server gets it only when it is let go, as from a network that kept it.
    pub fn hold_next_commit(&self) {
        self.late_commit.store(true, Ordering::SeqCst);
    }

    /// The server gets it now.
    pub fn let_commit_go(&self) {
        self.let_go.notify_one();
    }

    /// How many statements each transaction had that was committed since this was asked last, BEGIN and COMMIT not counted.
    pub fn statements_of_each_transaction(&self) -> Vec<usize> {
        std::mem::take(&mut self.transactions.lock().unwrap())
    }

    /// Whether that has not happened yet.
    pub fn will_lose_a_commits_answer(&self) -> bool {
        self.lose_answer.load(Ordering::SeqCst)
    }
}

async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<bool>,
    [lose_commit, lose_answer, late_commit]: [Arc<AtomicBool>; 3],
    let_go: Arc<Notify>,
    mut count: Count,
) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut late = None;
    let mute = AtomicBool::new(false);
    let up = async {
        let mut bytes = vec![0; 65_536];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..length].windows(6).any(|window| window == b"COMMIT") {
                if lose_commit.swap(false, Ordering::SeqCst) {
                    break;
                }
                if late_commit.swap(false, Ordering::SeqCst) {
                    late = Some(bytes[..length].to_vec());
                    break;
                }
                if lose_answer.swap(false, Ordering::SeqCst) {
                    mute.store(true, Ordering::SeqCst);
                }
            }
            count.take(&bytes[..length]);
            if to_server.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
    };
    let down = async {
        let mut bytes = vec![0; 65_536];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            if !mute.load(Ordering::SeqCst) {
                if to_client.write_all(&bytes[..length]).await.is_err() {
                    break;
                }
            } else if bytes[..length].windows(6).any(|window| window == b"COMMIT") {
                // It is carried out.
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = state.wait_for(|open| !open) => {}
    }
    if let Some(commit) = late {
        drop(client);
        let_go.notified().await;
        let _ = server.write_all(&commit).await;
        // Until it is carried out, and it is seen that nobody is there.
        let _ = server.shutdown().await;
        let _ = tokio::io::copy(&mut server, &mut tokio::io::sink()).await;
    }
}

/// Reads along what a client of PostgreSQL sends: messages of a type, a length that counts itself, and so many bytes; but for the
/// first, which has no type.
#[derive(Default)]
struct Count {
    unread: Vec<u8>,
    has_started: bool,
    statements: Option<usize>,
    transactions: Arc<Mutex<Vec<usize>>>,
}

impl Count {
    fn take(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        loop {
            let head = usize::from(self.has_started);
            let Some(length) = self.unread.get(head..head + 4) else { return };
            let end = head + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.unread.len() < end {
                return;
            }
            let message: Vec<u8> = self.unread.drain(..end).collect();
            if std::mem::replace(&mut self.has_started, true) {
                self.read(message[0], &message[5..]);
            }
        }
    }

    fn read(&mut self, kind: u8, body: &[u8]) {
        match (kind, &mut self.statements) {
            (b'Q', _) if body.starts_with(b"BEGIN") || body.starts_with(b"START") => {
                self.statements = Some(0)
            }
            (b'Q', Some(statements)) if body.starts_with(b"COMMIT") => {
                self.transactions.lock().unwrap().push(*statements);
                self.statements = None;
            }
            (b'Q' | b'E', Some(statements)) => *statements += 1,
            _ => {}
        }
    }
}
