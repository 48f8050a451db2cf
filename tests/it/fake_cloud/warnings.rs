//! What a plan warns of: each would fail, or lose something, only once it is applied.

use super::{Lab, has};

const EXPORTING: &str = "Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: jobs
  Topic:
    Type: AWS::SNS::Topic
    Properties:
      DisplayName: first
Outputs:
  Queue:
    Value: !Ref Queue
    Export:
      Name: shop-queue
";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("templates/cloudformation/db.yaml", EXPORTING);
    lab.ends(&["apply", "-y"], 0);
    for stack in ["web", "worker"] {
        lab.aws.world().imports.push(("shop-queue".to_owned(), stack.to_owned()));
    }
    lab
}

#[test]
fn an_export_that_is_imported_is_not_changed_without_a_word() {
    let lab = lab();
    lab.edit("DisplayName: first", "DisplayName: second");
    let text = lab.ends(&["plan"], 3);
    assert!(!text.contains("Export"), "it stays as it is:\n{text}");
    assert_eq!(lab.aws.calls("ListImports"), 0, "nobody is asked");
    lab.edit("    Export:\n      Name: shop-queue\n", "");
    let text = lab.ends(&["plan"], 3);
    has(&text, &["Export `shop-queue` (output Queue) goes", "`web` and `worker` import it"]);
    lab.edit("    Value: !Ref Queue\n", "    Value: other\n    Export:\n      Name: shop-queue\n");
    has(&lab.ends(&["plan"], 3), &["Export `shop-queue` (output Queue) may get another value"]);
    has(&lab.ends(&["plan", "--markdown"], 3), &["may get another value"]);
    // Another name is as good as none.
    lab.edit("Name: shop-queue", "Name: shop-jobs");
    has(&lab.ends(&["plan"], 3), &["Export `shop-queue` (output Queue) goes"]);
}

#[test]
fn a_replacement_that_keeps_its_name_is_warned_of() {
    let lab = lab();
    let group = "  Group:\n    Type: AWS::EC2::SecurityGroup\n    Properties:\n      GroupName: web\n      \
                 GroupDescription: first\nOutputs:\n";
    lab.edit("Outputs:\n", group);
    lab.ends(&["apply", "-y"], 0);
    lab.edit("GroupDescription: first", "GroupDescription: second");
    has(&lab.ends(&["plan"], 3), &["Group is replaced and keeps its GroupName `web`", "Change GroupName"]);
    lab.edit("GroupName: web", "GroupName: web-2");
    let text = lab.ends(&["plan"], 3);
    assert!(!text.contains("keeps its GroupName"), "{text}");
}

#[test]
fn a_logical_id_that_changes_is_a_loss() {
    let lab = lab();
    lab.edit("  Topic:\n    Type", "  News:\n    Type");
    has(&lab.ends(&["plan"], 3), &["Topic goes and News comes", "Keep `Topic`", "stack refactor"]);
}

#[test]
fn a_stack_that_changes_its_name_is_offered_its_old_one() {
    let lab = lab();
    lab.write("stacks/all.yaml", "data:\n  template: db.yaml\n");
    has(&lab.ends(&["plan"], 3), &["shop-local-db holds the same resources", "`cloud_name` `shop-local-db`"]);
    lab.write("stacks/all.yaml", "data:\n  template: db.yaml\n  cloud_name:\n    local: shop-local-db\n");
    let text = lab.ends(&["plan"], 3);
    assert!(!text.contains("to create") && !text.contains("holds the same"), "{text}");
}

#[test]
fn an_update_that_reaches_no_resource_says_what_it_changes() {
    let lab = lab();
    lab.edit("Outputs:\n", "Outputs:\n  Topic:\n    Value: !Ref Topic\n");
    let text = lab.ends(&["plan"], 3);
    has(&text, &["update, 1 output and no resource", "+ output Topic"]);
    assert!(!text.contains("0 resources"), "{text}");
}

#[test]
fn a_number_that_becomes_a_text_looks_like_one() {
    let lab = lab();
    lab.edit("      QueueName: jobs\n", "      QueueName: jobs\n      DelaySeconds: 1\n");
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 1", "DelaySeconds: '1'");
    // CloudFormation finds nothing in it.
    has(&lab.ends(&["plan"], 0), &["no change"]);
}
