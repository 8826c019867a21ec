//! A connection that gives way to others, and that nobody can fill for ever.
//!
//! Invariant: however much a receiver sends, and however fast, one turn of the runtime's is short, and between what brings its answers
//! on no more than [`ANSWER_AT_MOST`] is read. The HTTP client alone keeps neither: it goes on as long as the socket has something (interim
//! answers, blanks after a chunk's size, pings, which it answers), up to 50 MB in one turn, and meanwhile nobody else's request, answer,
//! timer or heartbeat has its turn on that thread.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// After so many bytes others have their turn. A usual answer is shorter, and waits for nobody.
const AT_ONCE: usize = 8 * 1024;
/// Bytes that may come, and be of no use: more than an answer's headers, and than may be under way unasked for of all bodies.
pub const ANSWER_AT_MOST: usize = 256 * 1024;

/// How much came over a connection that was of no use since the last answer.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// An answer began, or ended: what comes now is counted anew.
    pub fn count_anew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// So many bytes were kept of an answer's body. Others that share the connection wait for the ends of theirs.
    pub fn forgive(&self, bytes: usize) {
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |came| Some(came.saturating_sub(bytes)));
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) > ANSWER_AT_MOST
    }
}

/// Counts what comes in over `T`; each answer brings its [`Meter`] along, among its extensions.
#[derive(Debug)]
pub struct Metered<T> {
    io: T,
    since_others_ran: usize,
    meter: Meter,
}

impl<T> Metered<T> {
    /// Nothing came yet.
    pub fn new(io: T) -> Self {
        Self { io, since_others_ran: 0, meter: Meter::default() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.is_full() {
            return Poll::Ready(Err(io::Error::other(format!("more than {ANSWER_AT_MOST} bytes came"))));
        }
        if self.since_others_ran >= AT_ONCE {
            self.since_others_ran = 0;
            // At the end of the queue.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let came = buffer.filled().len() - before;
        self.since_others_ran += came;
        self.meter.add(came);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<T: Connection> Connection for Metered<T> {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.meter.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Reads 1 KiB from a connection that always has more: how many bytes came.
    fn read(metered: &mut Metered<impl AsyncRead + Unpin>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 1024];
        let mut buffer = ReadBuf::new(&mut bytes);
        let polled = Pin::new(metered).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        polled.map_ok(|()| buffer.filled().len())
    }

    fn endless() -> Metered<impl AsyncRead + AsyncWrite + Unpin> {
        Metered::new(tokio::io::join(tokio::io::repeat(b'0'), tokio::io::sink()))
    }

    #[test]
    fn others_have_their_turn_however_much_there_is() {
        let mut metered = endless();
        for _ in 0..3 {
            for _ in 0..AT_ONCE / 1024 {
                assert!(matches!(read(&mut metered), Poll::Ready(Ok(1024))));
            }
            assert!(read(&mut metered).is_pending());
        }
    }

    #[test]
    fn what_has_no_end_is_ended_whatever_is_sent_and_after_an_answer_is_counted_anew() {
        let read_all = |metered: &mut Metered<_>| {
            let mut came = 0;
            loop {
                match read(metered) {
                    Poll::Ready(Ok(more)) => came += more,
                    Poll::Ready(Err(error)) => return (came, error.to_string()),
                    Poll::Pending => {}
                }
            }
        };
        let mut metered = endless();
        let expected = (ANSWER_AT_MOST + 1024, "more than 262144 bytes came".to_owned());
        assert_eq!(read_all(&mut metered), expected);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut metered).poll_write(&mut context, b"pong").is_ready());
        assert_eq!(read_all(&mut metered).0, 0);
        metered.meter.count_anew();
        assert_eq!(read_all(&mut metered), expected);
        metered.meter.forgive(2048);
        assert_eq!(read_all(&mut metered).0, 2048);
    }
}
