//! Credentials of roles, on a real fleet: a container gets those of its own role, and its neighbour gets none of them,
//! whatever it tries.

use std::time::Duration;

use fleetwright::model::name::MachineId;
use fleetwright::model::service::InstanceState;

use crate::faults::{deploy, unique};
use crate::support::lab::{Lab, edit, poll, service, tool};
use crate::support::units::{put, remove};

/// The stack of a role, and what it is named by.
const STACK: &str = "roles:\n  template: roles.yaml\n  parameters: {Control: \"${control.RoleArn}\"}\n";
const TEMPLATE: &str = r#"AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Control: {Type: String}
Resources:
  Uploads:
    Type: AWS::IAM::Role
    Properties:
      Path: /fleetwright/<{ project }>/<{ environment }>/
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
            Action: sts:AssumeRole
            Condition: {ArnEquals: {aws:PrincipalArn: !Ref Control}}
  # It does not trust the control machines.
  Closed:
    Type: AWS::IAM::Role
    Properties:
      Path: /fleetwright/<{ project }>/<{ environment }>/
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - {Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}
Outputs:
  UploadsArn: {Value: !GetAtt Uploads.Arn}
  ClosedArn: {Value: !GetAtt Closed.Arn}
"#;

/// Asks for the credentials as an SDK does: the status line and the body. Debian's static `wget` crashes here, and a
/// client that closes its side of the connection has given up, so the input stays open for a while.
const ASK: &str = "(printf 'GET /v1/credentials HTTP/1.1\\r\\nHost: 127.0.0.1:7446\\r\\nAuthorization: %s\\r\\n\
                   Connection: close\\r\\n\\r\\n' $(cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE); sleep 5) | \
                   nc 127.0.0.1 7446 | tr -d '\\r' | sed -n '1p;$p'";

/// A request from a container to any address, with further headers.
fn request(host: &str, port: u16, path: &str, headers: &str) -> String {
    format!(
        "(printf 'GET {path} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n{headers}Connection: close\\r\\n\\r\\n'; sleep 3) | \
         nc -w 3 {host} {port} 2>&1"
    )
}

struct Machine<'l> {
    lab: &'l Lab,
    container: String,
    id: MachineId,
}

impl Machine<'_> {
    fn sh(&self, script: &str) -> String {
        tool("docker", &["exec", &self.container, "sh", "-c", script])
    }

    /// The task of a service's healthy instance here, and its container.
    fn instance(&self, name: &str) -> Option<(String, String)> {
        let snapshot = self.lab.snapshot()?;
        let instances = &service(&snapshot, name)?.instances;
        let healthy = |one: &&fleetwright::model::service::Instance| {
            one.state == InstanceState::Healthy && one.machine.as_ref() == Some(&self.id)
        };
        let task = instances.iter().find(healthy)?.id.clone();
        let id = self.sh(&format!("docker ps -q --filter label=com.docker.swarm.task.id={task}"));
        Some((task, id.trim().to_owned())).filter(|(_, id)| !id.is_empty())
    }

    /// Asks for credentials in a container: whether there were some, and the answer's body, or all of it.
    fn ask(&self, container: &str) -> (bool, String) {
        let (_, text) = self.inside(container, ASK);
        match text.split_once('\n') {
            Some((status, body)) if status.contains(" 200 ") => (true, body.trim().to_owned()),
            _ => (false, text),
        }
    }

    /// Runs a script in a container: whether it succeeded, and all that it printed.
    fn inside(&self, container: &str, script: &str) -> (bool, String) {
        let arguments = ["exec", &self.container, "docker", "exec", container, "sh", "-c", script];
        let output = std::process::Command::new("docker").args(arguments).output().expect("docker runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// Asks for the credentials of a unit's role, on its machine.
fn of_unit(token: &str) -> String {
    format!("curl -s -m 8 -H 'Authorization: {token}' http://127.0.0.1:7446/v1/credentials || true")
}

/// A unit gets the credentials of its role, and whoever has another token none; its own token.
fn units(lab: &Lab, machine: &Machine<'_>) -> String {
    let unit = "[Unit]\nDescription=Has a role\n\n[Service]\nExecStart=/bin/sh -c 'while :; do curl -s -m 8 \
                -H \"Authorization: $$AWS_CONTAINER_AUTHORIZATION_TOKEN\" \
                \"$$AWS_CONTAINER_CREDENTIALS_FULL_URI\" > /run/rolled.json; sleep 1; done'\n";
    put(lab, "templates/units/rolled.service", unit);
    let text = format!(
        "rolled: {{unit: rolled.service, placement: {{instance: {}}}, aws_role: \"${{roles.UploadsArn}}\", \
         update: {{monitor: 1s}}}}\n",
        machine.id
    );
    put(lab, "services/rolled.yaml", &text);
    lab.ok(&["deploy", "rolled", "--yes"]);
    let answer = poll(Duration::from_secs(30), || {
        let text = machine.sh("cat /run/rolled.json 2>/dev/null || true");
        serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .filter(|answer| answer["AccessKeyId"].is_string())
    });
    let answer = answer.unwrap_or_else(|| {
        panic!(
            "no credentials: {}",
            machine.sh("cat /run/rolled.json; journalctl -u fleetwright-agent -n 30")
        )
    });
    let arn = whose(lab, &answer);
    assert!(arn.ends_with(&format!("/tests.local.rolled.1@{}", machine.id)), "{arn}");
    let variables = machine.sh("cat /run/fleetwright/units/*/variables");
    let token = variables.lines().find_map(|line| line.strip_prefix("AWS_CONTAINER_AUTHORIZATION_TOKEN="));
    let token = token.expect("its token").trim_matches('"').to_owned();
    assert!(token.len() >= 64, "256 bits");
    let refused = machine.sh(&of_unit("0000"));
    assert!(refused.contains("AccessDenied"), "{refused}");
    let said = machine.sh(&format!("grep -rl {token} /run/systemd /etc/systemd /var/log || true"));
    assert_eq!(said, "", "the token is in no unit and in no log");
    let others = machine.sh(
        "setpriv --reuid 65534 --clear-groups cat /run/fleetwright/units/*/files/run/secrets/* 2>&1 || true",
    );
    assert!(!others.contains(&token), "nobody but root and the unit has it");
    token
}

/// Who AWS says that these credentials are of.
fn whose(lab: &Lab, credentials: &serde_json::Value) -> String {
    let text = |key: &str| credentials[key].as_str().unwrap_or_else(|| panic!("no {key}")).to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let token = Some(text("Token"));
    let credentials = aws_sdk_sts::config::Credentials::new(
        text("AccessKeyId"),
        text("SecretAccessKey"),
        token,
        None,
        "test",
    );
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
        .endpoint_url(lab.var("AWS_ENDPOINT_URL_STS"))
        .region(aws_sdk_sts::config::Region::new(lab.var("AWS_REGION").to_owned()))
        .credentials_provider(credentials);
    let client = aws_sdk_sts::Client::from_conf(config.build());
    let answer = runtime.block_on(client.get_caller_identity().send());
    answer.expect("the credentials are valid").arn.expect("an ARN")
}

fn printed(lab: &Lab, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab.run(arguments);
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("$ fleetwright {}   -> {:?}\n{text}", arguments.join(" "), output.status.code());
    (output.status.code(), text)
}

#[test]
fn a_container_gets_the_credentials_of_its_own_role_and_of_no_other() {
    let lab = Lab::up();
    deploy(&lab, &unique("roles"));
    let folder = lab.infra.path();
    std::fs::write(folder.join("stacks/roles.yaml"), STACK).expect("written");
    std::fs::write(folder.join("templates/cloudformation/roles.yaml"), TEMPLATE).expect("written");
    lab.ok(&["apply", "roles", "--yes"]);

    let snapshot = lab.snapshot().expect("the cluster answers");
    let web = service(&snapshot, "web").expect("the service").instances.first().expect("an instance").clone();
    let id = web.machine.expect("it is placed");
    let found = snapshot.machines.iter().find(|machine| machine.id == id).expect("the machine");
    let machine = Machine { lab: &lab, container: lab.container(found), id: id.clone() };
    let image = "docker service inspect web --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}'";
    let image = lab.on_manager(image).expect("the image of `web`").trim().to_owned();
    let common = format!("  image: {image}\n  placement: {{instance: {id}}}\n  update: {{monitor: 1s}}\n");
    let file = folder.join("services/roles.yaml");
    let role = "  aws_role: \"${roles.UploadsArn}\"\n";
    let text = format!(
        "uploads:\n{common}{role}nosy:\n{common}  cap_add: [NET_ADMIN]\nother:\n{common}  aws_role: \"${{roles.ClosedArn}}\"\n"
    );
    std::fs::write(&file, &text).expect("written");
    let (code, text) = printed(&lab, &["deploy", "uploads", "nosy", "other", "--plan"]);
    assert!(code == Some(3) && text.contains("aws_role") && text.contains(":role/fleetwright/"), "{text}");
    lab.ok(&["deploy", "uploads", "nosy", "other", "-y"]);
    assert_eq!(printed(&lab, &["deploy", "--plan", "uploads"]).0, Some(0));

    // Its own role, in a session that says which instance it is, and on which machine.
    let (task, uploads) = machine.instance("uploads").expect("an instance");
    let (done, answer) = machine.ask(&uploads);
    assert!(done, "{answer}");
    let credentials: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let arn = whose(&lab, &credentials);
    let session = format!("tests.local.uploads.1@{id}");
    assert!(arn.contains(":assumed-role/") && arn.ends_with(&format!("/{session}")), "{arn}");
    // They are kept: a second question gets the same key.
    let (_, again) = machine.ask(&uploads);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&again).expect("JSON"), credentials);
    let audit = poll(Duration::from_secs(20), || {
        let text = printed(&lab, &["audit"]).1;
        text.contains(&session).then_some(text)
    });
    let audit = audit.expect("it is recorded who got credentials");
    let secret = credentials["SecretAccessKey"].as_str().expect("a key");
    let journal = machine.sh("journalctl --no-pager -u fleetwright-agent");
    assert!(!audit.contains(secret) && !journal.contains(secret), "the key is in a log");
    assert!(journal.contains("credentials of a role"), "{journal}");
    // A role that does not trust the control machines: the reason is where the program looks for it.
    let (_, other) = machine.instance("other").expect("an instance");
    let (done, answer) = machine.ask(&other);
    assert!(!done && answer.contains("403"), "{answer}");
    assert!(machine.sh("journalctl --no-pager -u fleetwright-agent").contains("trust policy"));

    neighbours(&lab, &machine, &task, &uploads, &other);

    // A command with the service's image has its role as well.
    let (code, text) =
        printed(&lab, &["run", "uploads", "--", "sh", "-c", &format!("{ASK} | grep -c AccessKeyId")]);
    assert!(code == Some(0) && text.contains('1'), "{text}");

    let token = units(&lab, &machine);

    // The agent starts again, and then the engine: containers find their credentials, and the rules are there.
    machine.sh("systemctl restart fleetwright-agent");
    let back = poll(Duration::from_secs(30), || machine.ask(&uploads).0.then_some(()));
    assert!(back.is_some(), "after the agent has started again");
    let back =
        poll(Duration::from_secs(30), || machine.sh(&of_unit(&token)).contains("AccessKeyId").then_some(()));
    assert!(back.is_some(), "units after the agent has started again");
    remove(&lab, &["rolled"]);
    let gone = poll(Duration::from_secs(60), || machine.sh(&of_unit(&token)).is_empty().then_some(()));
    assert!(gone.is_some(), "nothing is served when no unit with a role is left");
    machine.sh("systemctl restart docker");
    let back = poll(Duration::from_secs(60), || {
        let (_, now) = machine.instance("uploads").filter(|(now, _)| *now != task)?;
        machine.ask(&now).0.then_some(now)
    });
    assert!(back.is_some(), "after the engine has started again");
    let rule = "iptables -C DOCKER-USER -d 169.254.169.254/32 -j REJECT && \
                iptables -C INPUT -i docker+ -d 169.254.169.254/32 -j REJECT && echo there";
    assert_eq!(machine.sh(rule).trim(), "there");
    // What somebody removes is put back.
    machine.sh("iptables -D DOCKER-USER -d 169.254.169.254/32 -j REJECT");
    let back = poll(Duration::from_secs(30), || {
        machine.sh(&format!("{rule} || true")).contains("there").then_some(())
    });
    assert!(back.is_some(), "the rule is gone");

    // A service without the role has no token any more.
    edit(&file, role, "");
    assert_eq!(printed(&lab, &["deploy", "uploads", "-y"]).0, Some(0));
    let (_, plain) = machine.instance("uploads").expect("an instance");
    let (_, text) = machine.inside(&plain, &request("127.0.0.1", 7446, "/v1/credentials", ""));
    assert!(text.contains("refused"), "{text}");
    for name in ["uploads", "nosy", "other"] {
        lab.ok(&["rm", name, "-y"]);
    }
    for file in ["services/roles.yaml", "stacks/roles.yaml", "templates/cloudformation/roles.yaml"] {
        std::fs::remove_file(folder.join(file)).expect("removed");
    }
    lab.ok(&["apply", "--prune", "--yes"]);
}

/// All that a container on the same machine can try.
fn neighbours(lab: &Lab, machine: &Machine<'_>, task: &str, uploads: &str, other: &str) {
    let (_, nosy) = machine.instance("nosy").expect("an instance");
    let (_, token) = machine.inside(uploads, "cat /run/secrets/fleetwright-aws-role");
    let addresses =
        machine.inside(uploads, "ip -4 -o addr | grep -v ' lo ' | sed 's,.*inet \\([0-9.]*\\)/.*,\\1,'").1;
    let own = machine.sh("hostname -I");
    let gateway = machine.inside(&nosy, "ip route | sed -n 's,default via \\([0-9.]*\\).*,\\1,p'").1;
    assert!(addresses.lines().count() >= 2 && !gateway.trim().is_empty(), "{addresses} {gateway}");
    let header = format!("Authorization: {token}\\r\\n");
    let get = |from: &str, headers: &str, host: &str, path: &str| {
        let (_, text) = machine.inside(from, &request(host, 7446, path, headers));
        assert!(!text.contains("AccessKey"), "{host}{path} answers: {text}");
        text
    };
    let path = "/v1/credentials";
    // At its own loopback there is nothing for one without a role; one with another role is not helped by the token.
    assert!(get(&nosy, &header, "127.0.0.1", path).contains("refused"));
    assert!(get(other, &header, "127.0.0.1", path).contains("403"));
    assert!(get(other, "", "127.0.0.1", path).contains("403"));
    assert!(get(other, &header, "127.0.0.1", &format!("{path}/{task}")).contains("404"));
    // The container itself must mean it: a request that it was made to send has no token, or comes through a proxy.
    assert!(get(uploads, "", "127.0.0.1", path).contains("403"));
    let forwarded = format!("{header}X-Forwarded-For: 10.0.0.1\\r\\n");
    assert!(get(uploads, &forwarded, "127.0.0.1", path).contains("403"));
    // The other's addresses, the machine's, and those where AWS serves credentials.
    for host in addresses.split_whitespace().chain(own.split_whitespace()).chain([gateway.trim()]) {
        let text = get(&nosy, &header, host, path);
        assert!(text.contains("refused") || text.contains("timed out"), "{host}: {text}");
    }
    for host in ["169.254.169.254", "169.254.170.2"] {
        // Refused at once, and not lost on the way.
        let (_, text) = machine.inside(&nosy, &request(host, 80, "/latest/meta-data/", ""));
        assert!(text.contains("refused"), "{host}: {text}");
    }
    // Something of the machine's own that listens at such an address is guarded by the INPUT rule.
    machine.sh("ip addr add 169.254.170.2/32 dev lo");
    let (_, text) = machine.inside(&nosy, &request("169.254.170.2", 7444, "/", ""));
    machine.sh("ip addr del 169.254.170.2/32 dev lo");
    assert!(text.contains("refused"), "{text}");
    // With the other's address, which it may give itself.
    for host in addresses.split_whitespace() {
        machine.inside(&nosy, &format!("ip addr add {host}/32 dev lo"));
        assert!(get(&nosy, &header, host, path).contains("refused"));
    }
    // Straight at the control machines.
    let snapshot = lab.snapshot().expect("the cluster answers");
    let control = snapshot.machines.iter().find(|machine| machine.role.word() == "control").expect("one");
    let url = format!("https://{}:7443/v1/tasks/{task}/credentials", control.address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().expect("a client");
    let request = client.post(&url).bearer_auth(&token).json(&serde_json::json!({"token_sha256": "00"}));
    let answer = runtime.block_on(request.send()).expect("an answer");
    assert_eq!(answer.status().as_u16(), 401);
}
