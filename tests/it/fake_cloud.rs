//! What emulators of AWS can't do, against one that can: stacks stuck in every way, throttled calls,
//! updates that fail or are denied, and how much is asked of AWS.

mod access;
mod answers;
mod bucket;
mod calls;
mod failures;
mod killed;
mod lost;
mod owners;
mod protected;
mod published;
mod recovery;
mod rights;
mod secrets;
mod selected;
mod sizes;
mod warnings;
mod words;

use std::process::{Child, Command, Stdio};

use crate::support::fake_aws::{Dialect, FakeAws};
use crate::support::{Run, fleetwright_with};

/// An infra repository, and an AWS of its own.
pub struct Lab {
    folder: tempfile::TempDir,
    home: tempfile::TempDir,
    port: Option<u16>,
    pub aws: FakeAws,
}

/// Two resources that need nothing of each other, one that needs both, and an output.
const TEMPLATE: &str = r#"Parameters:
  Title:
    Type: String
    Default: first
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      DelaySeconds: 5
  Topic:
    Type: AWS::SNS::Topic
    Properties:
      DisplayName: !Ref Title
  Address:
    Type: AWS::SSM::Parameter
    Properties:
      Type: String
      Value: !Sub "${Topic} ${Queue.Arn}"
Outputs:
  Topic:
    Value: !Ref Topic
"#;

const STACKS: &str = "db:\n  template: db.yaml\n";

impl Lab {
    /// One with a single stack, `db`, of [`TEMPLATE`].
    pub fn new() -> Self {
        Self::speaking(Dialect::Details)
    }

    /// The same, on an AWS that tells changes in `dialect`.
    pub fn speaking(dialect: Dialect) -> Self {
        let (folder, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let lab = Self { folder, home, port: None, aws: FakeAws::start(dialect) };
        let project = "project: shop\nenvironments:\n  local:\n    region: eu-west-1\n    cluster: main\n\
                       clusters:\n  main:\n    engine: swarm\n";
        lab.write("fleetwright.yaml", project);
        lab.write("stacks/all.yaml", STACKS);
        lab.write("templates/cloudformation/db.yaml", TEMPLATE);
        lab
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    /// Replaces a text in the template of `db`.
    pub fn edit(&self, from: &str, to: &str) {
        let path = self.folder.path().join("templates/cloudformation/db.yaml");
        let text = std::fs::read_to_string(&path).expect("the template");
        assert!(text.contains(from), "the template has no `{from}`");
        std::fs::write(path, text.replace(from, to)).expect("written");
    }

    /// Puts something between the program and its AWS.
    pub fn behind(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.aws.environment();
        if let Some(port) = self.port {
            environment[0].1 = format!("http://127.0.0.1:{port}");
        }
        environment.push(("FLEETWRIGHT_HOME", self.home.path().display().to_string()));
        environment
    }

    pub fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[])
    }

    /// The same with more variables.
    pub fn run_with(&self, arguments: &[&str], more: &[(&str, &str)]) -> Run {
        let environment = self.environment();
        let own = environment.iter().map(|(name, value)| (*name, value.as_str()));
        let environment: Vec<(&str, &str)> = own.chain(more.iter().copied()).collect();
        fleetwright_with(self.folder.path(), arguments, &environment)
    }

    /// Runs a command that must end with `status`; gives all it printed.
    pub fn ends(&self, arguments: &[&str], status: i32) -> String {
        let run = self.run(arguments);
        assert_eq!(run.status, Some(status), "`{}` printed:\n{run}", arguments.join(" "));
        format!("{}{}", run.stdout, run.stderr)
    }

    /// Begins a command.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetwright"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().envs(self.environment());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary runs")
    }

    /// Waits for a command that must end with `status`; gives all it printed.
    pub fn finish(&self, child: Child, status: i32) -> String {
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let text = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "it printed:\n{text}");
        text
    }

    /// Somebody makes a stack of that name with these tags, and not with fleetwright.
    pub fn stranger(&self, stack: &str, tags: &[(&str, &str)]) {
        let name = [("StackName", stack), ("ChangeSetName", "by-hand")];
        let mut fields = vec![("ChangeSetType", "CREATE"), ("TemplateBody", TEMPLATE)];
        let keys: Vec<[String; 2]> = (1..=tags.len())
            .map(|number| ["Key", "Value"].map(|part| format!("Tags.member.{number}.{part}")))
            .collect();
        for ([key, value], tag) in keys.iter().zip(tags) {
            fields.extend([(key.as_str(), tag.0), (value.as_str(), tag.1)]);
        }
        self.aws.ask("CreateChangeSet", &[&name[..], &fields].concat());
        self.aws.ask("DescribeChangeSet", &name);
        self.aws.ask("ExecuteChangeSet", &name);
        self.aws.wait_until("it is made", |world| world.stack(stack).status == "CREATE_COMPLETE");
    }

    pub fn status(&self) -> Option<String> {
        self.aws.status("shop-local-db")
    }

    /// `recover db` that must end with `status`.
    pub fn recover(&self, more: &[&str], status: i32) -> String {
        self.ends(&[&["recover", "db", "-y"], more].concat(), status)
    }
}

/// What every deletion of something asks for.
pub const CONFIRM: [&str; 2] = ["--confirm", "shop-local-db"];

pub fn has(text: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}
