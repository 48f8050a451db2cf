//! The addresses of a cluster's overlay networks, compared with those of the VPCs that its stacks make.

use ipnet::Ipv4Net;
use serde_json::Value;

use super::Renderer;
use crate::model::address::{DOCKER_BRIDGES, overlap, range};
use crate::model::project::{Cluster, Environment};
use crate::model::stack::RenderedStack;
use crate::repo::document;
use crate::source::Diagnostic;

/// Types that take addresses of a VPC, and the properties that say which.
const TAKERS: [&str; 3] = ["AWS::EC2::VPC", "AWS::EC2::VPCCidrBlock", "AWS::EC2::Subnet"];

/// A range that a stack takes.
struct Taken<'s> {
    range: Ipv4Net,
    stack: &'s RenderedStack,
    /// The logical id and type of what takes it.
    resource: String,
}

impl Renderer<'_> {
    /// Finds VPCs that have addresses in common with the overlay networks, or with Docker's bridges.
    pub(super) fn check_addresses(
        &self,
        environment: &Environment,
        stacks: &[RenderedStack],
        problems: &mut Vec<Diagnostic>,
    ) {
        let Some(cluster) = self.repository.cluster(&environment.cluster) else { return };
        let taken: Vec<Taken<'_>> = stacks.iter().flat_map(taken).collect();
        let (pool, place) = (cluster.addresses.pool, &cluster.addresses.place);
        // A subnet lies within its VPC, which is reported for both.
        let is_inner = |one: &Taken<'_>| {
            one.resource.ends_with("Subnet")
                && taken
                    .iter()
                    .any(|other| !other.resource.ends_with("Subnet") && other.range.contains(&one.range))
        };
        for one in taken.iter().filter(|one| !is_inner(one)) {
            let what = format!("{} of {} in stack `{}`", one.range, one.resource, one.stack.name);
            if overlap(one.range, pool.pool()) {
                let message = format!("the overlay networks of cluster `{}` overlap {what}", cluster.name);
                let label = format!("the pool is {}", pool.pool());
                problems.push(
                    Diagnostic::error("address-overlap", message).at(&place.file, place.span, label).help(
                        "containers could not reach these machines: set `addresses.pool` of the cluster to a private range \
                         that neither the VPC nor a network connected to it uses",
                    ),
                );
            }
            for (name, bridge) in DOCKER_BRIDGES.iter().filter(|(_, bridge)| overlap(one.range, *bridge)) {
                let message = format!("Docker's bridge `{name}` ({bridge}) overlaps {what}");
                let place = &one.stack.place;
                problems.push(
                    Diagnostic::warning("address-overlap", message).at(&place.file, place.span, "").help(
                        "machines can't reach addresses that Docker has for itself: choose another range for the VPC, or set \
                         `bip` and `default-address-pools` in /etc/docker/daemon.json",
                    ),
                );
            }
        }
        self.check_passed_on(cluster, stacks, problems);
    }

    /// A pool that is set and reaches no machine has no effect.
    fn check_passed_on(&self, cluster: &Cluster, stacks: &[RenderedStack], problems: &mut Vec<Diagnostic>) {
        let place = &cluster.addresses.place;
        let is_set = *place != cluster.place;
        let boots =
            stacks.iter().any(|stack| stack.user_data.iter().any(|data| data.text.contains("agent.yaml")));
        let used =
            self.repository.templates.iter().any(|template| template.text().contains("addresses.pool"));
        if is_set && boots && !used {
            let message = format!("the addresses of cluster `{}` reach no machine", cluster.name);
            problems.push(
                Diagnostic::warning("unused-setting", message)
                    .at(&place.file, place.span, "no template uses `addresses.pool`")
                    .help("write `addresses: {pool: <{ addresses.pool }>, subnet: <{ addresses.subnet }>}` into agent.yaml of control machines"),
            );
        }
    }
}

/// What a stack takes, nested stacks included. Values that are known only after applying are left out.
fn taken(stack: &RenderedStack) -> Vec<Taken<'_>> {
    let nested = stack.nested.iter().map(|template| template.text.as_str());
    let mut found = Vec::new();
    for text in nested.chain([stack.template.as_str()]) {
        if !text.contains("CidrBlock") {
            continue;
        }
        let Some(tree) = document::read(text) else { continue };
        let Some(resources) = tree.get("Resources").and_then(Value::as_object) else { continue };
        for (name, resource) in resources {
            let kind = resource.get("Type").and_then(Value::as_str).unwrap_or_default();
            if !TAKERS.contains(&kind) {
                continue;
            }
            let value = resource.get("Properties").and_then(|properties| properties.get("CidrBlock"));
            let text = value.and_then(|value| known(stack, &tree, value));
            // What is no range is reported by the check of templates.
            if let Some(range) = text.and_then(|text| range(&text).ok()) {
                found.push(Taken { range, stack, resource: format!("`{name}`, an {kind}") });
            }
        }
    }
    found
}

/// A value that is written out, or that a parameter has.
fn known(stack: &RenderedStack, tree: &Value, value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let name = value.get("Ref")?.as_str()?;
    let given = stack.parameters.iter().find(|(parameter, _)| parameter == name).map(|(_, value)| value);
    match given {
        Some(given) => given.literal(),
        None => tree.get("Parameters")?.get(name)?.get("Default")?.as_str().map(str::to_owned),
    }
}
