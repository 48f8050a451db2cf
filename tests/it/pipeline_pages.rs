//! The pages of `serve` in Chromium: judged by axe in both colour schemes, wide and at 390 pixels, and used with the
//! keyboard alone, without scripts. Stacks are ministack's, the cluster is played.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_ssm::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_ssm::types::ParameterType;
use chrono::{DateTime, Utc};
use fleetwright::model::logs::LogEntry;
use fleetwright::model::machine::Machine;
use fleetwright::model::timeline::{EventKind, TimelineEvent};
use serde_json::{Value, json};

use crate::pipeline_serve::{Serve, Site, assert_no_secret, busybox};
use crate::support::ministack::Ministack;
use crate::support::page_tools::play;

const DOCKERFILE: &str = "\
FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
";

/// One that deploys, one whose tests fail, and one that takes parameters and asks.
const PIPELINES: &str = r#"
web:
  repository: web
  steps:
    - build: {image: demo/web}
    - rollout: {service: web}
check:
  repository: web
  on: {}
  steps:
    - build: {image: demo/web}
    - run:
        name: unit
        image: demo/web
        reports: ["report/*.xml"]
        artifacts: ["report/*"]
        command: |
          mkdir report
          printf '\033[32mok\033[0m a test\n\033[31merror\033[0m: expected 1, got 2\n'
          cp bad.xml report/
          exit 1
release:
  repository: web
  on: {}
  parameters:
    VERSION: {description: what it is called}
    COUNT: {type: number, default: "2", description: how many}
    DRY_RUN: {type: boolean, default: "true"}
    TARGET: {choices: [staging, production], default: staging}
  steps:
    - build: {image: demo/web}
    - approve: {message: "Release it?"}
    - rollout: {service: web}
"#;

const BAD_REPORT: &[u8] = b"<testsuite><testcase classname='cart' name='adds'>\
    <failure message='expected 1, got 2'/></testcase><testcase name='x'/></testsuite>";

const STACK: &str = "\
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /shop/entry, Type: String, Value: one}
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
";

const MACHINE: &str = "i-0d3c1f2a";

/// A site with an AWS that has its stack, and that stack changed by somebody.
struct Lab {
    site: Site,
    ssm: aws_sdk_ssm::Client,
    _aws: Ministack,
}

impl Lab {
    async fn new() -> Self {
        let aws = Ministack::start();
        let anybody = Credentials::new("test", "test", None, None, "test");
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(aws.endpoint())
            .credentials_provider(SharedCredentialsProvider::new(anybody))
            .load()
            .await;
        let ssm = aws_sdk_ssm::Client::new(&config);
        let mut credentials = String::new();
        let site = Site::with_aws(|registry| {
            credentials = registry.credentials();
            aws.endpoint()
        });
        let write = |path: &str, text: &str| {
            let path = site.folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("written");
        };
        write("pipelines/web.yaml", PIPELINES);
        write("stacks/entries.yaml", "entries:\n  template: entries.yaml\n");
        write("templates/cloudformation/entries.yaml", STACK);
        let lab = Self { site, ssm, _aws: aws };
        lab.put("/fleetwright/registry", &credentials, ParameterType::SecureString).await;
        lab
    }

    async fn put(&self, name: &str, value: &str, kind: ParameterType) {
        let call = self.ssm.put_parameter().name(name).value(value).r#type(kind).overwrite(true);
        call.send().await.expect("a parameter");
    }

    fn commit(&self, subject: &str) -> String {
        let unique = crate::support::git::unique();
        let dockerfile = format!("{DOCKERFILE}ENV UNIQUE={unique}-{}\n", subject.len());
        let busybox = busybox();
        let files: [(&str, &[u8]); 3] =
            [("Dockerfile", dockerfile.as_bytes()), ("busybox*", &busybox), ("bad.xml", BAD_REPORT)];
        self.site.origin.commit(subject, &files)
    }

    async fn start(&self, serve: &Serve, pipeline: &str, body: &Value) -> i64 {
        let url = format!("{}v1/pipelines/{pipeline}/runs", serve.page);
        let answer = self.site.client().post(url).json(body).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        answer["run"].as_i64().unwrap_or_else(|| panic!("{answer}"))
    }

    async fn ended(&self, serve: &Serve, run: i64, wanted: impl Fn(&Value) -> bool) {
        let url = format!("{}v1/runs/{run}", serve.page);
        for _ in 0..600 {
            let answer = self.site.client().get(&url).send().await.expect("an answer");
            let answer: Value = answer.json().await.expect("JSON");
            if wanted(&answer["run"]) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("run {run} never came to this");
    }

    /// What the cluster reports beside services.
    fn reports(&self) {
        let at: DateTime<Utc> = Utc::now();
        let machine = |id: &str, state: &str| -> Machine {
            let machine = json!({
                "id": id, "address": "10.77.1.4", "role": "worker", "state": state, "leader": false,
                "group": "shop-test-entries", "metadata": {"zone": "eu-west-1a"},
                "pressure": {"disk": 91, "inodes": 4, "memory_available": 60},
            });
            serde_json::from_value(machine).expect("a machine")
        };
        let web = "web".parse().expect("a name");
        let here = MACHINE.parse().expect("an id");
        let ended = TimelineEvent::new("a".into(), at, EventKind::Ended, "exited with status 1");
        let ended = ended.of(&web).instance("web@1").on(Some(&here));
        let ended = ended.printed(&["KeyError: 'PAYMENT_URL'".to_owned()]);
        let deployed =
            TimelineEvent::new("b".into(), at, EventKind::Deployed, "revision 2 begins to roll out");
        let deployed = deployed.of(&web).by("arn:aws:sts::1:assumed-role/deploy/ada");
        let line = |text: &str| LogEntry {
            at,
            instance: "web@1".to_owned(),
            machine: MACHINE.to_owned(),
            text: text.to_owned(),
        };
        let lines = vec![
            line("\u{1b}[31mGET /a\u{1b}[0m 500"),
            line(&"a long line ".repeat(40)),
            line("<script>alert(1)</script>"),
        ];
        let machines = vec![machine(MACHINE, "ready"), machine("i-0f11", "down")];
        self.site.cluster.reports(machines, vec![ended, deployed], lines);
    }
}

/// A server token, from the file that `serve` made.
fn own_token(site: &Site) -> String {
    let file = site.folder.path().join("home/serve/shop/page-token");
    std::fs::read_to_string(file).expect("a token").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_passes_axe_fits_its_window_and_is_used_by_keyboard() {
    let lab = Lab::new().await;
    let (good, _, stderr) = lab.site.run(&["apply", "-y"]);
    assert!(good, "{stderr}");
    lab.put("/shop/entry", "two", ParameterType::String).await;
    lab.reports();
    let serve = lab.site.serve_quietly();
    let first = lab.commit("first");
    let deploy = json!({});
    lab.start(&serve, "web", &deploy).await;
    lab.ended(&serve, 1, |run| run["state"] == "succeeded").await;
    lab.commit(&format!("{} in two steps", "a subject that is quite long ".repeat(4)));
    lab.start(&serve, "web", &deploy).await;
    lab.ended(&serve, 2, |run| run["state"] == "succeeded").await;
    lab.start(&serve, "check", &deploy).await;
    lab.ended(&serve, 3, |run| run["state"] == "failed").await;
    lab.start(&serve, "release", &json!({"parameters": {"VERSION": "2.1"}})).await;
    lab.ended(&serve, 4, |run| run["steps"][1]["state"]["is"] == "asking").await;

    let token = own_token(&lab.site);
    let base = &serve.page;
    // Drift is checked from the page, without a script.
    let checked = play(
        "act.py",
        &json!({ "base": base, "token": token, "steps": [
            {"open": "/stacks"},
            {"see": "Drift was not checked since this server started."},
            {"choose": "Check for drift"},
            {"wait": "1 of 1 resource differs"},
            {"see": "Entry"}, {"see": "two"}, {"see": "Not checked: Handle"},
            {"choose": MACHINE},
            {"see": "web@1"}, {"see": "exited with status 1"},
            {"choose": "shop-test-entries"},
        ]}),
    );
    assert!(
        checked["url"].as_str().is_some_and(|url| url.ends_with("/stacks#shop-test-entries")),
        "{checked}"
    );

    let pages = [
        "/",
        "/runs",
        "/runs?state=failed",
        "/runs/1",
        "/runs/3",
        "/runs/4",
        "/services",
        "/services/web",
        "/services/web/logs",
        "/services/web/rollback?to=1",
        "/machines",
        &format!("/machines/{MACHINE}"),
        "/stacks",
        &format!("/runs?commit={first}"),
    ];
    let shots = std::env::var("FLEETWRIGHT_SHOTS").ok();
    let report = play("check.py", &json!({ "base": base, "token": token, "pages": pages, "shots": shots }));
    let problems: Vec<&str> =
        report["problems"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(report["opened"], pages.len() * 4);
    assert!(report["size"].as_u64().is_some_and(|size| size > 1000), "{report}");
    assert_no_secret(lab.site.folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_done_by_keyboard_and_without_a_script() {
    let lab = Lab::new().await;
    lab.reports();
    let serve = lab.site.serve_quietly();
    let first = lab.commit("first");
    lab.start(&serve, "web", &json!({})).await;
    lab.ended(&serve, 1, |run| run["state"] == "succeeded").await;
    lab.commit("second");
    let token = own_token(&lab.site);
    let done = play(
        "act.py",
        &json!({ "base": serve.page, "token": token, "steps": [
            // Runs: with parameters, answered, retried, cancelled.
            {"choose": "Run release"},
            {"fill": "VERSION (required)", "text": "2.1"},
            {"fill": "COUNT", "text": "3"},
            {"pick": "TARGET", "text": "production"},
            {"choose": "Run release"},
            {"wait": "Release it?"},
            {"see": "VERSION=2.1"}, {"see": "COUNT=3"}, {"see": "TARGET=production"}, {"see": "DRY_RUN=true"},
            {"choose": "Approve"},
            {"wait": "web revision 2"},
            {"choose": "Retry"},
            {"wait": "Release it?"},
            {"fill": "Reason for cancelling", "text": "not today"},
            {"choose": "Cancel"},
            {"wait": "not today"},
            // From the run to the service, back to the first revision, and to the run of that commit.
            {"open": "/runs/2"},
            {"choose": "web"},
            {"see": "2/2 healthy"},
            {"choose": "Roll back to revision 1"},
            {"see": "What changes"}, {"see": "image"},
            {"choose": "Roll back to revision 1"},
            {"wait": "revision 3"},
            {"choose": "Logs"},
            {"see": "GET /a 500"}, {"see": "<script>alert(1)</script>"},
            {"fill": "Containing", "text": "GET"},
            {"choose": "Show"},
            {"see": "GET /a 500"},
            {"open": &format!("/runs?commit={first}")},
            {"see": "This commit runs in web"},
            {"choose": "#1"},
        ]}),
    );
    assert!(done["url"].as_str().is_some_and(|url| url.ends_with("/runs/1")), "{done}");
    let deployments = lab.site.cluster.deployments();
    assert_eq!(deployments.len(), 3);
    assert_eq!(deployments[2].digest, deployments[0].digest, "it went back");
}
