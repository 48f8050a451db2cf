//! Events to the terminal: lines that stay, and below them, where the terminal can redraw,
//! a line for each thing at work.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::paint::Paint;
use super::stacks::Board;
use super::{json, roll};
use crate::event::stack::StackEvent;
use crate::event::{Event, EventKind};

/// The key of the line that tells what is being waited for.
const NOTE: &str = "";

/// Draws events as they come.
#[derive(Debug)]
pub struct Live {
    mode: Mode,
    board: Board,
    bars: BTreeMap<String, ProgressBar>,
    last_note: String,
}

#[derive(Debug)]
enum Mode {
    /// A terminal that can be redrawn.
    Redraw(MultiProgress),
    /// Line after line on stderr.
    Lines,
    /// One JSON object a line on stdout.
    Json,
}

impl Live {
    /// For work on these stacks. `redraw` says that stderr can be redrawn, `json` that
    /// events are wanted instead of words.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>, paint: Paint, redraw: bool, json: bool) -> Self {
        let mode = match (json, redraw) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Redraw(MultiProgress::new()),
            (false, false) => Mode::Lines,
        };
        let board = Board::new(names, paint, !redraw);
        Self { mode, board, bars: BTreeMap::new(), last_note: String::new() }
    }

    /// Takes an event.
    pub fn take(&mut self, event: &Event) {
        if matches!(self.mode, Mode::Json) {
            if let Ok(value) = serde_json::to_value(event) {
                json::line(&value);
            }
            return;
        }
        match &event.kind {
            EventKind::Stack(event) => self.stack(event),
            EventKind::Roll(event) => {
                let line = roll::line(event);
                if line.live {
                    self.note(&line.text);
                } else {
                    self.clear(NOTE);
                    self.print(&line.text);
                }
            }
            EventKind::Note { text } => self.note(text),
            // Not of the work shown here.
            EventKind::Pipeline(_) | EventKind::Rollout(_) | EventKind::Local(_) => {}
        }
    }

    /// Removes what is only good while work goes on.
    pub fn finish(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }

    fn stack(&mut self, event: &StackEvent) {
        self.clear(NOTE);
        let lines = self.board.take(event);
        let stack = match event {
            StackEvent::Started { stack, .. }
            | StackEvent::Said { stack, .. }
            | StackEvent::Resource { stack, .. }
            | StackEvent::Finished { stack, .. } => stack.clone(),
        };
        let at_work = self.board.at_work().any(|name| name == stack);
        if !at_work {
            self.clear(&stack);
        }
        for line in lines {
            self.print(&line);
        }
        if at_work {
            let text = self.board.live(&stack);
            self.bar(&stack, &text);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.mode {
            Mode::Redraw(_) => self.bar(NOTE, text),
            Mode::Lines if self.last_note != text => eprintln!("{text}"),
            Mode::Lines | Mode::Json => {}
        }
        text.clone_into(&mut self.last_note);
    }

    fn print(&self, line: &str) {
        match &self.mode {
            // A terminal that has gone away is no reason to fail.
            Mode::Redraw(all) => drop(all.println(line)),
            Mode::Lines | Mode::Json => eprintln!("{line}"),
        }
    }

    fn bar(&mut self, key: &str, text: &str) {
        let Mode::Redraw(all) = &self.mode else { return };
        let bar = self.bars.entry(key.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new_spinner());
            let template =
                if key == NOTE { "{spinner} {wide_msg}" } else { "{prefix}  {spinner} {msg}  {elapsed}" };
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_prefix(key.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(text.to_owned());
    }

    fn clear(&mut self, key: &str) {
        if let Some(bar) = self.bars.remove(key) {
            bar.finish_and_clear();
        }
    }
}
