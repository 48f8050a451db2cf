//! What is wrong with a document, and for which engines.

use std::sync::Arc;

use super::model::Spanned;
use super::target::Target;
use crate::source::{Diagnostic, Severity, SourceFile, Span, suggest};
use crate::yaml::Node;

/// One problem of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The targets that have it, in order; of those that were asked for.
    pub targets: Vec<Target>,
    /// How bad it is there.
    pub severity: Severity,
    /// A stable name in kebab case.
    pub code: &'static str,
    /// The bytes meant.
    pub span: Span,
    /// Where in the document, `write_files/0/permissions`; empty for the whole of it.
    pub path: String,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What stands under the bytes meant; may be empty.
    pub label: String,
    /// What else to know or do.
    pub help: Vec<String>,
}

impl Finding {
    /// Something that the targets refuse, or lose without a word.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            targets: Vec::new(),
            severity: Severity::Error,
            code,
            span,
            path: String::new(),
            message: message.into(),
            label: String::new(),
            help: Vec::new(),
        }
    }

    /// Something that the targets take, but that was hardly meant.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Says `label` under the bytes meant.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds a line of help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Whether the document must be refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding as a diagnostic that points into `file`, its targets named in the message.
    pub fn diagnostic(&self, file: &Arc<SourceFile>) -> Diagnostic {
        let targets: Vec<&str> = self.targets.iter().map(|target| target.name()).collect();
        Diagnostic {
            severity: self.severity,
            code: self.code,
            message: format!("{} ({})", self.message, targets.join(", ")),
            label: None,
            path: (!self.path.is_empty()).then(|| self.path.clone()),
            help: self.help.clone(),
        }
        .at(file, self.span, self.label.as_str())
    }
}

/// Findings that are being collected.
#[derive(Debug)]
pub struct Report<'t> {
    file: &'t SourceFile,
    targets: &'t [Target],
    findings: Vec<Finding>,
    /// How many more names are looked for: a long document of nonsense must not take long.
    suggestions: usize,
}

/// Names that are looked for in one document, and the longest that is.
const SUGGESTIONS: (usize, usize) = (200, 64);

impl<'t> Report<'t> {
    /// A report on `file` that keeps what concerns `targets`.
    pub fn new(file: &'t SourceFile, targets: &'t [Target]) -> Self {
        Self { file, targets, findings: Vec::new(), suggestions: SUGGESTIONS.0 }
    }

    /// Whether any of `targets` is asked for.
    pub fn wants(&self, targets: &[Target]) -> bool {
        targets.iter().any(|target| self.targets.contains(target))
    }

    /// The candidate nearest to `word`, if one is near enough to be what was meant.
    pub fn suggest<'a>(
        &mut self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if word.len() > SUGGESTIONS.1 || self.suggestions == 0 {
            return None;
        }
        self.suggestions -= 1;
        suggest(word, candidates)
    }

    /// The text that is reported on.
    pub fn text(&self) -> &str {
        self.file.text()
    }

    /// Adds findings of a document within this one, whose places are this one's.
    pub fn extend(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
    }

    /// Where in the document each line of a text in it begins; `None` where it is not written line
    /// for line, in quotes say, or in base64.
    pub fn lines(&self, content: &Spanned<String>) -> Option<Vec<usize>> {
        let mut at = content.span.start;
        let mut written = self.file.slice(content.span).split_inclusive('\n');
        let mut starts = Vec::new();
        for line in content.value.lines() {
            // The first line of a block text is told from behind its indentation.
            let source = written.next()?;
            let indent = source.trim_end_matches(['\r', '\n']).strip_suffix(line)?;
            if !indent.bytes().all(|byte| byte == b' ') {
                return None;
            }
            starts.push(at + indent.len());
            at += source.len();
        }
        Some(starts)
    }

    /// Writes `finding` down for those of `targets` that are asked for.
    pub fn add(&mut self, targets: &[Target], mut finding: Finding) {
        finding.targets =
            targets.iter().copied().filter(|target| self.targets.contains(target)).collect::<Vec<_>>();
        if !finding.targets.is_empty() {
            self.findings.push(finding);
        }
    }

    /// The findings in the order of the document, those that are the same joined, each with its
    /// path and no more than the first line of what it is about.
    pub fn finish(self, file: &SourceFile, root: Option<&Node>) -> Vec<Finding> {
        let mut findings = self.findings;
        for finding in &mut findings {
            let end = file.text().len();
            let span = Span::new(finding.span.start.min(end), finding.span.end.min(end));
            if let Some(root) = root.filter(|_| finding.path.is_empty()) {
                finding.path = path(root, span);
            }
            finding.span = crate::yaml::first_line(file, span);
        }
        findings.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut joined: Vec<Finding> = Vec::with_capacity(findings.len());
        for finding in findings {
            match joined.last_mut().filter(|last| order(last) == order(&finding)) {
                Some(last) => last.targets.extend(finding.targets),
                None => joined.push(finding),
            }
        }
        for finding in &mut joined {
            finding.targets.sort_unstable();
            finding.targets.dedup();
        }
        joined
    }
}

/// What findings are sorted by; those that are equal in it are one.
fn order(finding: &Finding) -> (Span, Severity, &str, &str, &str, &[String]) {
    (finding.span, finding.severity, finding.code, &finding.message, &finding.label, &finding.help)
}

/// Where in the document `span` is, `write_files/0/path`. Entries and items stand in the order of
/// their bytes, so that this takes logarithmic time.
fn path(root: &Node, span: Span) -> String {
    let within = |outer: Span| outer.start <= span.start && span.end <= outer.end;
    let mut path = Vec::new();
    let mut node = root;
    loop {
        if let Some(entries) = node.entries() {
            let next = entries.partition_point(|(key, _)| key.span.start <= span.start);
            let Some((key, value)) = next.checked_sub(1).map(|at| &entries[at]) else { break };
            if within(key.span) {
                path.push(key.text().unwrap_or_default().to_owned());
                break;
            }
            if !within(value.span) {
                break;
            }
            path.push(key.text().unwrap_or_default().to_owned());
            node = value;
        } else if let Some(items) = node.items() {
            let next = items.partition_point(|item| item.span.start <= span.start);
            let Some(index) = next.checked_sub(1).filter(|index| within(items[*index].span)) else { break };
            path.push(index.to_string());
            node = &items[index];
        } else {
            break;
        }
    }
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_for_several_targets_is_one_finding() {
        let file = SourceFile::new("a.yaml", "a: 1\nb: 2\n");
        let targets = Target::ALL;
        let mut report = Report::new(&file, &targets[..4]);
        let finding = || Finding::error("code", Span::new(0, 1), "message");
        report.add(&[Target::CloudInit22_4], finding());
        report.add(&[Target::CoreosLegacy], finding());
        report.add(&[Target::Ignition3_3], finding());
        report.add(&[Target::Flatcar], Finding::warning("code", Span::new(0, 1), "message"));
        let findings = report.finish(&file, None);
        let targets: Vec<_> = findings.iter().map(|finding| finding.targets.clone()).collect();
        assert_eq!(targets, [vec![Target::CoreosLegacy, Target::CloudInit22_4], vec![Target::Flatcar]]);
    }
}
