//! A socket that fails once nothing has been read from it for long.
//!
//! A link is given up as soon as its peer does not answer. What is left is a
//! socket that the kernel would go on resending on for a quarter of an hour,
//! and a connection that waits for it while it closes. This ends both.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

/// Far beyond the silence after which a link is given up.
const SILENCE: Duration = Duration::from_secs(15);

pub(super) struct Watched<S> {
    socket: S,
    silence: Duration,
    read_at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S) -> Self {
        Self::with(socket, SILENCE)
    }

    fn with(socket: S, silence: Duration) -> Self {
        let read_at = Instant::now();
        Self {
            socket,
            silence,
            read_at,
            timer: Box::pin(tokio::time::sleep_until(read_at + silence)),
        }
    }

    /// Called when the socket makes no progress. The timer is moved only when
    /// it fires, so that a busy socket pays for it once in a while.
    fn check<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = self.read_at + self.silence;
            if until <= Instant::now() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nothing was heard for long",
                )));
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Ready(done) => {
                self.read_at = Instant::now();
                Poll::Ready(done)
            }
            Poll::Pending => self.check(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write(cx, buf) {
            Poll::Pending => self.check(cx),
            done => done,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.check(cx),
            done => done,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Pending => self.check(cx),
            done => done,
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_close(cx) {
            Poll::Pending => self.check(cx),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A pipe in the shape the transport has.
    struct Pipe(tokio::io::DuplexStream);

    impl AsyncRead for Pipe {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let mut buf = tokio::io::ReadBuf::new(buf);
            let polled = tokio::io::AsyncRead::poll_read(Pin::new(&mut self.0), cx, &mut buf);
            polled.map_ok(|()| buf.filled().len())
        }
    }

    impl AsyncWrite for Pipe {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.0), cx, buf)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.0), cx)
        }
        fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.0), cx)
        }
    }

    #[tokio::test]
    async fn silence_ends_reads_and_writes() {
        let silence = Duration::from_millis(400);
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = Watched::with(Pipe(near), silence);
        let start = Instant::now();
        let mut byte = [0];
        // What is heard now and then keeps it alive, longer than one silence.
        for _ in 0..8 {
            tokio::time::sleep(silence / 4).await;
            far.write_all(&[1]).await.unwrap();
            near.read_exact(&mut byte).await.unwrap();
        }
        let error = near.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= 3 * silence);
        // Nobody reads: the pipe is full, and the write does not wait for ever either.
        let error = near.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
