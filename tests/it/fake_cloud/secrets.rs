//! Values of `NoEcho` parameters: kept, set, checked, and never shown.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{Lab, has};

const TEMPLATE: &str = "Parameters:
  Password: {Type: String, NoEcho: true, MinLength: 8, AllowedPattern: '[a-z0-9-]+'}
  Title: {Type: String, Default: first}
Resources:
  Topic:
    Type: AWS::SNS::Topic
    Properties:
      DisplayName: !Ref Title
  Holder:
    Type: AWS::SSM::Parameter
    Properties:
      Type: String
      Value: !Ref Password
";

const OLD: &str = "old-secret-4711";
const NEW: &str = "new-secret-0815";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("templates/cloudformation/db.yaml", TEMPLATE);
    lab.write(
        "stacks/all.yaml",
        "db:\n  template: db.yaml\n  parameters:\n    Password: ${env.DB_PASSWORD}\n",
    );
    lab
}

/// Runs a command with `stdin` and more variables; it must end with `status` and show no secret.
fn ends(lab: &Lab, arguments: &[&str], variables: &[(&str, &str)], stdin: &str, status: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetwright"));
    command.args(arguments).current_dir(lab.folder.path()).env_clear().envs(lab.environment());
    command.envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // It may end before it reads.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    let text = lab.finish(child, status);
    for secret in [OLD, NEW, "hunter2"] {
        assert!(!text.contains(secret), "`{secret}` is shown by `{}`:\n{text}", arguments.join(" "));
    }
    text
}

fn deployed(lab: &Lab) -> String {
    lab.aws.world().stack("shop-local-db").is.parameters["Password"].clone()
}

#[test]
fn a_new_stack_needs_its_secrets_and_one_that_exists_keeps_them() {
    let lab = lab();
    let missing = ends(&lab, &["apply", "-y"], &[], "", 2);
    has(
        &missing,
        &[
            "the environment variable `DB_PASSWORD` is not set",
            "stacks/all.yaml:4:15",
            "--set-secret db.Password",
        ],
    );
    let given = [("DB_PASSWORD", OLD)];
    has(&ends(&lab, &["apply", "-y"], &given, "", 0), &["✓ created"]);
    assert_eq!(deployed(&lab), OLD);

    // Without the variable: nothing to do, and it says what it did not compare.
    let plan = ends(&lab, &["plan"], &[], "", 0);
    has(
        &plan,
        &[
            "no change",
            "parameter Password   not compared (NoEcho)",
            "--set-secret db.Password",
            "1 value of NoEcho parameters was not compared",
        ],
    );
    let json = ends(&lab, &["plan", "-o", "json"], &[], "", 0);
    let plan: serde_json::Value = serde_json::from_str(&json).expect("one document");
    assert_eq!(
        plan["stacks"][0]["uncompared"],
        serde_json::json!([{"parameter": "Password", "apply": "keeps"}])
    );

    // Another change keeps the value.
    lab.edit("Default: first", "Default: second");
    let plan = ends(&lab, &["plan"], &[], "", 3);
    has(&plan, &["first -> second", "the stack keeps the value it has"]);
    has(&ends(&lab, &["apply", "-y"], &[], "", 0), &["✓ updated"]);
    assert_eq!(deployed(&lab), OLD);
    // And with the variable it sends what that holds.
    lab.edit("Default: second", "Default: third");
    let given = [("DB_PASSWORD", NEW)];
    has(&ends(&lab, &["plan"], &given, "", 3), &["the update sends the value that the repository has"]);
    ends(&lab, &["apply", "-y"], &given, "", 0);
    assert_eq!(deployed(&lab), NEW);
}

#[test]
fn a_secret_is_set_from_a_variable_a_file_or_stdin() {
    let lab = lab();
    let variable = ["apply", "-y", "--set-secret", "db.Password=env:ANY"];
    has(&ends(&lab, &variable, &[("ANY", OLD)], "", 0), &["✓ created"]);
    assert_eq!(deployed(&lab), OLD);

    lab.write("secret.txt", &format!("{NEW}\n"));
    let file = "db.Password=file:secret.txt";
    let plan = ends(&lab, &["plan", "--set-secret", file], &[], "", 3);
    has(&plan, &["parameter Password", "(hidden)", "Holder", "confirmed"]);
    ends(&lab, &["apply", "-y", "--set-secret", file], &[], "", 0);
    assert_eq!(deployed(&lab), NEW, "the line end is not part of it");

    ends(&lab, &["apply", "-y", "--set-secret", "db.Password=-"], &[], OLD, 0);
    assert_eq!(deployed(&lab), OLD);
    // The same again changes nothing.
    let same = ends(&lab, &["plan", "--set-secret", "db.Password=-"], &[], OLD, 0);
    has(&same, &["no change"]);
}

#[test]
fn a_saved_plan_holds_no_secret_and_asks_for_it_again() {
    let lab = lab();
    ends(&lab, &["apply", "-y"], &[("DB_PASSWORD", OLD)], "", 0);
    ends(&lab, &["plan", "--out", "plan.json", "--set-secret", "db.Password=-"], &[], NEW, 3);
    let saved = std::fs::read_to_string(lab.folder.path().join("plan.json")).expect("the plan");
    assert!(!saved.contains(NEW) && !saved.contains(OLD), "{saved}");
    let refused = ends(&lab, &["apply", "-y", "plan.json"], &[], "", 2);
    has(&refused, &["the plan sets the secret `db.Password`", "--set-secret db.Password"]);
    ends(&lab, &["apply", "-y", "plan.json", "--set-secret", "db.Password=-"], &[], NEW, 0);
    assert_eq!(deployed(&lab), NEW);
    ends(&lab, &["plan", "--out", "none.json"], &[], "", 0);
    let refused = ends(&lab, &["apply", "-y", "none.json", "--set-secret", "db.Password=-"], &[], OLD, 2);
    has(&refused, &["the plan does not set the secret `db.Password`"]);
}

#[test]
fn what_is_no_source_no_secret_or_not_accepted_is_refused_before_anything_is_asked() {
    let lab = lab();
    let cases: &[(&[&str], &str, &[&str])] = &[
        (&["--set-secret", "db.Password=hunter2"], "", &["does not name a source", "=env:NAME", "change it"]),
        (&["--set-secret", "db=env:A"], "", &["names no parameter of a stack"]),
        (
            &["--set-secret", "db.Password=env:NOT_SET"],
            "",
            &["the environment variable `NOT_SET` is not set"],
        ),
        (&["--set-secret", "db.Password=file:none.txt"], "", &["none.txt"]),
        (&["--set-secret", "db.Password"], "", &["there is no terminal", "=file:PATH"]),
        (&["--set-secret", "db.Password=-"], "", &["stdin holds nothing"]),
        (&["--set-secret", "db.Password=-"], "hunter2", &["is shorter than `MinLength`, 8"]),
        (&["--set-secret", "db.Password=-"], "HUNTER2 hunter2", &["does not match `AllowedPattern`"]),
        (&["--set-secret", "dbb.Password=-"], NEW, &["there is no stack `dbb`", "did you mean `db`?"]),
        (&["--set-secret", "db.Pasword=-"], NEW, &["has no parameter `Pasword`", "did you mean `Password`?"]),
        (&["--set-secret", "db.Title=-"], NEW, &["is not declared with `NoEcho: true`"]),
        (&["--set-secret", "db.Password=-", "--set-secret", "db.Password=env:A"], NEW, &["is given twice"]),
    ];
    for (arguments, stdin, wanted) in cases {
        for command in ["plan", "apply"] {
            has(&ends(&lab, &[&[command], *arguments].concat(), &[], stdin, 2), wanted);
        }
    }
    assert_eq!(lab.aws.calls("CreateChangeSet"), 0);
}

#[test]
fn an_adopted_stack_keeps_the_secret_that_nobody_tells() {
    let lab = lab();
    ends(&lab, &["apply", "-y"], &[("DB_PASSWORD", OLD)], "", 0);
    lab.write("stacks/all.yaml", "{}\n");
    std::fs::remove_file(lab.folder.path().join("templates/cloudformation/db.yaml")).expect("removed");
    let adopted = ends(&lab, &["adopt", "shop-local-db", "--as", "taken"], &[], "", 0);
    has(&adopted, &["the stack keeps those it has", "TAKEN_PASSWORD", "~ tag"]);
    has(&ends(&lab, &["apply", "-y"], &[], "", 0), &["✓ updated"]);
    assert_eq!(deployed(&lab), OLD);
    ends(&lab, &["apply", "-y", "--set-secret", "taken.Password=-"], &[], NEW, 0);
    assert_eq!(deployed(&lab), NEW);
}

#[test]
fn the_secrets_of_a_stack_that_is_not_asked_for_are_not_needed_and_can_t_be_set() {
    let lab = lab();
    lab.write("templates/cloudformation/web.yaml", super::TEMPLATE);
    lab.write(
        "stacks/all.yaml",
        "db:\n  template: db.yaml\n  parameters:\n    Password: ${env.DB_PASSWORD}\nweb:\n  template: web.yaml\n",
    );
    for command in ["plan", "apply"] {
        let refused = ends(&lab, &[command, "web", "--set-secret", "db.Password=-"], &[], NEW, 2);
        has(&refused, &["`--set-secret db.Password` is for a stack that was not asked for", "name `db`"]);
    }
    assert_eq!(lab.aws.calls("CreateChangeSet"), 0);
    has(&ends(&lab, &["apply", "-y", "web"], &[], "", 0), &["✓ created", "Not asked for: `db`."]);
    has(&ends(&lab, &["apply", "-y", "db", "--set-secret", "db.Password=-"], &[], NEW, 0), &["✓ created"]);
    assert_eq!(deployed(&lab), NEW);
}
