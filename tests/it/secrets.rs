//! No secret is where somebody could read it: user data, templates, plans, logs, events, the
//! pipelines' journal, images.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::lab::{Lab, PROJECT, home, tool};

/// A secret, and what it is; its base64 form is searched for as well.
struct Secret {
    what: String,
    forms: Vec<Vec<u8>>,
}

/// Where something was looked for, and what was there.
struct Place(String, Vec<u8>);

#[test]
fn secrets_are_nowhere_to_be_read() {
    let lab = Lab::up();
    lab.commit(
        "Nothing secret",
        &[
            ("Dockerfile", "FROM demo/base:1\nCOPY www /www\n"),
            ("www/index.html", "s\n"),
            ("www/health", "ok\n"),
        ],
    );
    let run = lab.pipeline(&["pipeline", "run", "web"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let events = lab.pipeline(&["pipeline", "run", "web", "--output", "json"]);

    let mut places = vec![
        Place("the output of a run".into(), [run.stdout, run.stderr].concat()),
        Place("the events of a run".into(), [events.stdout, events.stderr].concat()),
        Place("the rendered templates".into(), lab.ok(&["render"]).into_bytes()),
        Place("a plan".into(), lab.run(&["plan", "--offline", "--output", "json"]).stdout),
        Place("status".into(), lab.ok(&["status", "--output", "json"]).into_bytes()),
    ];
    for instance in instances(&lab) {
        let user_data = instance["user_data"].as_str().expect("user data");
        let text = STANDARD.decode(user_data).expect("base64");
        assert!(text.starts_with(b"#cloud-config"), "{}", String::from_utf8_lossy(&text));
        places.push(Place(format!("user data of {}", instance["id"]), text));
    }
    read_all(&home().join("templates"), &mut places);
    read_all(&home().join("local/test/logs"), &mut places);
    read_all(&home().join("serve").join(PROJECT), &mut places);
    read_all(&home().join("demo-test"), &mut places);
    for machine in lab.snapshot().expect("a cluster").machines {
        let container = lab.container(&machine);
        let read = |command: &str| tool("docker", &["exec", &container, "sh", "-c", command]).into_bytes();
        places.push(Place(format!("the journal of {container}"), read("journalctl --no-pager")));
        places.push(Place(format!("cloud-init's logs of {container}"), read("cat /var/log/cloud-init*.log")));
        places.push(Place(
            format!("the arguments on {container}"),
            read("cat /proc/[0-9]*/cmdline 2>/dev/null || true"),
        ));
    }
    let filter = format!("reference={}/demo/web", lab.var("FLEETWRIGHT_REGISTRY_PUSH"));
    let images = tool("docker", &["images", "--quiet", "--filter", &filter]);
    let image = images.lines().next().expect("an image was built");
    let archive = tempfile::NamedTempFile::new().expect("a file");
    tool("docker", &["save", "--output", archive.path().to_str().expect("UTF-8"), image]);
    places.push(Place("an image".into(), std::fs::read(archive.path()).expect("readable")));

    let secrets = secrets(&lab);
    let names: Vec<_> = secrets.iter().map(|secret| secret.what.as_str()).collect();
    for wanted in ["password", "api-token", "join-token/manager", "join-token/worker", "ca-key"] {
        assert!(names.iter().any(|name| name.contains(wanted)), "no {wanted} among {names:?}");
    }
    let found: Vec<_> = places
        .iter()
        .flat_map(|Place(place, text)| {
            secrets
                .iter()
                .filter(|secret| secret.forms.iter().any(|form| contains(text, form)))
                .map(move |secret| format!("{} is in {place}", secret.what))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    // What was searched was there to be searched.
    assert!(places.len() > 20, "only {} places", places.len());
}

fn contains(text: &[u8], form: &[u8]) -> bool {
    !form.is_empty() && text.windows(form.len()).any(|window| window == form)
}

fn read_all(folder: &Path, places: &mut Vec<Place>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            // The repositories hold what users wrote, packed.
            if entry.file_name() != "repos" {
                read_all(&entry.path(), places);
            }
        } else if let Ok(text) = std::fs::read(entry.path()) {
            places.push(Place(entry.path().display().to_string(), text));
        }
    }
}

fn instances(lab: &Lab) -> Vec<serde_json::Value> {
    let url = format!("{}/_fleetwright/instances", lab.var("AWS_ENDPOINT_URL"));
    let list: serde_json::Value =
        serde_json::from_str(&tool("curl", &["--silent", "--fail", &url])).expect("a document");
    let running = |instance: &&serde_json::Value| instance["state"] == "running";
    list["instances"].as_array().expect("a list").iter().filter(running).cloned().collect()
}

/// Every encrypted parameter there is.
fn secrets(lab: &Lab) -> Vec<Secret> {
    let scope = format!("test/20260101/{}/ssm/aws4_request", lab.var("AWS_REGION"));
    let mut parameters = Vec::new();
    let mut token = String::new();
    loop {
        let next = if token.is_empty() { String::new() } else { format!(r#","NextToken":"{token}""#) };
        let page: serde_json::Value = serde_json::from_str(&tool(
            "curl",
            &[
                "--silent",
                "--fail",
                "--header",
                "X-Amz-Target: AmazonSSM.GetParametersByPath",
                "--header",
                "Content-Type: application/x-amz-json-1.1",
                "--header",
                &format!(
                    "Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
                ),
                "--data",
                &format!(r#"{{"Path":"/fleetwright","Recursive":true,"WithDecryption":true{next}}}"#),
                lab.var("AWS_ENDPOINT_URL"),
            ],
        ))
        .expect("a document");
        parameters.extend(page["Parameters"].as_array().expect("a list").clone());
        match page["NextToken"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    let encrypted = parameters.iter().filter(|parameter| parameter["Type"] == "SecureString");
    encrypted
        .map(|parameter| {
            let name = parameter["Name"].as_str().expect("a name").to_owned();
            let value = parameter["Value"].as_str().expect("a value");
            match serde_json::from_str::<serde_json::Value>(value) {
                Ok(registry) if registry["password"].is_string() => {
                    secret(format!("{name}'s password"), registry["password"].as_str().unwrap_or_default())
                }
                // A key's own lines; its header and footer are in every certificate tool's log.
                _ if value.contains("PRIVATE KEY") => secret(name, value.lines().nth(1).unwrap_or_default()),
                _ => secret(name, value),
            }
        })
        .collect()
}

fn secret(what: String, value: &str) -> Secret {
    assert!(value.len() >= 16, "{what} is too short to be a secret");
    Secret { what, forms: vec![value.as_bytes().to_vec(), STANDARD.encode(value).into_bytes()] }
}
