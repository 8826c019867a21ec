//! How a receiver speaks HTTP/2, decently or not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use hyper::Response;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::receiver::Seen;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The preface of a client (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// Types of frames (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// That a block of headers is whole.
pub const END_HEADERS: u8 = 4;

/// A frame (RFC 9113, section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What it does with each request.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Accepts it.
    Accepts,
    /// Accepts each with a header of so many bytes.
    Tells(usize),
    /// Accepts it, and wants no more over this connection.
    SaysFarewell,
    /// Refuses the first, accepts the others.
    RefusesOne,
    /// Accepts the first; its connection stays open, and nothing more comes over it. Other connections are well.
    MuteAfterOne,
    /// Accepts it with a body of so many bytes, as fast as they are taken.
    Flood(usize),
    /// Accepts it with a body of a byte a second, for ever.
    Drips,
    /// Sends the first bytes once a request has begun, then the second again and again, as fast as they are taken.
    Pours(Vec<u8>, Vec<u8>),
}

/// Serves a connection; of the first one, some manners make an exception.
pub async fn serve<S>(stream: S, manner: &Manner, is_first: bool, seen: &Arc<Seen>) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = match manner {
        Manner::Pours(head, poured) => pour(stream, head, poured, seen).await,
        _ => answer(stream, manner, is_first, seen).await,
    };
    served.map_err(std::io::Error::other)
}

async fn answer<S>(stream: S, manner: &Manner, is_first: bool, seen: &Arc<Seen>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = h2::server::handshake(stream).await?;
    let mut came = 0;
    while let Some(request) = connection.accept().await {
        let (request, mut answer) = request?;
        seen.requests.send_modify(|requests| *requests += 1);
        came += 1;
        if matches!(manner, Manner::RefusesOne) && is_first && came == 1 {
            answer.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        if matches!(manner, Manner::MuteAfterOne) && is_first && came > 1 {
            // Open, and nobody looks at it.
            return std::future::pending().await;
        }
        if matches!(manner, Manner::SaysFarewell) {
            connection.graceful_shutdown();
        }
        let (manner, seen) = (manner.clone(), Arc::clone(seen));
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(chunk) = body.data().await {
                body.flow_control().release_capacity(chunk?.len())?;
            }
            accept(answer, &manner, &seen).await
        });
    }
    Ok(())
}

async fn accept(mut answer: SendResponse<Bytes>, manner: &Manner, seen: &Seen) -> Result<(), Error> {
    let head = Response::new(());
    match *manner {
        Manner::Flood(bytes) => {
            let mut body = answer.send_response(head, false)?;
            while seen.sent.load(Ordering::SeqCst) < bytes {
                seen.sent.fetch_add(send(&mut body, &[b'x'; 16_384]).await?, Ordering::SeqCst);
            }
        }
        Manner::Tells(bytes) => {
            let long = Response::builder().header("x-long", "x".repeat(bytes)).body(())?;
            drop(answer.send_response(long, true)?);
        }
        Manner::Drips => {
            let mut body = answer.send_response(head, false)?;
            loop {
                send(&mut body, b"x").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        _ => drop(answer.send_response(head, true)?),
    }
    Ok(())
}

/// Sends what the other side has room for.
async fn send(body: &mut SendStream<Bytes>, bytes: &'static [u8]) -> Result<usize, Error> {
    body.reserve_capacity(bytes.len());
    let room = std::future::poll_fn(|context| body.poll_capacity(context)).await.ok_or("it is over")??;
    let bytes = &bytes[..room.min(bytes.len())];
    body.send_data(Bytes::from_static(bytes), false)?;
    Ok(bytes.len())
}

async fn pour(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    head: &[u8],
    poured: &[u8],
    seen: &Seen,
) -> Result<(), Error> {
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    stream.read_exact(&mut [0; PREFACE]).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        tokio::io::copy(&mut (&mut stream).take(length.into()), &mut tokio::io::sink()).await?;
        if header[3] == HEADERS {
            break;
        }
    }
    seen.requests.send_modify(|requests| *requests += 1);
    let (mut from, mut to) = tokio::io::split(stream);
    tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
    to.write_all(head).await?;
    let many = poured.repeat(65_536 / poured.len());
    loop {
        to.write_all(&many).await?;
        seen.sent.fetch_add(many.len(), Ordering::SeqCst);
    }
}
