//! Reports of tests in JUnit's XML, as pytest, Go, Maven, Gradle, Jest and others write them.
//!
//! There is no specification; what is read here is what Jenkins' JUnit plugin and all writers have in common: `testcase`
//! elements anywhere below `testsuites` or `testsuite`, with `failure`, `error` or `skipped` in them.

use roxmltree::{Document, Node, ParsingOptions};

use crate::model::step_files::{FAILURES_MOST, FailedTest, MESSAGE_MOST, TestReport};

/// Reads a report.
///
/// # Errors
/// Why it is none, in words.
pub fn junit(text: &str) -> Result<TestReport, String> {
    let options = ParsingOptions { nodes_limit: 5_000_000, ..ParsingOptions::default() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
    let root = document.root_element();
    if !matches!(root.tag_name().name(), "testsuites" | "testsuite") {
        return Err(format!(
            "it begins with `{}`, not with `testsuites` or `testsuite`",
            root.tag_name().name()
        ));
    }
    let mut report = TestReport::default();
    for case in root.descendants().filter(|node| node.has_tag_name("testcase")) {
        report.tests += 1;
        let mut outcomes = case.children().filter(Node::is_element);
        let outcome = outcomes.find(|node| matches!(node.tag_name().name(), "failure" | "error" | "skipped"));
        match outcome {
            Some(node) if node.has_tag_name("skipped") => report.skipped += 1,
            Some(node) => {
                report.failed += 1;
                if report.failures.len() < FAILURES_MOST {
                    report.failures.push(FailedTest { name: name(&case), message: message(&node) });
                }
            }
            None => {}
        }
    }
    Ok(report)
}

/// `CLASS.NAME`, as reports name it.
fn name(case: &Node<'_, '_>) -> String {
    let own = case.attribute("name").unwrap_or("a test without a name");
    match case.attribute("classname").filter(|class| !class.is_empty() && !own.starts_with(class)) {
        Some(class) => format!("{class}.{own}"),
        None => own.to_owned(),
    }
}

/// The attribute `message`, and what the element holds where that says more.
fn message(outcome: &Node<'_, '_>) -> String {
    let said = outcome.attribute("message").unwrap_or_default().trim();
    let text: String =
        outcome.descendants().filter_map(|node| node.text().filter(|_| node.is_text())).collect();
    let text = text.trim();
    let mut whole = match (said.is_empty(), text.is_empty()) {
        (true, _) => text.to_owned(),
        (_, true) => said.to_owned(),
        _ if text.starts_with(said) => text.to_owned(),
        _ => format!("{said}\n{text}"),
    };
    whole.truncate(whole.floor_char_boundary(MESSAGE_MOST));
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_in_suites_and_every_outcome_are_counted() {
        let report = junit(
            r#"<?xml version="1.0" encoding="utf-8"?>
            <testsuites><testsuite name="outer"><testsuite name="inner">
              <testcase classname="shop.cart" name="adds"/>
              <testcase classname="shop.cart" name="removes"><failure message="expected 1">expected 1
 got 2</failure></testcase>
              <testcase name="TestOrder/empty"><error><![CDATA[panic: <nil>]]></error><system-out>x</system-out></testcase>
            </testsuite>
              <testcase classname="c" name="later"><skipped message="not yet"/></testcase>
            </testsuite></testsuites>"#,
        )
        .expect("a report");
        assert_eq!((report.tests, report.failed, report.skipped), (4, 2, 1));
        let failed: Vec<_> =
            report.failures.iter().map(|test| (test.name.as_str(), test.message.as_str())).collect();
        assert_eq!(
            failed,
            [("shop.cart.removes", "expected 1\n got 2"), ("TestOrder/empty", "panic: <nil>")]
        );
    }

    #[test]
    fn what_is_no_report_says_why() {
        assert!(junit("<html/>").is_err_and(|reason| reason.contains("begins with `html`")));
        assert!(junit("<testsuite><testcase>").is_err());
        assert!(junit("").is_err());
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite name="&b;"/>"#;
        assert!(junit(bomb).is_err(), "documents that define entities are refused");
    }

    #[test]
    fn much_is_cut_and_still_counted() {
        let case = r#"<testcase name="t"><failure message="x"/></testcase>"#;
        let report =
            junit(&format!("<testsuite>{}</testsuite>", case.repeat(FAILURES_MOST + 5))).expect("a report");
        assert_eq!(report.failed, FAILURES_MOST as u64 + 5);
        assert_eq!(report.failures.len(), FAILURES_MOST);
        let long = format!(
            r#"<testsuite><testcase name="t"><error>{}</error></testcase></testsuite>"#,
            "é".repeat(MESSAGE_MOST)
        );
        assert_eq!(junit(&long).expect("a report").failures[0].message.len(), MESSAGE_MOST);
    }
}
