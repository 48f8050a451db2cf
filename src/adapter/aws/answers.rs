//! Whether an answer is complete. The SDK reads what is there: it takes XML that ends in the middle for
//! a shorter answer, stops paging in silence where a page is repeated, and leaves out what is missing.

use aws_sdk_cloudformation::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_cloudformation::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cloudformation::error::BoxError;

use crate::port::cloud::CloudError;

/// Refuses answers that end in the middle, so that they are asked for again.
#[derive(Debug)]
pub struct Whole;

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    /// It ends in the middle.
    #[error("the answer ends in the middle: {0}")]
    Cut(String),
    /// An entry of a list lacks a field.
    #[error("the answer has an entry without `{0}`")]
    Lacks(&'static str),
}

/// Fields that entries of lists must have. Where AWS's documentation requires a field, the SDK puts an empty text,
/// a 0 or 1970 in the place of one that is missing.
const REQUIRED: &[(&str, &[&str])] = &[
    ("Stacks", &["StackName", "StackStatus"]),
    ("StackResourceSummaries", &["LogicalResourceId", "ResourceType", "ResourceStatus"]),
    ("StackResourceDrifts", &["LogicalResourceId", "StackResourceDriftStatus"]),
    ("AutoScalingGroups", &["AutoScalingGroupName", "MinSize", "MaxSize", "DesiredCapacity"]),
    ("Instances", &["InstanceId", "LifecycleState"]),
];

impl NotWhole {
    /// What an error of the SDK comes from, if it is this.
    pub fn of<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl Intercept for Whole {
    fn name(&self) -> &'static str {
        "whole"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        // What is streamed is checked by its length, and what has failed is an error anyway.
        match response.body().bytes() {
            Some(body) if response.status().is_success() => whole(body).map_err(Into::into),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether a body is a whole document; JSON, pages and no body at all are left to the SDK, which refuses them.
pub fn whole(body: &[u8]) -> Result<(), NotWhole> {
    let start = body.trim_ascii_start();
    let is_page = ["<!doctype html", "<html"]
        .iter()
        .any(|word| start.get(..word.len()).is_some_and(|s| s.eq_ignore_ascii_case(word.as_bytes())));
    if start.first() != Some(&b'<') || is_page {
        return Ok(());
    }
    let text = std::str::from_utf8(body).map_err(|error| NotWhole::Cut(error.to_string()))?;
    let document = roxmltree::Document::parse(text).map_err(|error| NotWhole::Cut(error.to_string()))?;
    for list in document.descendants() {
        let Some((_, fields)) = REQUIRED.iter().find(|(name, _)| *name == list.tag_name().name()) else {
            continue;
        };
        for entry in list.children().filter(|entry| entry.tag_name().name() == "member") {
            let has = |field: &str| entry.children().any(|child| child.tag_name().name() == field);
            if let Some(field) = fields.iter().find(|field| !has(field)) {
                return Err(NotWhole::Lacks(field));
            }
        }
    }
    Ok(())
}

/// The error for an answer without a field that matters.
pub fn missing(doing: impl Into<String>, field: &str) -> CloudError {
    CloudError::Incomplete { doing: doing.into(), field: field.to_owned() }
}

/// Pages that are read one after the other.
#[derive(Debug, Default)]
pub struct Pages {
    token: Option<String>,
    more: bool,
}

impl Pages {
    /// Takes note of a page's token for the next one.
    pub fn read(&mut self, token: Option<&str>) {
        let token = token.filter(|token| !token.is_empty());
        self.more = token.is_some();
        self.token = token.map(str::to_owned);
    }

    /// The token for the next page; `None` after the last one.
    ///
    /// # Errors
    /// When it is the one of the page before: the service would go round in circles.
    pub fn next(&mut self, token: Option<&str>, doing: &str) -> Result<Option<String>, CloudError> {
        let token = token.filter(|token| !token.is_empty());
        if token.is_some() && token == self.token.as_deref() {
            return Err(missing(doing, "NextToken of another page"));
        }
        self.read(token);
        Ok(self.token.clone())
    }

    /// Checks that the page read last was the last there is.
    ///
    /// # Errors
    /// When it was not: the SDK stops where a page has the token of the one before.
    pub fn finish(self, doing: impl Into<String>) -> Result<(), CloudError> {
        if self.more { Err(missing(doing, "NextToken of another page")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_ends_anywhere_is_not_whole() {
        let answer = "<DescribeStacksResponse><DescribeStacksResult><Stacks><member>                      <StackName>a</StackName><StackStatus>b</StackStatus></member></Stacks></DescribeStacksResult></DescribeStacksResponse>";
        assert!(whole(answer.as_bytes()).is_ok());
        for end in 1..answer.len() {
            assert!(whole(&answer.as_bytes()[..end]).is_err(), "{}", &answer[..end]);
        }
        for other in ["", "{}", "<html><br></html>", "<!DOCTYPE html><p>"] {
            assert!(whole(other.as_bytes()).is_ok(), "the SDK refuses `{other}` itself");
        }
    }

    #[test]
    fn a_field_that_the_sdk_would_make_up_is_missed() {
        let group = "<R><AutoScalingGroups><member><AutoScalingGroupName>a</AutoScalingGroupName><MinSize>1</MinSize>\
                     <MaxSize>3</MaxSize><DesiredCapacity>2</DesiredCapacity></member></AutoScalingGroups></R>";
        assert!(whole(group.as_bytes()).is_ok());
        for field in ["<MinSize>1</MinSize>", "<DesiredCapacity>2</DesiredCapacity>"] {
            let lacks = whole(group.replace(field, "").as_bytes());
            assert!(matches!(lacks, Err(NotWhole::Lacks("MinSize" | "DesiredCapacity"))), "{lacks:?}");
        }
    }

    #[test]
    fn pages_that_repeat_are_not_the_end() {
        let mut pages = Pages::default();
        pages.read(Some("a"));
        assert!(pages.finish("listing").is_err());
        let mut pages = Pages::default();
        pages.read(Some("a"));
        pages.read(Some(""));
        assert!(pages.finish("listing").is_ok());
        let mut pages = Pages::default();
        assert_eq!(pages.next(Some("a"), "listing"), Ok(Some("a".to_owned())));
        assert!(pages.next(Some("a"), "listing").is_err());
        assert_eq!(Pages::default().next(Some(""), "listing"), Ok(None));
    }
}
