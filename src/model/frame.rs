//! What travels on a stream between a command line and a process on a machine: frames of a kind,
//! a length and that many bytes.
//!
//! Both ends name the version of the format when they open the stream ([`PROTOCOL`]), so a kind
//! that is not known is an error of the other end, not one of a later version.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The name and the version of the format, as it stands in the header `Upgrade`.
pub const PROTOCOL: &str = "fleetwright-stream/1";
/// The most data that one frame carries, in bytes.
pub const CHUNK: usize = 32 * 1024;
/// How much data of each direction may be under way before the other end has consumed it, in bytes.
pub const WINDOW: usize = 1024 * 1024;
/// The kind and the length that each frame begins with, in bytes.
const HEADER: usize = 5;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Its height.
    pub rows: u16,
    /// Its width.
    pub columns: u16,
}

/// What a process is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Its terminal is gone.
    HangUp,
    /// Somebody pressed Ctrl-C.
    Interrupt,
    /// Somebody pressed Ctrl-\.
    Quit,
    /// It is to end.
    Terminate,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HangUp, Self::Interrupt, Self::Quit, Self::Terminate];

    /// Its number, the same on every Linux.
    pub fn number(self) -> u8 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The sender is there, and has nothing to say.
    Alive,
    /// Bytes for the process's standard input.
    Input(Bytes),
    /// There are no more of them.
    InputEnd,
    /// Bytes of its standard output, or of its terminal.
    Output(Bytes),
    /// Bytes of its standard error.
    Errors(Bytes),
    /// The receiver of data has consumed that many bytes of it.
    Consumed(u32),
    /// The terminal has another size.
    Resize(Size),
    /// A signal for the process.
    Signal(Signal),
    /// The process has ended with that status. Nothing comes after it.
    Exit(i32),
    /// What happened to the process can't be found out, and why. Nothing comes after it.
    Lost(String),
}

/// Why bytes are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A kind that this version does not have.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// A frame that is longer than any may be.
    #[error("a frame of {0} bytes, which is more than {CHUNK}")]
    Length(u32),
    /// A frame whose content is not what its kind has.
    #[error("a frame of kind {0} with a wrong content")]
    Content(u8),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Alive => 0,
            Self::Input(_) => 1,
            Self::InputEnd => 2,
            Self::Output(_) => 3,
            Self::Errors(_) => 4,
            Self::Consumed(_) => 5,
            Self::Resize(_) => 6,
            Self::Signal(_) => 7,
            Self::Exit(_) => 8,
            Self::Lost(_) => 9,
        }
    }

    /// Appends the frame to `to`. Data is at most [`CHUNK`] bytes long; what is longer is cut off.
    pub fn encode(&self, to: &mut BytesMut) {
        let begin = to.len();
        to.put_u8(self.kind());
        to.put_u32(0);
        match self {
            Self::Alive | Self::InputEnd => {}
            Self::Input(data) | Self::Output(data) | Self::Errors(data) => {
                to.put_slice(&data[..data.len().min(CHUNK)]);
            }
            Self::Consumed(bytes) => to.put_u32(*bytes),
            Self::Resize(size) => {
                to.put_u16(size.rows);
                to.put_u16(size.columns);
            }
            Self::Signal(signal) => to.put_u8(signal.number()),
            Self::Exit(status) => to.put_i32(*status),
            Self::Lost(reason) => to.put_slice(&reason.as_bytes()[..reason.floor_char_boundary(CHUNK)]),
        }
        let length = u32::try_from(to.len() - begin - HEADER).unwrap_or(u32::MAX);
        to[begin + 1..begin + HEADER].copy_from_slice(&length.to_be_bytes());
    }

    fn decode(kind: u8, mut content: Bytes) -> Result<Self, BadFrame> {
        let wrong = BadFrame::Content(kind);
        let sized = |length: usize| if content.len() == length { Ok(()) } else { Err(wrong) };
        Ok(match kind {
            0 => sized(0).map(|()| Self::Alive)?,
            1 => Self::Input(content),
            2 => sized(0).map(|()| Self::InputEnd)?,
            3 => Self::Output(content),
            4 => Self::Errors(content),
            5 => {
                sized(4)?;
                Self::Consumed(content.get_u32())
            }
            6 => {
                sized(4)?;
                Self::Resize(Size { rows: content.get_u16(), columns: content.get_u16() })
            }
            7 => {
                sized(1)?;
                let number = content.get_u8();
                let signal = Signal::ALL.into_iter().find(|signal| signal.number() == number);
                Self::Signal(signal.ok_or(wrong)?)
            }
            8 => {
                sized(4)?;
                Self::Exit(content.get_i32())
            }
            9 => Self::Lost(String::from_utf8(content.to_vec()).map_err(|_| wrong)?),
            other => return Err(BadFrame::Kind(other)),
        })
    }
}

/// Makes frames of bytes, however they arrive. It holds one incomplete frame at most.
#[derive(Debug, Default)]
pub struct Decoder {
    rest: BytesMut,
}

impl Decoder {
    /// Takes bytes that arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more bytes arrive.
    ///
    /// # Errors
    /// When the bytes are no frame. What follows can't be understood either.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
        let [kind, a, b, c, d, ..] = self.rest[..] else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        let size = usize::try_from(length).ok().filter(|size| *size <= CHUNK);
        let size = size.ok_or(BadFrame::Length(length))?;
        if self.rest.len() < HEADER + size {
            return Ok(None);
        }
        self.rest.advance(HEADER);
        Frame::decode(kind, self.rest.split_to(size).freeze()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let data = || proptest::collection::vec(any::<u8>(), 0..2000).prop_map(Bytes::from);
        prop_oneof![
            Just(Frame::Alive),
            data().prop_map(Frame::Input),
            Just(Frame::InputEnd),
            data().prop_map(Frame::Output),
            data().prop_map(Frame::Errors),
            any::<u32>().prop_map(Frame::Consumed),
            any::<(u16, u16)>().prop_map(|(rows, columns)| Frame::Resize(Size { rows, columns })),
            proptest::sample::select(&Signal::ALL).prop_map(Frame::Signal),
            any::<i32>().prop_map(Frame::Exit),
            ".{0,40}".prop_map(Frame::Lost),
        ]
    }

    fn all(decoder: &mut Decoder) -> Result<Vec<Frame>, BadFrame> {
        std::iter::from_fn(|| decoder.next_frame().transpose()).collect()
    }

    proptest! {
        #[test]
        fn frames_arrive_as_they_were_sent_however_they_are_cut(
            sent in proptest::collection::vec(frames(), 0..20),
            cuts in proptest::collection::vec(1_usize..400, 1..40),
        ) {
            let mut bytes = BytesMut::new();
            sent.iter().for_each(|frame| frame.encode(&mut bytes));
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                decoder.feed(now);
                got.extend(all(&mut decoder).expect("frames"));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(decoder.rest.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            let _ = all(&mut decoder);
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let read = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            decoder.next_frame()
        };
        assert_eq!(read(&[200, 0, 0, 0, 0]), Err(BadFrame::Kind(200)));
        assert_eq!(read(&[1, 0xff, 0, 0, 0]), Err(BadFrame::Length(0xff00_0000)));
        assert_eq!(read(&[8, 0, 0, 0, 1, 0]), Err(BadFrame::Content(8)));
        assert_eq!(read(&[7, 0, 0, 0, 1, 9]), Err(BadFrame::Content(7)));
        assert_eq!(read(&[0, 0, 0, 0]), Ok(None));
    }

    /// Two machines of different builds read each other's frames.
    #[test]
    fn the_bytes_of_version_1_stay() {
        let bytes = |frame: Frame| {
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes);
            bytes.to_vec()
        };
        assert_eq!(bytes(Frame::Input(Bytes::from_static(b"hi"))), [1, 0, 0, 0, 2, b'h', b'i']);
        assert_eq!(bytes(Frame::Resize(Size { rows: 24, columns: 80 })), [6, 0, 0, 0, 4, 0, 24, 0, 80]);
        assert_eq!(bytes(Frame::Signal(Signal::Interrupt)), [7, 0, 0, 0, 1, 2]);
        assert_eq!(bytes(Frame::Exit(-1)), [8, 0, 0, 0, 4, 255, 255, 255, 255]);
    }
}
