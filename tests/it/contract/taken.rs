//! What exists already and is taken over: resources into a stack, stacks into the repository.

use aws_sdk_cloudformation::types::{Parameter, Tag};

use super::{Lab, scenario};
use crate::stacks::has;

const ENTRY: &str = "\
Parameters:
  Value: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    DeletionPolicy: Delete
    Properties: {Name: /<{ project }>/entry, Type: String, Value: !Ref Value}
<% if more %>
  More:
    Type: AWS::SSM::Parameter
    DeletionPolicy: Delete
    Properties: {Name: /<{ project }>/more, Type: String, Value: more}
<% endif %>
Outputs:
  Name: {Value: !Ref Entry}
";

fn stack(more: bool) -> String {
    format!("data:\n  template: data.yaml\n  values: {{more: {more}}}\n  parameters: {{Value: by hand}}\n")
}

#[test]
fn a_resource_that_exists_becomes_part_of_a_new_stack_and_then_of_one_that_is_there() {
    scenario(|lab| {
        lab.template("data", ENTRY);
        lab.stacks(&stack(false));
        lab.put_parameter("entry", "by hand");
        let entry = format!("Entry=/{}/entry", lab.project);
        let said = lab.ends(&["import", "data", &entry, "-y"], 0);
        has(
            &said,
            &["data does not exist yet", "+ Entry   AWS::SSM::Parameter   Name /", "1 resource imported"],
        );
        // An import may set no tags, so it is followed by a change of nothing else.
        assert_eq!(lab.status("data"), "UPDATE_COMPLETE");
        lab.ends(&["apply", "-y"], 0);
        has(&lab.ends(&["plan"], 0), &["no change"]);

        lab.put_parameter("more", "more");
        lab.stacks(&stack(true));
        let more = format!("More=/{}/more", lab.project);
        let said = lab.ends(&["import", "data", &more, "-y"], 0);
        has(&said, &["data takes over 1 resource; nothing else", "imported"]);
        assert_eq!(lab.resources("data").into_keys().collect::<Vec<_>>(), ["Entry", "More"]);
        has(&lab.ends(&["plan"], 0), &["no change"]);
        lab.ends(&["destroy", "-y"], 0);
        assert_eq!((lab.parameter("entry"), lab.parameter("more")), (None, None));
    });
}

#[test]
fn what_can_not_be_imported_is_refused_and_nothing_is_left_behind() {
    scenario(|lab| {
        lab.template("data", ENTRY);
        lab.stacks(&stack(false));
        has(
            &lab.ends(&["import", "data", "Entri=/x", "-y"], 2),
            &["no such resource", "did you mean `Entry`?"],
        );
        has(
            &lab.ends(&["import", "data", "Entry.Arn=/x", "-y"], 2),
            &["no part of what identifies", "Entry=ID"],
        );
        has(&lab.ends(&["import", "data", "Entry", "-y"], 2), &["write RESOURCE=ID"]);
        has(&lab.ends(&["import", "data", "Entry=/x"], 2), &["there is no terminal to ask on"]);
        let absent = format!("Entry=/{}/absent", lab.project);
        has(&lab.ends(&["import", "data", &absent, "-y"], 1), &["templates/cloudformation/data.yaml"]);
        assert!(lab.stack("data").is_none(), "no stack in review is left");
        lab.edit("templates/cloudformation/data.yaml", "    DeletionPolicy: Delete\n", "");
        has(&lab.ends(&["import", "data", "Entry=/x", "-y"], 2), &["give it `DeletionPolicy: Retain`"]);

        // One that exists is named by the cloud before it begins, and the way out with it.
        lab.put_parameter("entry", "by hand");
        let said = lab.ends(&["apply", "-y"], 1);
        has(
            &said,
            &[
                "Entry: ",
                "already exists",
                "at: templates/cloudformation/data.yaml:4",
                "`fleetwright import data",
            ],
        );
    });
}

/// Makes a stack as another tool would.
fn legacy(lab: &Lab) -> String {
    let name = format!("{}-Legacy", lab.project);
    let template = format!(
        "# Kept by hand.\nParameters:\n  Value: {{Type: String}}\n  Size: {{Type: Number, Default: 3}}\n\
         Resources:\n  Entry:\n    Type: AWS::SSM::Parameter\n    Properties:\n      Name: /{}/entry\n      \
         Type: String\n      Value: !Sub '<{{ ${{Value}} ${{Size}} }}>'\n",
        lab.project
    );
    let parameter = Parameter::builder().parameter_key("Value").parameter_value("a ${b}").build();
    let made = lab
        .cloudformation()
        .create_stack()
        .stack_name(&name)
        .template_body(template)
        .parameters(parameter)
        .tags(Tag::builder().key("team").value("data").build())
        .enable_termination_protection(true);
    lab.wait(made.send()).expect("a stack");
    let done = || {
        let found = lab.wait(lab.cloudformation().describe_stacks().stack_name(&name).send()).ok()?;
        let status = found.stacks()[0].stack_status()?.as_str().to_owned();
        (status == "CREATE_COMPLETE").then_some(())
    };
    lab.until("it is made", done);
    name
}

#[test]
fn a_stack_that_another_tool_made_is_taken_over_as_it_is() {
    scenario(|lab| {
        lab.template("data", ENTRY);
        lab.stacks("{}\n");
        let name = legacy(lab);
        has(&lab.ends(&["adopt", "nothing"], 2), &["CloudFormation has no stack `nothing`"]);
        let printed = lab.ends(&["adopt", &name, "--as", "legacy", "--dry-run"], 0);
        has(&printed, &["--- stacks/legacy.yaml", "<% raw -%>\n# Kept by hand."]);
        assert!(!lab.path("stacks/legacy.yaml").exists());

        let said = lab.ends(&["adopt", &name, "--as", "legacy"], 0);
        has(&said, &["wrote stacks/legacy.yaml", "tag fleetwright:stack", "commit the files"]);
        let file = std::fs::read_to_string(lab.path("stacks/legacy.yaml")).expect("it was written");
        has(&file, &[&format!("    test: {name}\n"), "Value: \"a $${b}\"", "team: data", "protect: true"]);
        assert!(!file.contains("Size"), "a default need not be given: {file}");

        let plan = lab.plan_json(3);
        assert_eq!(plan["stacks"][0]["reasons"], serde_json::json!(["tags"]));
        lab.ends(&["apply", "-y"], 0);
        has(&lab.ends(&["plan"], 0), &["no change"]);
        assert_eq!(lab.parameter("entry").as_deref(), Some("<{ a ${b} 3 }>"));
        has(
            &lab.ends(&["adopt", &name, "--as", "again"], 2),
            &["is the repository's stack `legacy` already"],
        );

        lab.edit("stacks/legacy.yaml", "protect: true", "protect: false");
        lab.ends(&["apply", "-y"], 0);
        lab.ends(&["destroy", "-y"], 0);
        assert_eq!(lab.parameter("entry"), None);
    });
}
