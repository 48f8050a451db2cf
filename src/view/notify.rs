//! Changes of who is notified, in plans.

use std::fmt::Write as _;

use super::paint::{BAD, GOOD, Paint};
use super::publication::{head, heading};
use crate::plan::notify::NotifyChange;

/// For people.
pub fn human(change: &NotifyChange, paint: Paint) -> String {
    let mut out = head("notify", &change.parameter, (&change.before, &change.after), paint);
    for line in &change.lines {
        let sign = if line.added { paint.paint(GOOD, "+") } else { paint.paint(BAD, "-") };
        let _ = writeln!(out, "  {sign} {}", line.receiver);
    }
    out
}

/// As Markdown.
pub fn markdown(change: &NotifyChange) -> String {
    let mut out = heading("notify", (&change.before, &change.after));
    for line in &change.lines {
        let what = if line.added { "is notified" } else { "**is no longer notified**" };
        let _ = writeln!(out, "- `{}` {what}", line.receiver);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::notify::Receivers;
    use crate::plan::notify::change;

    #[test]
    fn people_see_who_is_notified_of_what() {
        let (_, sample) = crate::source::samples::of("notify").pop().expect("a sample");
        let sample: serde_json::Value = serde_json::from_str(&sample).expect("JSON");
        let receivers = Receivers::read(&sample["receivers"].to_string()).expect("receivers");
        let mut fewer = receivers.clone();
        fewer.receivers.remove(0);
        let update = change("/x/notify", Some(&fewer), Some(&receivers.publish())).expect("a change");
        let publish = change("/x/notify", Some(&fewer), None).expect("a change");
        insta::assert_snapshot!(
            human(&update, Paint(false)) + &human(&publish, Paint(false)) + &markdown(&update)
        );
    }
}
