//! Both ends of a stream to a process: the agent that runs it, and the command line.
//!
//! Data is sent only as far as the other end has consumed what came before, so buffers are bounded,
//! and both ends always read: a process that does not read its input keeps nobody from hanging up.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::model::frame::{BadFrame, CHUNK, Decoder, Frame, Signal, Size, WINDOW};
use crate::port::streams::{Channel, Connection, Process};

/// How long an end says nothing.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    /// How long an end is silent at most.
    sign_of_life: Duration,
    /// How long the other end may be silent until it counts as gone.
    silence: Duration,
}

const PULSE: Pulse = Pulse { sign_of_life: Duration::from_secs(2), silence: Duration::from_secs(10) };
/// How long the other end may take to hang up when all is said.
const LINGER: Duration = Duration::from_secs(5);
/// How many frames wait to be sent at most.
const QUEUE: usize = 8;

/// Why a stream ended before its process did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The connection was closed.
    #[error("the connection was closed")]
    Closed,
    /// Nothing has come for a while.
    #[error("nothing has come from the other end for {} s", PULSE.silence.as_secs())]
    Silent,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// What came is not understood.
    #[error("{0} has come")]
    Bad(#[from] BadFrame),
    /// Something came that has no place there.
    #[error("a frame has come that has no place there")]
    Misplaced,
    /// The agent does not know what happened to the process.
    #[error("{0}")]
    Lost(String),
}

/// The sending side of one end.
#[derive(Clone)]
struct Sender {
    frames: mpsc::Sender<Frame>,
    /// How many bytes of data may still be sent.
    credit: Arc<Semaphore>,
}

impl Sender {
    fn new() -> (Self, mpsc::Receiver<Frame>) {
        let (frames, queue) = mpsc::channel(QUEUE);
        (Self { frames, credit: Arc::new(Semaphore::new(WINDOW)) }, queue)
    }

    /// Sends a frame without data; `false` when nobody sends it any more.
    async fn send(&self, frame: Frame) -> bool {
        self.frames.send(frame).await.is_ok()
    }

    /// Sends data when the other end has room for it.
    async fn data(&self, mut data: Bytes, frame: impl Fn(Bytes) -> Frame) -> bool {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(CHUNK));
            let Ok(permits) = self.credit.acquire_many(length(&part)).await else { return false };
            permits.forget();
            if !self.send(frame(part)).await {
                return false;
            }
        }
        true
    }

    /// Takes note that the other end has consumed data.
    fn consumed(&self, bytes: u32) -> Result<(), StreamError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes > WINDOW - self.credit.available_permits().min(WINDOW) {
            return Err(StreamError::Misplaced);
        }
        self.credit.add_permits(bytes);
        Ok(())
    }
}

fn length(data: &Bytes) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}

/// Data that came and is not consumed yet.
struct Inbox<T> {
    items: mpsc::UnboundedSender<T>,
    held: Arc<AtomicUsize>,
}

impl<T> Inbox<T> {
    fn new() -> (Self, mpsc::UnboundedReceiver<T>, Arc<AtomicUsize>) {
        let (items, out) = mpsc::unbounded_channel();
        let held = Arc::new(AtomicUsize::new(0));
        (Self { items, held: Arc::clone(&held) }, out, held)
    }

    /// Holds an item of so many bytes.
    fn put(&self, item: T, bytes: usize) -> Result<(), StreamError> {
        if self.held.fetch_add(bytes, Ordering::Relaxed) + bytes > WINDOW {
            return Err(StreamError::Misplaced);
        }
        // Whoever takes them out may have ended; then the stream is about to end as well.
        let _ = self.items.send(item);
        Ok(())
    }
}

/// Sends frames, and a sign of life when there are none, until all senders are gone.
async fn write_frames(
    mut to: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    pulse: Pulse,
) -> Result<(), StreamError> {
    let failed = |error: std::io::Error| StreamError::Failed(error.to_string());
    let mut bytes = BytesMut::new();
    loop {
        match timeout(pulse.sign_of_life, frames.recv()).await {
            Ok(Some(frame)) => frame.encode(&mut bytes),
            Ok(None) => return to.shutdown().await.map_err(failed),
            Err(_) => Frame::Alive.encode(&mut bytes),
        }
        while let Ok(frame) = frames.try_recv() {
            frame.encode(&mut bytes);
        }
        to.write_all(&bytes).await.map_err(failed)?;
        to.flush().await.map_err(failed)?;
        bytes.clear();
    }
}

/// Reads frames until the stream ends, which it always does with a reason.
async fn read_frames(
    mut from: impl AsyncRead + Unpin,
    pulse: Pulse,
    mut take: impl FnMut(Frame) -> Result<(), StreamError>,
) -> StreamError {
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match timeout(pulse.silence, from.read(&mut chunk)).await {
            Err(_) => return StreamError::Silent,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return StreamError::Closed;
            }
            Ok(Err(error)) => return StreamError::Failed(error.to_string()),
            Ok(Ok(0)) => return StreamError::Closed,
            Ok(Ok(read)) => read,
        };
        decoder.feed(&chunk[..read]);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(error) = take(frame) {
                        return error;
                    }
                }
                Ok(None) => break,
                Err(error) => return error.into(),
            }
        }
    }
}

/// Something to do with a process.
enum Command {
    Resize(Size),
    Signal(Signal),
}

/// The agent's end: connects `process` with whoever is at the other end of `connection`, until it
/// ends. When the other end hangs up first, the process is ended.
///
/// # Errors
/// Why the stream ended first.
pub async fn serve(connection: Connection, process: Process) -> Result<i32, StreamError> {
    serve_at(PULSE, connection, process).await
}

async fn serve_at(pulse: Pulse, connection: Connection, process: Process) -> Result<i32, StreamError> {
    let (mut reader, writer) = split(connection);
    let Process { input, mut output, handle } = process;
    let (sender, queue) = Sender::new();
    let mut writing = std::pin::pin!(write_frames(writer, queue, pulse));
    let ended = {
        let sender = sender;
        let (inbox, mut inputs, held) = Inbox::new();
        let (commands, mut asked) = mpsc::unbounded_channel();
        let reading = read_frames(&mut reader, pulse, |frame| {
            match frame {
                Frame::Alive => {}
                Frame::Input(data) => {
                    let bytes = data.len();
                    inbox.put(Some(data), bytes)?;
                }
                Frame::InputEnd => inbox.put(None, 0)?,
                Frame::Consumed(bytes) => sender.consumed(bytes)?,
                Frame::Resize(size) => drop(commands.send(Command::Resize(size))),
                Frame::Signal(signal) => drop(commands.send(Command::Signal(signal))),
                Frame::Output(_) | Frame::Errors(_) | Frame::Exit(_) | Frame::Lost(_) => {
                    return Err(StreamError::Misplaced);
                }
            }
            Ok(())
        });
        let feeding = async {
            let mut input = input;
            while let Some(data) = inputs.recv().await {
                let Some(data) = data else {
                    if let Some(mut open) = input.take() {
                        let _ = open.shutdown().await;
                    }
                    continue;
                };
                if let Some(open) = &mut input
                    && (open.write_all(&data).await.is_err() || open.flush().await.is_err())
                {
                    // It reads no more. What still comes is dropped.
                    input = None;
                }
                held.fetch_sub(data.len(), Ordering::Relaxed);
                sender.send(Frame::Consumed(length(&data))).await;
            }
            std::future::pending::<Infallible>().await
        };
        let commanding = async {
            while let Some(command) = asked.recv().await {
                match command {
                    Command::Resize(size) => handle.resize(size).await,
                    Command::Signal(signal) => handle.signal(signal).await,
                }
            }
            std::future::pending::<Infallible>().await
        };
        let ending = async {
            while let Some(item) = output.next().await {
                let sent = match item {
                    Ok((Channel::Output, data)) => sender.data(data, Frame::Output).await,
                    Ok((Channel::Errors, data)) => sender.data(data, Frame::Errors).await,
                    Err(error) => return Err(error.to_string()),
                };
                if !sent {
                    // The writer has failed, which ends the stream.
                    std::future::pending::<()>().await;
                }
            }
            handle.exit().await.map_err(|error| error.to_string())
        };
        let ended = tokio::select! {
            ended = ending => Ok(ended),
            error = reading => Err(error),
            failed = &mut writing => Err(failed.err().unwrap_or(StreamError::Closed)),
            never = feeding => match never {},
            never = commanding => match never {},
        };
        if let Ok(ended) = &ended {
            let last = match ended {
                Ok(status) => Frame::Exit(*status),
                Err(reason) => Frame::Lost(reason.clone()),
            };
            // Signs of life and what was consumed still go out meanwhile.
            tokio::select! {
                _ = sender.send(last) => {}
                _ = &mut writing => {}
            }
        }
        ended
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            handle.end().await;
            return Err(error);
        }
    };
    // A connection that is closed while something still comes is reset, and the last frame with it.
    let rest = async {
        let _ = writing.await;
        let mut chunk = vec![0; CHUNK];
        while reader.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
    };
    let _ = timeout(LINGER, rest).await;
    match ended {
        Ok(status) => Ok(status),
        Err(reason) => {
            handle.end().await;
            Err(StreamError::Lost(reason))
        }
    }
}

/// Where a command line's end of a stream reads and writes.
pub struct Local {
    /// What the process gets as its standard input.
    pub input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where its standard output goes.
    pub output: Box<dyn AsyncWrite + Send + Unpin>,
    /// Where its standard error goes.
    pub errors: Box<dyn AsyncWrite + Send + Unpin>,
    /// What else happens here.
    pub events: mpsc::UnboundedReceiver<Event>,
}

/// What happens at a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its terminal has another size.
    Resize(Size),
    /// A signal that the process is to get.
    Signal(Signal),
    /// It hangs up.
    HangUp,
}

/// How a stream ended at the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process has ended with that status.
    Exit(i32),
    /// Whoever read the output has gone away.
    OutputClosed,
    /// It hung up.
    HungUp,
}

/// The command line's end: connects what is here with the process at the other end of `connection`.
/// It hangs up when this returns.
///
/// # Errors
/// Why the stream ended before the process did.
pub async fn attach(connection: Connection, local: Local) -> Result<End, StreamError> {
    attach_at(PULSE, connection, local).await
}

async fn attach_at(pulse: Pulse, connection: Connection, local: Local) -> Result<End, StreamError> {
    /// What came, in its order.
    enum Item {
        Data(Channel, Bytes),
        Last(Result<End, StreamError>),
    }
    let (reader, writer) = split(connection);
    let Local { input, mut output, mut errors, mut events } = local;
    let (sender, queue) = Sender::new();
    let (inbox, mut items, held) = Inbox::new();
    let reading = async {
        let error = read_frames(reader, pulse, |frame| match frame {
            Frame::Alive => Ok(()),
            Frame::Consumed(bytes) => sender.consumed(bytes),
            Frame::Output(data) => {
                let bytes = data.len();
                inbox.put(Item::Data(Channel::Output, data), bytes)
            }
            Frame::Errors(data) => {
                let bytes = data.len();
                inbox.put(Item::Data(Channel::Errors, data), bytes)
            }
            Frame::Exit(status) => inbox.put(Item::Last(Ok(End::Exit(status))), 0),
            Frame::Lost(reason) => inbox.put(Item::Last(Err(StreamError::Lost(reason))), 0),
            Frame::Input(_) | Frame::InputEnd | Frame::Resize(_) | Frame::Signal(_) => {
                Err(StreamError::Misplaced)
            }
        })
        .await;
        // In its turn: what came before is printed first.
        let _ = inbox.put(Item::Last(Err(error)), 0);
        std::future::pending::<Infallible>().await
    };
    let printing = async {
        while let Some(item) = items.recv().await {
            let (data, to) = match item {
                Item::Data(Channel::Output, data) => (data, &mut output),
                Item::Data(Channel::Errors, data) => (data, &mut errors),
                Item::Last(last) => return last,
            };
            if to.write_all(&data).await.is_err() || to.flush().await.is_err() {
                return Ok(End::OutputClosed);
            }
            held.fetch_sub(data.len(), Ordering::Relaxed);
            sender.send(Frame::Consumed(length(&data))).await;
        }
        Err(StreamError::Closed)
    };
    let typing = async {
        if let Some(mut input) = input {
            let mut chunk = vec![0; CHUNK];
            loop {
                match input.read(&mut chunk).await {
                    Ok(0) | Err(_) => {
                        sender.send(Frame::InputEnd).await;
                        break;
                    }
                    Ok(read) => {
                        if !sender.data(Bytes::copy_from_slice(&chunk[..read]), Frame::Input).await {
                            break;
                        }
                    }
                }
            }
        }
        std::future::pending::<Infallible>().await
    };
    let commanding = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Resize(size) => sender.send(Frame::Resize(size)).await,
                Event::Signal(signal) => sender.send(Frame::Signal(signal)).await,
                Event::HangUp => return,
            };
        }
        std::future::pending().await
    };
    let writing = async {
        // Why it fails is what reading finds out as well.
        let _ = write_frames(writer, queue, pulse).await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        end = printing => end,
        () = commanding => Ok(End::HungUp),
        never = reading => match never {},
        never = typing => match never {},
        never = writing => match never {},
    }
}

#[cfg(test)]
mod tests;
