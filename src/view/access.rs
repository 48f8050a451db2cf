//! Changes of who has access to a cluster, in plans.

use std::fmt::Write as _;

use super::paint::{BAD, GOOD, Paint};
use super::publication::{head, heading};
use crate::plan::access::AccessChange;

/// What it says when a section of the repository is gone.
const WITHDRAWN: &str = "nobody has access any more but through the break-glass token";

/// For people.
pub fn human(change: &AccessChange, paint: Paint) -> String {
    let mut out = head("access", &change.parameter, (&change.before, &change.after), paint);
    for line in &change.lines {
        let sign = if line.gains { paint.paint(GOOD, "+") } else { paint.paint(BAD, "-") };
        let _ = writeln!(out, "  {sign} {:8}   {}", line.level, line.principal);
    }
    if change.after.is_none() {
        let _ = writeln!(out, "  {} {WITHDRAWN}", paint.paint(BAD, "!"));
    }
    out
}

/// As Markdown.
pub fn markdown(change: &AccessChange) -> String {
    let mut out = heading("access", (&change.before, &change.after));
    for line in &change.lines {
        let what = if line.gains { "gains" } else { "**loses**" };
        let _ = writeln!(out, "- `{}` {what} {}", line.principal, line.level);
    }
    if change.after.is_none() {
        let _ = writeln!(out, "- **{WITHDRAWN}**");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Policy;
    use crate::plan::access::change;

    const OLD: &str = r#"{"version":1,"admin":["role/boss"],"deployer":["role/deploy"],"viewer":["*"]}"#;

    #[test]
    fn people_see_who_gains_and_who_loses() {
        let new = OLD.replace("role/deploy", "user/ada");
        let update =
            change("/fleetwright/shop/production/main/access", Policy::read(&new).ok().as_ref(), Some(OLD));
        insta::assert_snapshot!(human(&update.expect("a change"), Paint(false)), @r"
        access   /fleetwright/shop/production/main/access   update
          - deployer   role/deploy
          + deployer   user/ada
        ");
    }

    #[test]
    fn a_withdrawal_is_said_in_words() {
        let gone = change("/fleetwright/shop/production/main/access", None, Some(OLD)).expect("a change");
        insta::assert_snapshot!(human(&gone, Paint(false)), @r"
        access   /fleetwright/shop/production/main/access   withdraw
          - admin      role/boss
          - deployer   role/deploy
          - viewer     *
          ! nobody has access any more but through the break-glass token
        ");
        insta::assert_snapshot!(markdown(&gone), @r"

        #### access: withdraw

        - `role/boss` **loses** admin
        - `role/deploy` **loses** deployer
        - `*` **loses** viewer
        - **nobody has access any more but through the break-glass token**
        ");
    }
}
