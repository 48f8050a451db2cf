//! `render`: what CloudFormation and machines get.

use crate::support::{fleetwright, fleetwright_with};
use crate::validate::repository;

#[test]
fn stacks_are_printed_in_the_order_of_their_dependency() {
    let folder = repository("base");
    insta::assert_snapshot!(fleetwright(folder.path(), &["render"]));
}

#[test]
fn one_stack_is_printed_as_it_is_sent() {
    let folder = repository("base");
    insta::assert_snapshot!(fleetwright(folder.path(), &["render", "network"]), @r"
    Resources:
      Vpc:
        Type: AWS::EC2::VPC
        Properties:
          CidrBlock: 10.0.0.0/16
    Outputs:
      VpcId:
        Value: !Ref Vpc
      PrivateSubnets:
        Value: none
    status 0
    ");
}

#[test]
fn user_data_is_printed_decoded() {
    let folder = repository("base");
    insta::assert_snapshot!(fleetwright(folder.path(), &["render", "--user-data", "workers"]), @r"
    #cloud-config
    hostname: shop-workers

    status 0
    ");
    insta::assert_snapshot!(fleetwright(folder.path(), &["render", "--user-data", "network"]), @r"
    error: none of these stacks has machines with user data
     next: name a stack whose template uses `user_data(file=...)`
    status 2
    ");
}

#[test]
fn user_data_is_put_together_from_parts() {
    let folder = repository("parts");
    insta::assert_snapshot!(fleetwright(folder.path(), &["render", "--user-data", "workers"]), @r#"
    #cloud-config
    hostname: shop-workers
    write_files:
      - path: /etc/role
        content: worker
      - path: /etc/stack
        content: workers
        permissions: "0600"
    runcmd:
      - [echo, base]
      - [systemctl, start, --no-block, docker.service]
    status 0
    "#);
}

#[test]
fn an_unknown_stack_or_environment_is_refused_with_a_suggestion() {
    let folder = repository("base");
    insta::assert_snapshot!(fleetwright(folder.path(), &["render", "wrokers"]), @r"
    error: there is no stack `wrokers`
     next: did you mean `workers`?
    status 2
    ");
    insta::assert_snapshot!(fleetwright(folder.path(), &["render", "-e", "prod"]), @r"
    error: there is no environment `prod`
     next: fleetwright.yaml has `production`
    status 2
    ");
}

#[test]
fn json_holds_all_there_is_to_know_of_a_stack() {
    let folder = repository("base");
    insta::assert_snapshot!(fleetwright(folder.path(), &["render", "workers", "-o", "json"]));
}

#[test]
fn a_variable_that_is_not_set_shows_as_such() {
    let folder = repository("base");
    let stacks = folder.path().join("stacks/cluster.yaml");
    let text = std::fs::read_to_string(&stacks).expect("the stacks");
    let image = text.lines().find(|line| line.contains("ImageId: ")).expect("an image").to_owned();
    let (key, _) = image.split_once(": ").expect("a value");
    std::fs::write(&stacks, text.replace(&image, &format!("{key}: ${{env.FLEETWRIGHT_MACHINE_IMAGE}}")))
        .expect("written");
    let root = folder.path();
    let unset = fleetwright(root, &["render", "-o", "json", "workers"]);
    assert!(unset.stdout.contains("<unset FLEETWRIGHT_MACHINE_IMAGE>"), "{unset}");
    let set = fleetwright_with(
        root,
        &["render", "-o", "json", "workers"],
        &[("FLEETWRIGHT_MACHINE_IMAGE", "ami-0123456789abcdef0")],
    );
    assert!(set.stdout.contains("ami-0123456789abcdef0"), "{set}");
}

#[test]
fn a_broken_repository_is_not_rendered() {
    let folder = repository("bad-duration");
    let run = fleetwright(folder.path(), &["render"]);
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.ends_with("1 error in 8 files. Nothing was changed.\n"), "{run}");
}
