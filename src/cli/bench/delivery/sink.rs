//! A receiver that accepts everything at once, on a thread of its own, and notes when the first byte of each request came.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cli::bench::owing::ANSWER;

/// Before a notification's id, in its body.
const ID_COMES: &str = r#""event_id":""#;

/// What it does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Accepts them.
    Accepts,
    /// Reads them and says nothing.
    IsSilent,
}

/// It listens on a free port of 127.0.0.1 until it is dropped.
pub struct Sink {
    address: SocketAddr,
    heard: Arc<Heard>,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct Heard {
    first_bytes: Mutex<HashMap<Uuid, Timestamp>>,
    requests: watch::Sender<usize>,
}

impl Sink {
    /// Starts it.
    ///
    /// # Errors
    /// If no port or no thread can be had.
    pub fn start(manner: Manner) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (heard, cancel) = (Arc::<Heard>::default(), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (shared, cancelled) = (Arc::clone(&heard), cancel.clone());
        std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            runtime.block_on(cancelled.run_until_cancelled(listen(listener, manner, shared)));
        })?;
        Ok(Self { address, heard, cancel })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so many requests came since it was started.
    pub async fn wait_for(&self, requests: usize) {
        let _ = self.heard.requests.subscribe().wait_for(|came| *came >= requests).await;
    }

    /// Requests that came since it was started.
    pub fn requests(&self) -> usize {
        *self.heard.requests.borrow()
    }

    /// When the first byte of each notification's first request came.
    pub fn first_bytes(&self) -> HashMap<Uuid, Timestamp> {
        self.heard.first_bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn listen(listener: std::net::TcpListener, manner: Manner, heard: Arc<Heard>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let heard = Arc::clone(&heard);
        // The caller may go away at any time.
        tokio::spawn(async move { drop(serve(stream, manner, &heard).await) });
    }
}

/// One connection: requests until the caller closes it.
async fn serve(mut stream: TcpStream, manner: Manner, heard: &Heard) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut bytes = Vec::with_capacity(4096);
    let mut came = None;
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let at = *came.get_or_insert_with(Timestamp::now);
        let Some((length, id)) = whole(&bytes) else { continue };
        if let Some(id) = id {
            heard.first_bytes.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(at);
        }
        heard.requests.send_modify(|requests| *requests += 1);
        if manner == Manner::Accepts {
            stream.write_all(answer.as_bytes()).await?;
        }
        // The client sends nothing more before it has the answer.
        bytes.drain(..length);
        came = None;
    }
}

/// The length of the request and the notification that it tells, if all of it is there.
fn whole(bytes: &[u8]) -> Option<(usize, Option<Uuid>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Some(0), |(_, value)| value.trim().parse().ok())?;
    let body = body.get(..length)?;
    let id = body.split_once(ID_COMES).and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
    Some((head.len() + 4 + length, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_when_its_body_is_and_names_its_notification() {
        let id = Uuid::from_u128(7);
        let body = format!(r#"{{"event_id":"{id}","payload":{{}}}}"#);
        let request = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\nhost: x\r\n\r\n{body}", body.len());
        assert_eq!(whole(request.as_bytes()), Some((request.len(), Some(id))));
        assert_eq!(whole(&request.as_bytes()[..request.len() - 1]), None);
        assert_eq!(whole(&request.as_bytes()[..30]), None);
    }
}
