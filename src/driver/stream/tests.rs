//! Both ends against each other, over pipes that hold little, with a process that is played.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::stream;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::Notify;

use super::*;
use crate::port::cluster::ClusterError;
use crate::port::streams::{Output, ProcessHandle};

/// Nobody waits for seconds here.
const QUICK: Pulse = Pulse { sign_of_life: Duration::from_millis(30), silence: Duration::from_millis(300) };

/// A process that does nothing on its own.
#[derive(Default)]
struct Played {
    done: Mutex<Vec<String>>,
    ended: Notify,
    status: i32,
}

impl Played {
    fn did(&self, what: String) {
        self.done.lock().expect("not poisoned").push(what);
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().expect("not poisoned").clone()
    }
}

#[async_trait]
impl ProcessHandle for Played {
    async fn resize(&self, size: Size) {
        self.did(format!("{}x{}", size.rows, size.columns));
    }
    async fn signal(&self, signal: Signal) {
        self.did(format!("{signal:?}"));
        self.ended.notify_one();
    }
    async fn exit(&self) -> Result<i32, ClusterError> {
        Ok(self.status)
    }
    async fn end(&self) {
        self.did("ended".to_owned());
        self.ended.notify_one();
    }
}

/// A writer that keeps what it gets.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Kept {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a pipe brings, as a process's output.
fn output_of(pipe: DuplexStream) -> Output {
    stream::unfold(pipe, |mut pipe| async move {
        let mut chunk = vec![0; 10_000];
        match pipe.read(&mut chunk).await {
            Ok(0) | Err(_) => None,
            Ok(read) => Some((Ok((Channel::Output, Bytes::copy_from_slice(&chunk[..read]))), pipe)),
        }
    })
    .boxed()
}

fn local(
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> (Local, Kept, mpsc::UnboundedSender<Event>) {
    let (events, out) = mpsc::unbounded_channel();
    let errors = Kept::default();
    (Local { input, output: Box::new(output), errors: Box::new(errors.clone()), events: out }, errors, events)
}

fn pair() -> (Connection, Connection) {
    let (here, there) = duplex(1000);
    (Box::new(here), Box::new(there))
}

#[tokio::test]
async fn megabytes_go_there_and_back_as_they_are() {
    let sent: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    // A `cat`: what comes in goes out.
    let (stdin, stdout) = duplex(4096);
    let played = Arc::new(Played { status: 7, ..Played::default() });
    let process = Process { input: Some(Box::new(stdin)), output: output_of(stdout), handle: played.clone() };
    let (here, there) = pair();
    let serving = tokio::spawn(serve_at(QUICK, there, process));
    let kept = Kept::default();
    let (local, _, _events) = local(Some(Box::new(std::io::Cursor::new(sent.clone()))), kept.clone());
    assert_eq!(attach_at(QUICK, here, local).await, Ok(End::Exit(7)));
    assert!(*kept.0.lock().expect("not poisoned") == sent, "what came back differs");
    assert_eq!(serving.await.expect("served"), Ok(7));
    assert_eq!(played.done(), [""; 0]);
}

#[tokio::test]
async fn channels_stay_apart_and_an_end_comes_after_all_that_was_written() {
    let output = [(Channel::Output, "out"), (Channel::Errors, "err"), (Channel::Output, "more")];
    let output = output.map(|(channel, text)| Ok((channel, Bytes::from_static(text.as_bytes()))));
    let process =
        Process { input: None, output: stream::iter(output).boxed(), handle: Arc::new(Played::default()) };
    let (here, there) = pair();
    tokio::spawn(serve_at(QUICK, there, process));
    let kept = Kept::default();
    let (local, errors, _events) = local(None, kept.clone());
    assert_eq!(attach_at(QUICK, here, local).await, Ok(End::Exit(0)));
    assert_eq!(*kept.0.lock().expect("not poisoned"), b"outmore");
    assert_eq!(*errors.0.lock().expect("not poisoned"), b"err");
}

#[tokio::test]
async fn a_process_that_does_not_read_can_be_hung_up_on() {
    let (stdin, _nobody_reads) = duplex(64);
    let (stdout, _nobody_writes) = duplex(64);
    let played = Arc::new(Played::default());
    let process = Process { input: Some(Box::new(stdin)), output: output_of(stdout), handle: played.clone() };
    let (here, there) = pair();
    let serving = tokio::spawn(serve_at(QUICK, there, process));
    let (local, _, events) = local(Some(Box::new(tokio::io::repeat(b'x').take(50_000_000))), Kept::default());
    let attached = tokio::spawn(attach_at(QUICK, here, local));
    tokio::time::sleep(4 * QUICK.silence).await;
    assert!(!serving.is_finished() && !attached.is_finished(), "both ends live as long as they wait");
    events.send(Event::Resize(Size { rows: 24, columns: 80 })).expect("sent");
    events.send(Event::Signal(Signal::Interrupt)).expect("sent");
    tokio::time::sleep(QUICK.silence).await;
    events.send(Event::HangUp).expect("sent");
    assert_eq!(attached.await.expect("attached"), Ok(End::HungUp));
    assert_eq!(serving.await.expect("served"), Err(StreamError::Closed));
    assert_eq!(played.done(), ["24x80", "Interrupt", "ended"]);
}

#[tokio::test]
async fn an_output_that_nobody_reads_waits_and_one_that_is_closed_hangs_up() {
    let played = Arc::new(Played::default());
    let produced = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&produced);
    let endless = stream::repeat_with(move || {
        count.fetch_add(1000, Ordering::Relaxed);
        Ok((Channel::Output, Bytes::from_static(&[b'x'; 1000])))
    });
    let process = Process { input: None, output: endless.boxed(), handle: played.clone() };
    let (here, there) = pair();
    let serving = tokio::spawn(serve_at(QUICK, there, process));
    let (stdout, reader) = duplex(100);
    let (local, _, _events) = local(None, stdout);
    let attached = tokio::spawn(attach_at(QUICK, here, local));
    tokio::time::sleep(4 * QUICK.silence).await;
    let most = WINDOW + 3 * CHUNK;
    assert!(produced.load(Ordering::Relaxed) <= most, "{produced:?} bytes are held");
    drop(reader);
    assert_eq!(attached.await.expect("attached"), Ok(End::OutputClosed));
    assert_eq!(serving.await.expect("served"), Err(StreamError::Closed));
    assert_eq!(played.done(), ["ended"]);
}

#[tokio::test]
async fn an_end_that_is_silent_counts_as_gone() {
    let played = Arc::new(Played::default());
    let process = Process { input: None, output: stream::pending().boxed(), handle: played.clone() };
    let (_silent, there) = duplex(100_000);
    assert_eq!(serve_at(QUICK, Box::new(there), process).await, Err(StreamError::Silent));
    assert_eq!(played.done(), ["ended"]);
    let (here, _silent) = duplex(100_000);
    let (local, _, _events) = local(None, Kept::default());
    assert_eq!(attach_at(QUICK, Box::new(here), local).await, Err(StreamError::Silent));
}

#[tokio::test]
async fn more_than_the_window_or_a_misplaced_frame_ends_the_stream() {
    let flood = |frames: Vec<Frame>| async move {
        let (stdin, _nobody_reads) = duplex(64);
        let process = Process {
            input: Some(Box::new(stdin)),
            output: stream::pending().boxed(),
            handle: Arc::new(Played::default()),
        };
        let (mut here, there) = duplex(4 * WINDOW);
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        here.write_all(&bytes).await.expect("sent");
        serve_at(QUICK, Box::new(there), process).await
    };
    let data = Frame::Input(Bytes::from(vec![0; CHUNK]));
    assert_eq!(flood(vec![data; WINDOW / CHUNK + 2]).await, Err(StreamError::Misplaced));
    assert_eq!(flood(vec![Frame::Consumed(1)]).await, Err(StreamError::Misplaced));
    assert_eq!(flood(vec![Frame::Exit(0)]).await, Err(StreamError::Misplaced));
}

#[tokio::test]
async fn a_process_that_is_lost_is_reported_as_such() {
    let lost = ClusterError::Engine { doing: "reading".to_owned(), reason: "it stopped".to_owned() };
    let process = Process {
        input: None,
        output: stream::iter([Err(lost)]).boxed(),
        handle: Arc::new(Played::default()),
    };
    let (here, there) = pair();
    tokio::spawn(serve_at(QUICK, there, process));
    let (local, _, _events) = local(None, Kept::default());
    let lost = attach_at(QUICK, here, local).await.expect_err("lost");
    assert_eq!(lost.to_string(), "reading: it stopped");
}
