//! `access:` of fleetwright.yaml: planned, published as planned, withdrawn.

use super::{Lab, has};

const PARAMETER: &str = "/fleetwright/shop/local/main/access";

fn project(access: &str) -> String {
    format!(
        "project: shop\n{access}environments:\n  local:\n    region: eu-west-1\n    cluster: main\n\
         clusters:\n  main:\n    engine: swarm\n"
    )
}

const ACCESS: &str = "access:\n  admin: [role/boss]\n  deployer: [role/deploy]\n";

fn published(lab: &Lab) -> Option<String> {
    lab.aws.world().parameters.0.get(PARAMETER).cloned()
}

#[test]
fn access_is_planned_published_and_withdrawn() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    assert_eq!(published(&lab), None, "the repository says nothing of access");
    lab.write("fleetwright.yaml", &project(ACCESS));
    let plan = lab.ends(&["plan"], 3);
    has(
        &plan,
        &[PARAMETER, "publish", "+ admin      role/boss", "+ deployer   role/deploy", "access to change"],
    );
    assert_eq!(published(&lab), None, "a plan changes nothing");
    has(&lab.ends(&["plan", "--markdown"], 3), &["- `role/boss` gains admin"]);
    has(&lab.ends(&["plan", "-o", "json"], 3), &["\"principal\": \"role/boss\""]);
    lab.ends(&["apply", "-y"], 0);
    let text = r#"{"version":1,"admin":["role/boss"],"deployer":["role/deploy"],"viewer":[]}"#;
    assert_eq!(published(&lab).as_deref(), Some(text));
    has(&lab.ends(&["plan"], 0), &["no change"]);

    lab.write("fleetwright.yaml", &project(&ACCESS.replace("role/deploy", "user/ada")));
    has(&lab.ends(&["plan"], 3), &["- deployer   role/deploy", "+ deployer   user/ada"]);
    lab.ends(&["apply", "-y"], 0);
    assert!(published(&lab).expect("a policy").contains("user/ada"));

    lab.write("fleetwright.yaml", &project(""));
    has(&lab.ends(&["plan"], 3), &["withdraw", "nobody has access any more"]);
    lab.ends(&["apply", "-y"], 0);
    assert_eq!(published(&lab), None);
    has(&lab.ends(&["plan"], 0), &["no change"]);
}

#[test]
fn a_saved_plan_is_refused_when_somebody_else_changed_access_meanwhile() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.write("fleetwright.yaml", &project(ACCESS));
    lab.ends(&["plan", "--out", "plan.json"], 3);
    let theirs = r#"{"version":1,"admin":["role/mallory"],"deployer":[],"viewer":[]}"#;
    lab.aws.world().parameters.0.insert(PARAMETER.to_owned(), theirs.to_owned());
    has(
        &lab.ends(&["apply", "-y", "plan.json"], 1),
        &["does not hold any more", "another access policy is published"],
    );
    assert_eq!(published(&lab).as_deref(), Some(theirs), "nothing was changed");
    // The repository says otherwise, too.
    lab.ends(&["plan", "--out", "plan.json"], 3);
    lab.write("fleetwright.yaml", &project(&ACCESS.replace("role/deploy", "user/ada")));
    has(&lab.ends(&["apply", "-y", "plan.json"], 1), &["has to change in another way"]);
    lab.write("fleetwright.yaml", &project(ACCESS));
    lab.ends(&["apply", "-y", "plan.json"], 0);
    assert!(published(&lab).expect("a policy").contains("role/boss"));
}
