//! The terminal of this process, given to a process elsewhere.

use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::AsFd as _;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use terminal_size::{Height, Width, terminal_size_of};

use crate::model::frame::Size;

/// The terminal in raw mode: every key goes to the process, and what the process writes is shown as
/// it is. It is as it was before when this is dropped, however the command ends.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Changes the mode of the terminal that is the standard input.
    ///
    /// # Errors
    /// When it can't be changed.
    pub fn enter() -> std::io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about a failure: the terminal may have gone away.
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// The standard input, whatever it is.
///
/// # Errors
/// When there is none.
pub fn input() -> std::io::Result<tokio::fs::File> {
    let input = stdin().as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(std::fs::File::from(input)))
}

/// Whether the standard input is a terminal.
pub fn is_input() -> bool {
    stdin().is_terminal()
}

/// The size of the terminal; `None` where there is none.
pub fn size() -> Option<Size> {
    let (Width(columns), Height(rows)) = terminal_size_of(stdout()).or_else(|| terminal_size_of(stdin()))?;
    Some(Size { rows, columns })
}
