//! Which pipelines a reference sets off, and which steps are part of a run. Pure.

use super::ignore_pattern::Pattern;
use crate::model::git_ref::{GitRef, RefKind};
use crate::model::infra_step::InfraWork;
use crate::model::pipeline::{Action, Step, Triggers, When};
use crate::model::run::Trigger;

/// What starts a run of a pipeline when `reference` moves; `None` when nothing does.
pub fn set_off(triggers: &Triggers, watched: &GitRef, reference: &GitRef) -> Option<Trigger> {
    match reference.kind() {
        RefKind::Branch(branch) => {
            let is_meant = match &triggers.branches {
                None => reference == watched,
                Some(patterns) => fits(patterns, branch),
            };
            is_meant.then_some(Trigger::Poll)
        }
        RefKind::Tag(tag) => fits(&triggers.tags, tag).then_some(Trigger::Tag),
        RefKind::PullRequest(_) => triggers.pull_requests.then_some(Trigger::PullRequest),
    }
}

/// Whether a name fits patterns: the last that fits decides, `!` against it. `*` stays within a part between slashes.
pub(super) fn fits(patterns: &[String], name: &str) -> bool {
    let fitting = patterns.iter().rev().find(|pattern| {
        let bare = pattern.strip_prefix('!').unwrap_or(pattern);
        Pattern::new(bare.as_bytes()).is_ok_and(|pattern| pattern.matches(name.as_bytes()))
    });
    fitting.is_some_and(|pattern| !pattern.starts_with('!'))
}

/// What is known of a run before it begins.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a> {
    /// What has started it.
    pub trigger: Trigger,
    /// The branch, tag or pull request that its commit is of, where that is known.
    pub reference: Option<&'a GitRef>,
}

impl Begun<'_> {
    /// Whether the commit may be anybody's, as those of pull requests are. One that is the head of a branch was pushed by
    /// somebody who may.
    pub fn is_of_strangers(&self) -> bool {
        self.trigger != Trigger::OwnPullRequest && self.is_of_pull_request()
    }

    fn is_of_pull_request(&self) -> bool {
        self.trigger.is_pull_request()
            || self.reference.is_some_and(|reference| matches!(reference.kind(), RefKind::PullRequest(_)))
    }

    /// Why a step is left out of the run; `None` when it is part of it.
    pub fn left_out(&self, step: &Step) -> Option<String> {
        self.unfit(&step.when).or_else(|| self.withheld(&step.action))
    }

    fn unfit(&self, when: &When) -> Option<String> {
        // The word for pull requests is for those of branches as well.
        let own = self.trigger == Trigger::OwnPullRequest && when.triggers.contains(&Trigger::PullRequest);
        if !when.triggers.is_empty() && !when.triggers.contains(&self.trigger) && !own {
            return Some(format!("it is not for runs that are started {}", self.trigger.words()));
        }
        if when.branches.is_empty() && when.tags.is_empty() {
            return None;
        }
        let fits = match self.reference.map(GitRef::kind) {
            Some(RefKind::Branch(branch)) => fits(&when.branches, branch),
            Some(RefKind::Tag(tag)) => fits(&when.tags, tag),
            Some(RefKind::PullRequest(_)) | None => false,
        };
        let is = match self.reference {
            Some(reference) => reference.to_string(),
            None => "a commit of no known branch".to_owned(),
        };
        let wanted: Vec<&str> = when.branches.iter().chain(&when.tags).map(String::as_str).collect();
        (!fits).then(|| format!("it is for `{}`, and this is {is}", wanted.join("`, `")))
    }

    /// What a commit that nobody has merged must not do, and what one of a stranger must not.
    fn withheld(&self, action: &Action) -> Option<String> {
        if !self.is_of_pull_request() {
            return None;
        }
        let is_of_strangers = self.is_of_strangers();
        match action {
            Action::Rollout(_) => Some("a pull request rolls nothing out".to_owned()),
            Action::Approve(_) => Some("there is nothing to approve in a pull request".to_owned()),
            Action::Job(_) => Some("a pull request runs no job".to_owned()),
            Action::Infra(spec) => match &spec.work {
                InfraWork::Plan { .. } if is_of_strangers => Some(
                    "a pull request whose commit is the head of no branch here is not planned".to_owned(),
                ),
                InfraWork::Plan { .. } => None,
                InfraWork::Apply { .. } => Some("a pull request applies nothing".to_owned()),
                InfraWork::Deploy { .. } => Some("a pull request deploys nothing".to_owned()),
                InfraWork::Drift { .. } => Some("a pull request looks for no drift".to_owned()),
            },
            Action::Build(_) | Action::Run(_) if !is_of_strangers => None,
            Action::Build(build) if !build.secrets.is_empty() => {
                Some("a pull request gets no secrets, which this build needs".to_owned())
            }
            Action::Run(script) if !script.secrets.is_empty() => {
                Some("a pull request gets no secrets, which this step needs".to_owned())
            }
            Action::Build(_) | Action::Run(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pipeline::Rollout;
    use crate::model::setting::Place;
    use crate::source::{SourceFile, Span};

    fn reference(name: &str) -> GitRef {
        name.to_owned().try_into().expect("a reference")
    }

    fn patterns(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn branches_tags_and_pull_requests_set_off_what_names_them() {
        let watched = reference("refs/heads/main");
        let by = |triggers: &Triggers, name: &str| set_off(triggers, &watched, &reference(name));
        let usual = Triggers::default();
        assert_eq!(by(&usual, "refs/heads/main"), Some(Trigger::Poll));
        assert_eq!(by(&usual, "refs/heads/other"), None);
        assert_eq!((by(&usual, "refs/tags/v1"), by(&usual, "refs/pull/1/head")), (None, None));
        let all = Triggers {
            branches: Some(patterns(&["**", "!wip/*"])),
            tags: patterns(&["v*"]),
            pull_requests: true,
            ..Triggers::default()
        };
        assert_eq!(by(&all, "refs/heads/feature/a/b"), Some(Trigger::Poll));
        assert_eq!(by(&all, "refs/heads/wip/x"), None);
        assert_eq!(by(&all, "refs/tags/v1.2"), Some(Trigger::Tag));
        assert_eq!(by(&all, "refs/tags/nightly"), None);
        assert_eq!(by(&all, "refs/pull/7/head"), Some(Trigger::PullRequest));
        let tags = Triggers { branches: Some(Vec::new()), tags: patterns(&["*"]), ..Triggers::default() };
        assert_eq!(by(&tags, "refs/heads/main"), None);
        assert_eq!(by(&tags, "refs/tags/a/b"), None, "`*` stays within a part");
    }

    #[test]
    fn steps_are_left_out_with_a_reason_and_strangers_deploy_nothing() {
        let place = Place::new(&SourceFile::new("x", ""), Span::new(0, 0));
        let service = "web".parse().expect("a name");
        let mut step = Step {
            action: Action::Rollout(Rollout { services: vec![service] }),
            needs: Vec::new(),
            timeout: None,
            when: When::default(),
            place,
        };
        let (main, request) = (reference("refs/heads/main"), reference("refs/pull/7/head"));
        let why = |step: &Step, trigger, reference| Begun { trigger, reference }.left_out(step);
        assert_eq!(why(&step, Trigger::Poll, Some(&main)), None);
        let strangers = "a pull request rolls nothing out";
        assert_eq!(why(&step, Trigger::PullRequest, Some(&request)).as_deref(), Some(strangers));
        assert_eq!(
            why(&step, Trigger::Hand, Some(&request)).as_deref(),
            Some(strangers),
            "tried again by hand"
        );
        step.when.branches = patterns(&["main"]);
        assert_eq!(why(&step, Trigger::Hand, Some(&main)), None);
        let other = reference("refs/heads/x");
        let why_not = why(&step, Trigger::Poll, Some(&other));
        assert_eq!(why_not.as_deref(), Some("it is for `main`, and this is x"));
        assert!(
            why(&step, Trigger::Hand, None).is_some_and(|why| why.ends_with("a commit of no known branch"))
        );
        step.when = When { triggers: vec![Trigger::Schedule], ..When::default() };
        assert_eq!(why(&step, Trigger::Schedule, Some(&main)), None);
        assert_eq!(
            why(&step, Trigger::Poll, Some(&main)).as_deref(),
            Some("it is not for runs that are started by a change")
        );
    }
}
