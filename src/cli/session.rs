//! The command line's end of a program in a container: its streams, its terminal and its signals.

use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Done;
use super::context::Context;
use super::failure::Failure;
use super::terminal::{self, Raw};
use crate::driver::stream::{End, Event, Local, attach};
use crate::model::frame::Signal;
use crate::port::streams::{Attached, Terminal};
use crate::view;

/// The exit status of a program that the signal of a closed pipe ended.
const PIPE_CLOSED: u8 = 128 + 13;
/// How long a program may take to end after Ctrl-C until the next step is shown.
const HINT: Duration = Duration::from_secs(1);

/// How a program is connected with this process.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Streams {
    /// Pass the standard input on to the program
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
}

impl Streams {
    /// Checks that this process can be connected so.
    ///
    /// # Errors
    /// Why not.
    pub fn check(self, context: &Context) -> Result<(), Failure> {
        if self.tty && self.interactive && !terminal::is_input() {
            return Err(Failure::usage(
                "the standard input is not a terminal",
                "leave out `-t`; with `-i` alone the input is passed on",
            ));
        }
        if self.tty && context.json() {
            return Err(Failure::usage("a terminal can't be shown as JSON", "leave out `-t`, or `-o json`"));
        }
        Ok(())
    }

    /// The terminal that the program gets: of this one's kind and size.
    pub fn terminal(self) -> Option<Terminal> {
        self.tty.then(|| Terminal {
            kind: std::env::var("TERM")
                .ok()
                .filter(|kind| !kind.is_empty())
                .unwrap_or_else(|| "xterm".to_owned()),
            size: terminal::size(),
        })
    }

    /// Connects this process with the program until that ends. `again` says how it is executed again.
    ///
    /// # Errors
    /// When the streams of this process can't be used, or the one to the program breaks.
    pub async fn connect(self, context: &Context, attached: Attached, again: &str) -> Result<Done, Failure> {
        let next = "see `fleetwright machines` whether that machine is up; where it is, the program is ended with its stream";
        self.connect_or(context, attached, again, next).await
    }

    /// The same; `next` says what to do when the stream breaks.
    ///
    /// # Errors
    /// When the streams of this process can't be used, or the one to the program breaks.
    pub async fn connect_or(
        self,
        context: &Context,
        attached: Attached,
        again: &str,
        next: &str,
    ) -> Result<Done, Failure> {
        let Attached { instance, machine, connection } = attached;
        if context.json() {
            view::exec::started(&instance, &machine);
        }
        let (sender, events) = unbounded_channel();
        let watched = Watched::start(sender, self.tty)
            .map_err(|error| Failure::failed(format!("preparing for signals: {error}"), "report this"))?;
        let streams = |error: std::io::Error| {
            Failure::failed(
                format!("preparing the standard streams: {error}"),
                "see that input and output are not closed",
            )
        };
        let mut input: Option<Box<dyn AsyncRead + Send + Unpin>> = None;
        if self.interactive {
            input = Some(Box::new(terminal::input().map_err(streams)?));
        }
        let (output, errors) =
            if context.json() { view::exec::lines() } else { view::exec::as_it_is().map_err(streams)? };
        let raw = match self.tty && self.interactive {
            true => Some(Raw::enter().map_err(|error| {
                Failure::failed(format!("preparing the terminal: {error}"), "leave out `-t`")
            })?),
            false => None,
        };
        let end = attach(connection, Local { input, output, errors, events }).await;
        drop(raw);
        watched.stop();
        match end {
            Ok(End::Exit(status)) => {
                if context.json() {
                    view::exec::ended(status);
                }
                Ok(Done::Status(u8::try_from(status).unwrap_or(1)))
            }
            Ok(End::OutputClosed) => Ok(Done::Status(PIPE_CLOSED)),
            Ok(End::HungUp) => Err(Failure::Interrupted {
                left: format!("the program in {instance} is ended. `{again}` executes it again"),
            }),
            Err(error) => Err(Failure::failed(
                format!("the stream to {instance} on {machine} broke before the program ended: {error}"),
                next,
            )),
        }
    }
}

/// Signals that this process gets meanwhile, from its terminal or from others.
struct Watched(tokio::task::JoinHandle<()>);

impl Watched {
    fn start(events: UnboundedSender<Event>, tty: bool) -> std::io::Result<Self> {
        let mut resized = signal(SignalKind::window_change())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        Ok(Self(tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    Some(()) = resized.recv() => match terminal::size().filter(|_| tty) {
                        Some(size) => Event::Resize(size),
                        None => continue,
                    },
                    Some(()) = interrupted.recv() => {
                        let _ = events.send(Event::Signal(Signal::Interrupt));
                        return until_again(&mut interrupted, &mut terminated, &events).await;
                    }
                    Some(()) = terminated.recv() => {
                        let _ = events.send(Event::Signal(Signal::Terminate));
                        return until_again(&mut interrupted, &mut terminated, &events).await;
                    }
                    Some(()) = hung_up.recv() => Event::HangUp,
                };
                let _ = events.send(event);
            }
        })))
    }

    fn stop(self) {
        self.0.abort();
    }
}

/// Hangs up when somebody asks for the end again.
async fn until_again(interrupted: &mut Signals, terminated: &mut Signals, events: &UnboundedSender<Event>) {
    let again = async {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    };
    tokio::pin!(again);
    tokio::select! {
        () = &mut again => {}
        () = tokio::time::sleep(HINT) => {
            eprintln!("the program was asked to end; Ctrl-C again kills it");
            again.await;
        }
    }
    let _ = events.send(Event::HangUp);
}
