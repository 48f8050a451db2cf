//! The addresses of overlay networks: set, passed on to the machines, compared with those of VPCs.

use std::path::Path;

use crate::support::{fleetwright, fleetwright_with};
use crate::validate::repository;

/// The base repository with the addresses of its cluster and its VPC.
fn given(addresses: &str, vpc: &str) -> tempfile::TempDir {
    let folder = repository("base");
    edit(
        folder.path(),
        "fleetwright.yaml",
        "    engine: swarm\n",
        &format!("    engine: swarm\n{addresses}"),
    );
    edit(folder.path(), "stacks/cluster.yaml", "cidr: 10.0.0.0/16", &format!("cidr: {vpc}"));
    folder
}

fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).expect("the base has it");
    assert!(text.contains(from), "{file} has no `{from}`");
    std::fs::write(path, text.replace(from, to)).expect("written");
}

#[test]
fn a_vpc_within_the_pool_is_refused_at_the_place_of_the_pool() {
    for (addresses, vpc, place) in [
        ("", "10.203.0.0/16", "fleetwright.yaml:10:3"),
        ("    addresses: {pool: 10.0.0.0/12}\n", "10.0.0.0/16", "fleetwright.yaml:12:23"),
        ("    addresses:\n      pool: 192.168.0.0/16\n", "192.168.4.0/22", "fleetwright.yaml:13:13"),
        ("    addresses: {subnet: 25}\n", "10.207.255.0/24", "fleetwright.yaml:12:16"),
    ] {
        let folder = given(addresses, vpc);
        for command in ["validate", "plan"] {
            let run = fleetwright(folder.path(), &[command]);
            assert_eq!(run.status, Some(2), "{command} {addresses} {vpc}: {run}");
            let expected = format!("overlap {vpc} of `Vpc`, an AWS::EC2::VPC in stack `network`");
            assert!(run.stderr.contains("error[address-overlap]"), "{run}");
            assert!(run.stderr.contains(&expected), "{expected}: {run}");
            assert!(run.stderr.contains(place), "{place}: {run}");
        }
    }
}

#[test]
fn ranges_apart_are_no_finding() {
    for (addresses, vpc) in [
        ("", "10.0.0.0/16"),
        ("", "10.199.0.0/16"),
        ("", "10.208.0.0/16"),
        ("    addresses: {pool: 192.168.0.0/16, subnet: 24}\n", "10.203.0.0/16"),
    ] {
        let run = fleetwright(given(addresses, vpc).path(), &["validate"]);
        assert_eq!(run.status, Some(0), "{addresses} {vpc}: {run}");
        assert!(!run.stderr.contains("warning"), "{addresses} {vpc}: {run}");
    }
}

#[test]
fn ranges_of_parameters_and_further_ranges_count() {
    let folder = given("", "10.0.0.0/16");
    let template = "Parameters:\n  Range: {Type: String}\n  Other: {Type: String, Default: 10.201.0.0/24}\n\
        Resources:\n  Vpc:\n    Type: AWS::EC2::VPC\n    Properties: {CidrBlock: <{ cidr }>}\n\
        \x20 More:\n    Type: AWS::EC2::VPCCidrBlock\n    Properties: {VpcId: !Ref Vpc, CidrBlock: !Ref Range}\n\
        \x20 Part:\n    Type: AWS::EC2::Subnet\n    Properties: {VpcId: !Ref Vpc, CidrBlock: !Ref Other}\n\
        Outputs:\n  VpcId: {Value: !Ref Vpc}\n  PrivateSubnets: {Value: none}\n";
    std::fs::write(folder.path().join("templates/cloudformation/network.yaml"), template).expect("written");
    let stacks = "    cidr: 10.0.0.0/16\n  parameters: {Range: 10.202.0.0/16}\n";
    edit(folder.path(), "stacks/cluster.yaml", "    cidr: 10.0.0.0/16\n", stacks);
    let run = fleetwright(folder.path(), &["validate"]);
    assert_eq!(run.status, Some(2), "{run}");
    for expected in
        ["10.202.0.0/16 of `More`, an AWS::EC2::VPCCidrBlock", "10.201.0.0/24 of `Part`, an AWS::EC2::Subnet"]
    {
        assert!(run.stderr.contains(expected), "{expected}: {run}");
    }
}

#[test]
fn docker_s_own_bridges_are_a_warning() {
    for (vpc, bridge) in [("172.17.0.0/16", "docker0"), ("172.18.4.0/22", "docker_gwbridge")] {
        let run = fleetwright(given("", vpc).path(), &["validate"]);
        assert_eq!(run.status, Some(0), "{run}");
        assert!(run.stderr.contains("warning[address-overlap]") && run.stderr.contains(bridge), "{run}");
    }
}

#[test]
fn a_pool_that_can_t_be_used_is_refused_where_it_stands() {
    for (addresses, expected) in [
        ("{pool: 10.200.0.0/22}", "has room for 4 networks of /24"),
        ("{pool: 10.200.0.1/13}", "write `10.200.0.0/13`"),
        ("{pool: 8.8.0.0/16}", "is not private"),
        ("{pool: 172.16.0.0/12}", "`docker0`"),
        ("{pool: ten}", "`ten` is not a range"),
        ("{subnet: 30}", "from 16 to 26"),
        ("{pol: 10.200.0.0/13}", "did you mean `pool`?"),
    ] {
        let folder = given(&format!("    addresses: {addresses}\n"), "10.0.0.0/16");
        let run = fleetwright(folder.path(), &["validate"]);
        assert_eq!(run.status, Some(2), "{addresses}: {run}");
        assert!(
            run.stderr.contains(expected) && run.stderr.contains("fleetwright.yaml:12:"),
            "{addresses}: {run}"
        );
    }
}

#[test]
fn the_pool_reaches_the_founder_and_a_pool_that_reaches_nobody_is_a_warning() {
    let folder = given("    addresses: {pool: 192.168.0.0/16, subnet: 25}\n", "10.0.0.0/16");
    let base = "write_files:\n  - path: /etc/fleetwright/agent.yaml\n    content: |\n      project: shop\n";
    std::fs::write(folder.path().join("templates/cloud-config/base.yaml"), base).expect("written");
    let run = fleetwright(folder.path(), &["validate"]);
    assert!(run.stderr.contains("warning[unused-setting]") && run.status == Some(0), "{run}");
    let passed = format!(
        "{base}      addresses: {{pool: <{{ addresses.pool }}>, subnet: <{{ addresses.subnet }}>}}\n"
    );
    std::fs::write(folder.path().join("templates/cloud-config/base.yaml"), passed).expect("written");
    let run = fleetwright_with(folder.path(), &["render", "workers", "--user-data"], &[]);
    assert!(run.stdout.contains("addresses: {pool: 192.168.0.0/16, subnet: 25}"), "{run}");
    let run = fleetwright(folder.path(), &["validate"]);
    assert!(!run.stderr.contains("warning"), "{run}");
}
