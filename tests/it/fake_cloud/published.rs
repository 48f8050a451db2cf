//! The agent that machines run: published once, named in the repository, and planned the same by every shell.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{Lab, has};
use crate::support::fleetwright_with;

const BUCKET: &str = "fleetwright-shop-123456789012-eu-west-1";
const FIRST: &[u8] = b"\x7fELF the first";
const SECOND: &[u8] = b"\x7fELF the second";
const SCRIPT: &str = include_str!("../../../templates/scripts/agent.sh");
const PROJECT: &str = "project: shop\n# What machines run.\nagent:\nenvironments:\n  local:\n    region: eu-west-1\n    cluster: main\n  \
                       live:\n    region: eu-west-1\n    cluster: main\n    protect: true\n    agent:\n      version: \"1.0.0\"\n      \
                       sha256: \"0000000000000000000000000000000000000000000000000000000000000000\"\nclusters:\n  main:\n    engine: swarm\n";
const GROUP: &str = r#"Resources:
  LaunchTemplate:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateData:
        ImageId: ami-0a1b2c3d
        UserData: <{ user_data(file="worker.yaml") }>
"#;
const WORKER: &str = "#cloud-config\nwrite_files:\n  - path: /usr/local/lib/fleetwright/install\n    permissions: \"0755\"\n    content: |\n      \
                      #!/bin/sh\n      set -eu\n      agent=/usr/local/bin/fleetwright\n<% filter indent(width=6, first=true) %><% include \
                      \"scripts/agent.sh\" %><% endfilter %>\n";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A repository whose machines have the shipped installer, without an agent, and two builds of one.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("fleetwright.yaml", PROJECT);
    lab.write("templates/cloudformation/db.yaml", GROUP);
    lab.write("templates/cloud-config/worker.yaml", WORKER);
    lab.write("templates/scripts/agent.sh", SCRIPT);
    for (name, bytes) in [("first", FIRST), ("second", SECOND)] {
        std::fs::write(lab.path(name), bytes).expect("written");
    }
    lab
}

fn project(lab: &Lab) -> String {
    std::fs::read_to_string(lab.path("fleetwright.yaml")).expect("the project")
}

fn publish<'a>(file: &'a str, release: &'a str) -> [&'a str; 6] {
    ["agent", "publish", "--file", file, "--release", release]
}

/// `plan` in a clone of the repository, by somebody whose shell has nothing but credentials.
fn plan_elsewhere(lab: &Lab) -> String {
    let (clone, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for file in [
        "fleetwright.yaml",
        "stacks/all.yaml",
        "templates/cloudformation/db.yaml",
        "templates/cloud-config/worker.yaml",
        "templates/scripts/agent.sh",
    ] {
        let to = clone.path().join(file);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        std::fs::copy(lab.path(file), to).expect("copied");
    }
    let mut environment = lab.aws.environment();
    environment.push(("FLEETWRIGHT_HOME", home.path().display().to_string()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = fleetwright_with(clone.path(), &["plan"], &environment);
    format!("{}{}status {:?}", run.stdout, run.stderr, run.status)
}

#[test]
fn every_shell_plans_the_same_once_an_agent_is_published() {
    let lab = lab();
    let said = lab.ends(&["plan"], 2);
    has(&said, &["no agent is published for environment `local`", "`fleetwright agent publish`"]);
    lab.ends(&["validate"], 0);
    has(&lab.ends(&["render", "db", "--user-data"], 0), &["version=\"<unpublished agent>\""]);

    let said = lab.ends(&publish("first", "1.4.0"), 0);
    has(&said, &["Published agent 1.4.0", "for `local`; fleetwright.yaml names it now", "commit the change"]);
    let section = format!("agent:\n  version: \"1.4.0\"\n  sha256: \"{}\"\nenvironments:\n", sum(FIRST));
    assert_eq!(project(&lab), PROJECT.replace("agent:\nenvironments:\n", &section));
    assert_eq!(lab.aws.protections(BUCKET).1, 1, "one object");
    lab.ends(&["apply", "-y", "--no-lock"], 0);
    has(&lab.ends(&["plan"], 0), &["no change"]);
    has(&plan_elsewhere(&lab), &["no change", "status Some(0)"]);

    // Once more: nothing is written.
    has(&lab.ends(&publish("first", "1.4.0"), 0), &["for `local`; fleetwright.yaml names it already"]);
    has(&plan_elsewhere(&lab), &["no change"]);
}

#[test]
fn another_agent_is_a_change_that_names_the_machines_to_replace() {
    let lab = lab();
    lab.ends(&publish("first", "1.4.0"), 0);
    lab.ends(&["apply", "-y"], 0);
    let template = "<LaunchTemplate><LaunchTemplateId>lt-0a1b2c3d</LaunchTemplateId><LaunchTemplateName>shop</LaunchTemplateName>\
                    <Version>1</Version></LaunchTemplate>";
    lab.aws.world().groups = vec![format!(
        "<AutoScalingGroupName>shop-local-db</AutoScalingGroupName><MinSize>1</MinSize><MaxSize>2</MaxSize>\
         <DesiredCapacity>1</DesiredCapacity>{template}<Instances><member><InstanceId>i-0123</InstanceId>\
         <AvailabilityZone>a</AvailabilityZone><LifecycleState>InService</LifecycleState><HealthStatus>Healthy</HealthStatus>\
         {template}</member></Instances><Tags><member><Key>fleetwright:project</Key><Value>shop</Value></member>\
         <member><Key>fleetwright:environment</Key><Value>local</Value></member></Tags>"
    )];
    lab.ends(&publish("second", "1.5.0"), 0);
    let said = lab.ends(&["plan"], 3);
    has(&said, &["-", "version=\"1.4.0\"", "version=\"1.5.0\"", &sum(FIRST), &sum(SECOND)]);
    has(&said, &["1 machine runs version 1 (i-0123)", "`fleetwright roll db`"]);
    assert_eq!(lab.aws.protections(BUCKET).1, 3, "both agents, and the lock");
}

#[test]
fn an_environment_with_an_agent_of_its_own_is_published_for_by_name() {
    let lab = lab();
    let live = [&publish("second", "1.5.0")[..], &["-e", "live"]].concat();
    has(&lab.ends(&live, 0), &["for `live`"]);
    let wanted = PROJECT.replace("1.0.0", "1.5.0").replace(&"0".repeat(64), &sum(SECOND));
    assert_eq!(project(&lab), wanted, "the project's own stays as it is");
    let unnamed = lab.run_with(&publish("first", "1.4.0"), &[("FLEETWRIGHT_ENVIRONMENT", "live")]);
    assert_eq!(unnamed.status, Some(2), "{unnamed}");
    has(&unnamed.stderr, &["environment `live` is protected", "fleetwright agent publish -e live"]);
}

#[test]
fn what_is_not_an_agent_is_not_published() {
    let lab = lab();
    has(&lab.ends(&publish("stacks/all.yaml", "1.4.0"), 2), &["is not an executable for Linux"]);
    has(&lab.ends(&publish("first", "1/4"), 2), &["is not a version of the agent"]);
    lab.write("fleetwright.yaml", &PROJECT.replace("agent:\nenv", "agent: ~\nenv"));
    has(
        &lab.ends(&publish("first", "1.4.0"), 1),
        &["can't be changed by a program", "write `agent: {version: \"1.4.0\""],
    );
    assert_eq!(lab.aws.protections(BUCKET).1, 0, "nothing was uploaded");

    // Somebody else wrote another executable in its place.
    let lab = self::lab();
    lab.aws.exchange_objects("the first", "a worse one");
    lab.ends(&publish("first", "1.4.0"), 0);
    has(
        &lab.ends(&publish("first", "1.4.0"), 1),
        &["is something else than agent 1.4.0", "find out who wrote it"],
    );
}

#[test]
fn a_newer_public_image_is_a_change_of_the_plan() {
    const IMAGE: &str = "/aws/service/debian/release/12/latest/amd64";
    let lab = Lab::new();
    let template = GROUP.replace("        UserData: <{ user_data(file=\"worker.yaml\") }>\n", "");
    let template = template.replace("ami-0a1b2c3d", "!Ref ImageId");
    let parameter = "Parameters:\n  ImageId:\n    Type: AWS::EC2::Image::Id\n";
    lab.write("templates/cloudformation/db.yaml", &format!("{parameter}{template}"));
    let stacks =
        |name: &str| format!("db:\n  template: db.yaml\n  parameters:\n    ImageId: ${{ssm:{name}}}\n");
    lab.write("stacks/all.yaml", &stacks(IMAGE));
    let publish = |id: &str| lab.aws.world().parameters.0.insert(IMAGE.to_owned(), id.to_owned());
    lab.ends(&["validate"], 0);
    has(&lab.ends(&["plan", "--offline"], 3), &[&format!("${{ssm:{IMAGE}}}, known after apply")]);
    has(
        &lab.ends(&["plan"], 2),
        &["error[unknown-public-parameter]", "region eu-west-1 has no public parameter", "stacks/all.yaml"],
    );
    publish("ami-0a1b2c3d");
    lab.ends(&["apply", "-y"], 0);
    has(&lab.ends(&["plan"], 0), &["no change"]);
    publish("ami-0a1b2c3e");
    has(&lab.ends(&["plan"], 3), &["~ parameter ImageId   ami-0a1b2c3d -> ami-0a1b2c3e"]);
    // What destroys asks for no image.
    lab.aws.world().parameters.0.clear();
    lab.ends(&["destroy", "-y"], 0);
    // Other parameters may be secret.
    lab.write("stacks/all.yaml", &stacks("/database/password"));
    has(&lab.ends(&["validate"], 2), &["`/database/password` is not a public parameter"]);
}

/// The metadata service of an instance, and S3, which checks the signature as AWS does.
fn serve(mut stream: TcpStream, agent: &[u8]) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
            Ok(_) | Err(_) => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let mut lines = text.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let answer: Option<Vec<u8>> = match path.as_str() {
        "/latest/api/token" => Some(b"session".to_vec()),
        _ if path.starts_with("/latest/") && header(&headers, "x-aws-ec2-metadata-token") != "session" => None,
        "/latest/meta-data/placement/region" => Some(b"eu-west-1".to_vec()),
        "/latest/dynamic/instance-identity/document" => {
            Some(b"{\n  \"accountId\" : \"123456789012\",\n  \"region\" : \"eu-west-1\"\n}".to_vec())
        }
        "/latest/meta-data/iam/security-credentials/" => Some(b"workers".to_vec()),
        "/latest/meta-data/iam/security-credentials/workers" => {
            Some(b"{\n  \"AccessKeyId\" : \"AKIA\",\n  \"SecretAccessKey\" : \"se/cr+et\",\n  \"Token\" : \"to/k+en==\"\n}".to_vec())
        }
        path if path == format!("/{BUCKET}/agent/1.4.0/{}", sum(FIRST)) => {
            is_signed(path, &headers).then(|| agent.to_vec())
        }
        _ => None,
    };
    let status = if answer.is_some() { "200 OK" } else { "403 Forbidden" };
    let body = answer.unwrap_or_default();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> &'h str {
    headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// Whether the request is signed by the role's keys, with all that matters in the signature.
fn is_signed(path: &str, headers: &[(String, String)]) -> bool {
    let authorization = header(headers, "authorization").replace(", ", ",");
    let part = |name: &str| {
        authorization
            .split(['=', ',', ' '])
            .skip_while(|part| *part != name)
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    let (credential, signed, signature) = (part("Credential"), part("SignedHeaders"), part("Signature"));
    let names: Vec<&str> = signed.split(';').collect();
    let needed = ["host", "x-amz-date", "x-amz-expected-bucket-owner", "x-amz-security-token"];
    let values = header(headers, "x-amz-expected-bucket-owner") == "123456789012"
        && header(headers, "x-amz-security-token") == "to/k+en=="
        && needed.iter().all(|name| names.contains(name));
    let canonical: String = names.iter().map(|name| format!("{name}:{}\n", header(headers, name))).collect();
    let payload = header(headers, "x-amz-content-sha256");
    let request = format!("GET\n{path}\n\n{canonical}\n{signed}\n{payload}");
    let scope = credential.strip_prefix("AKIA/").unwrap_or_default();
    let date = header(headers, "x-amz-date");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sum(request.as_bytes()));
    let key = scope.split('/').fold(b"AWS4se/cr+et".to_vec(), |key, part| mac(&key, part));
    values && scope.ends_with("/eu-west-1/s3/aws4_request") && hex(&mac(&key, &text)) == signature
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Runs the installer as a machine would, with `agent` in the bucket; what it printed, and whether it went well.
fn install(lab: &Lab, folder: &Path, agent: &'static [u8]) -> (bool, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://127.0.0.1:{}", listener.local_addr().expect("an address").port());
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(stream, agent)));
    let rendered = lab.run(&["render", "db", "--user-data"]);
    let document: serde_json::Value = serde_yaml::from_str(&rendered.stdout).expect("cloud-config");
    let script = document["write_files"][0]["content"].as_str().expect("a script");
    let script = script
        .replace("http://169.254.169.254", &address)
        .replace("/usr/local/bin/fleetwright", &folder.join("agent").display().to_string());
    let file = folder.join("install");
    std::fs::write(&file, script).expect("written");
    let output = Command::new("sh")
        .arg(file)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("AWS_ENDPOINT_URL", &address)
        .output()
        .expect("a shell");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_machine_fetches_what_was_published_as_its_role() {
    let lab = lab();
    lab.ends(&publish("first", "1.4.0"), 0);
    let folder = tempfile::tempdir().expect("a folder");
    let (well, said) = install(&lab, folder.path(), SECOND);
    assert!(!well && said.contains("does not have the checksum"), "{said}");
    assert!(!folder.path().join("agent").exists() && !folder.path().join("agent.new").exists());
    let (well, said) = install(&lab, folder.path(), FIRST);
    assert!(well, "{said}");
    assert_eq!(std::fs::read(folder.path().join("agent")).expect("the agent"), FIRST);
    // It is there, and nothing is asked.
    let (well, said) = install(&lab, folder.path(), SECOND);
    assert!(well, "{said}");
}
