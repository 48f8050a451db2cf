//! The input of a terminal, which ends as a person ends it.
//!
//! A pipe is closed. A connection that carries a terminal can't be: the engine stops sending output as soon as
//! the input's direction is closed, and whatever the program still writes is lost.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// What ends the input of a program that reads lines: Ctrl-D.
const END: u8 = 4;

/// Writes what is typed at a terminal. Shutting it down types the end of the input and closes nothing.
pub(in crate::adapter) struct TerminalInput<W> {
    writer: W,
    last: u8,
    /// How many [`END`]s are still to be typed, as soon as the input has ended.
    ends: Option<u8>,
}

impl<W> TerminalInput<W> {
    pub(in crate::adapter) fn new(writer: W) -> Self {
        Self { writer, last: b'\n', ends: None }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for TerminalInput<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.writer).poll_write(context, bytes))?;
        if let Some(last) = bytes[..written].last() {
            self.last = *last;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // In the middle of a line, the first one only hands over what has been typed of it.
        let mut left = self.ends.unwrap_or(if self.last == b'\n' { 1 } else { 2 });
        self.ends = Some(left);
        while left > 0 {
            if ready!(Pin::new(&mut self.writer).poll_write(context, &[END]))? == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            left -= 1;
            self.ends = Some(left);
        }
        self.poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn the_end_of_the_input_is_typed_and_nothing_is_closed() {
        for (typed, sent) in [("", "\x04"), ("one\n", "one\n\x04"), ("one\ntwo", "one\ntwo\x04\x04")] {
            let mut input = TerminalInput::new(Vec::new());
            input.write_all(typed.as_bytes()).await.expect("written");
            input.shutdown().await.expect("ended");
            input.shutdown().await.expect("ended already");
            assert_eq!(String::from_utf8_lossy(&input.writer), sent);
        }
    }
}
