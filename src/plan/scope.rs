//! Which runs may have which secrets, as an environment says it. Pure.

use super::conditions::fits;
use crate::model::git_ref::{GitRef, RefKind};
use crate::model::name::PipelineName;
use crate::model::pipeline::fits_parameter;
use crate::model::project::{Environment, SecretScope};
use crate::model::run::{Run, RunConfig};

/// Why a run can't begin: a secret that a step of it names is not for this pipeline, branch or tag. `None` when it may have all
/// of them, or its environment says nothing.
pub fn refusal(environment: &Environment, run: &Run, config: &RunConfig) -> Option<String> {
    let scopes = environment.pipeline_secrets.as_deref()?;
    let is_given = |parameter: &str| {
        scopes.iter().any(|scope| gives(scope, &run.pipeline, run.reference.as_ref(), parameter))
    };
    let (step, _, parameter) = config.secrets().find(|(_, _, parameter)| !is_given(parameter))?;
    let of = match &run.reference {
        Some(reference) => reference.to_string(),
        None => "a commit of no known branch".to_owned(),
    };
    Some(format!(
        "the secret `{parameter}` of `{}` is not available to pipeline `{}` for {of}; see `pipeline_secrets` of environment \
         `{}` in fleetwright.yaml",
        step.name(),
        run.pipeline,
        environment.name,
    ))
}

fn gives(scope: &SecretScope, pipeline: &PipelineName, reference: Option<&GitRef>, parameter: &str) -> bool {
    let is_named = fits_parameter(&scope.parameter, parameter);
    let is_pipeline = scope.pipelines.is_empty() || scope.pipelines.contains(pipeline);
    let is_free = scope.branches.is_empty() && scope.tags.is_empty();
    let is_of = match reference.map(GitRef::kind) {
        _ if is_free => true,
        Some(RefKind::Branch(branch)) => fits(&scope.branches, branch),
        Some(RefKind::Tag(tag)) => fits(&scope.tags, tag),
        Some(RefKind::PullRequest(_)) | None => false,
    };
    is_named && is_pipeline && is_of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(parameter: &str, pipelines: &[&str], branches: &[&str], tags: &[&str]) -> SecretScope {
        let texts = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
        SecretScope {
            parameter: parameter.to_owned(),
            pipelines: pipelines.iter().map(|name| name.parse().expect("a name")).collect(),
            branches: texts(branches),
            tags: texts(tags),
        }
    }

    #[test]
    fn a_secret_is_for_a_pipeline_and_a_branch_or_tag() {
        let main = Some("refs/heads/main");
        let cases = [
            (scope("/a", &[], &[], &[]), main, true),
            (scope("/a", &[], &[], &[]), None, true),
            (scope("/b", &[], &[], &[]), main, false),
            (scope("/*", &[], &[], &[]), main, true),
            (scope("/a*", &["web"], &["main"], &[]), main, true),
            (scope("/a", &["other"], &[], &[]), main, false),
            (scope("/a", &[], &["main"], &[]), None, false),
            (scope("/a", &[], &["release/*"], &[]), main, false),
            (scope("/a", &[], &["release/*"], &[]), Some("refs/heads/release/1"), true),
            (scope("/a", &[], &["*", "!main"], &[]), main, false),
            (scope("/a", &[], &["main"], &["v*"]), Some("refs/tags/v1"), true),
            (scope("/a", &[], &["main"], &[]), Some("refs/tags/main"), false),
            (scope("/a", &[], &[], &["v*"]), main, false),
            (scope("/a", &[], &["**"], &["**"]), Some("refs/pull/7/head"), false),
        ];
        for (scope, reference, expected) in cases {
            let found: Option<GitRef> =
                reference.map(|text| text.to_owned().try_into().expect("a reference"));
            let pipeline = "web".parse().expect("a name");
            let given = gives(&scope, &pipeline, found.as_ref(), "/a");
            assert_eq!(given, expected, "{scope:?} {reference:?}");
        }
    }
}
