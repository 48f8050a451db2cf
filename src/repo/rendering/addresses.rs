//! The addresses of a cluster's overlay networks, compared with those of the VPCs that its stacks make.

use ipnet::Ipv4Net;

use super::Renderer;
use crate::model::address::{DOCKER_BRIDGES, overlap, range};
use crate::model::project::{Cluster, Environment};
use crate::model::stack::RenderedStack;
use crate::repo::cloudformation::Body;
use crate::repo::cloudformation::ranges::Block;
use crate::source::Diagnostic;

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
        stacks: &[(RenderedStack, &Body)],
        problems: &mut Vec<Diagnostic>,
    ) {
        let Some(cluster) = self.repository.cluster(&environment.cluster) else { return };
        let taken: Vec<Taken<'_>> = stacks.iter().flat_map(|(stack, body)| taken(stack, body)).collect();
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
    fn check_passed_on(
        &self,
        cluster: &Cluster,
        stacks: &[(RenderedStack, &Body)],
        problems: &mut Vec<Diagnostic>,
    ) {
        let place = &cluster.addresses.place;
        let is_set = *place != cluster.place;
        let boots = stacks
            .iter()
            .any(|(stack, _)| stack.user_data.iter().any(|data| data.text.contains("agent.yaml")));
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
fn taken<'s>(stack: &'s RenderedStack, body: &Body) -> Vec<Taken<'s>> {
    let taken = body.ranges.iter().filter_map(|taken| {
        let text = match &taken.block {
            Block::Written(text) => text.clone(),
            Block::Parameter { name, default } => {
                let given = stack.parameters.iter().find(|(parameter, _)| parameter == name);
                given.map_or_else(|| default.clone(), |(_, value)| value.literal())?
            }
        };
        // The check of templates reports what is no range.
        Some(Taken { range: range(&text).ok()?, stack, resource: taken.resource.clone() })
    });
    taken.collect()
}
