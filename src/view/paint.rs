//! Colour that only underlines what the words already say.

use anstyle::{AnsiColor, Style};

/// Green: something comes, or went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Red: something goes, or failed.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Yellow: something changes.
pub const CHANGE: Style = AnsiColor::Yellow.on_default();
/// Cyan: something to know.
pub const NOTE: Style = AnsiColor::Cyan.on_default();
/// Dim: less important.
pub const DIM: Style = Style::new().dimmed();
/// Bold: names and results.
pub const BOLD: Style = Style::new().bold();

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    /// `text` in `style`, or as it is.
    pub fn paint(self, style: Style, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}
