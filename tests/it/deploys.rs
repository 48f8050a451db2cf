//! What a team does every day with what runs, as it types it, on a real fleet.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fleetwright::model::service::{Instance, InstanceState, PreDeployState};

use crate::faults::{deploy, unique};
use crate::support::lab::{Lab, edit, poll, service, tool};
use crate::support::visitor::Visitor;

/// A command's exit status, and all that it printed.
fn run(lab: &Lab, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab.run(arguments);
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("$ fleetwright {}   -> {:?}\n{text}", arguments.join(" "), output.status.code());
    (output.status.code(), text)
}

/// Runs a command until it prints all of that: what happened is recorded a moment later.
fn told(lab: &Lab, arguments: &[&str], wanted: &[&str]) {
    let mut last = String::new();
    let all = poll(Duration::from_secs(20), || {
        let output = lab.run(arguments);
        last = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success() && wanted.iter().all(|text| last.contains(text))).then_some(())
    });
    println!("$ fleetwright {}\n{last}", arguments.join(" "));
    let missing: Vec<_> = wanted.iter().filter(|text| !last.contains(**text)).collect();
    assert!(all.is_some(), "{missing:?} is missing in:\n{last}");
}

#[test]
fn what_runs_becomes_what_the_files_say() {
    let lab = Lab::up();
    let file = lab.infra.path().join("services/web.yaml");
    deploy(&lab, &unique("deploys"));
    let plan = || run(&lab, &["deploy", "--plan"]);
    assert_eq!(plan().0, Some(0), "what a pipeline deployed is what the file says");
    let begun = Instant::now();
    let (code, text) = run(&lab, &["deploy", "-y"]);
    println!("deploying what runs already: {:?}", begun.elapsed());
    assert!(code == Some(0) && text.contains("`web` matches its file."), "{text}");

    // A change of the file is shown by its field, rolled out, and gone from the plan.
    edit(&file, "  replicas: 2\n", "  replicas: 2\n  env: {GREETING: hello}\n");
    let (code, text) = plan();
    assert!(code == Some(3) && text.contains("env.GREETING   hello"), "{text}");
    let (code, text) = run(&lab, &["deploy"]);
    assert!(code == Some(2) && text.contains("no terminal to ask on"), "{text}");
    let (code, text) = run(&lab, &["deploy", "web", "-y"]);
    assert!(code == Some(0) && text.contains("running"), "{text}");
    assert_eq!(plan().0, Some(0));

    // What an environment has of its own is merged in, and `render` shows it.
    edit(
        &file,
        "  env: {GREETING: hello}\n",
        "  env: {GREETING: hello}\n  environments: {local: {env: {MORE: \"${ssm:/nothing/here}\"}}}\n",
    );
    let (_, text) = run(&lab, &["render", "--services"]);
    assert!(text.contains("env.GREETING") && text.contains("env.MORE"), "{text}");
    // What can't be looked up is named with its place, and nothing begins.
    let (code, text) = run(&lab, &["deploy", "web", "-y"]);
    assert!(code == Some(1) && text.contains("`/nothing/here`, which does not exist in"), "{text}");
    assert!(text.contains("services/web.yaml:"), "{text}");
    // An output of a stack becomes the value of a variable; a plan of the stacks shows it beside them.
    edit(&file, "${ssm:/nothing/here}", "of ${workers.GroupName}");
    let (code, text) = run(&lab, &["plan", "--services"]);
    assert!(code == Some(3) && text.contains("env.MORE") && !text.contains("${"), "{text}");
    assert_eq!(run(&lab, &["deploy", "-y"]).0, Some(0));
    assert_eq!(run(&lab, &["plan", "--services"]).0, Some(0));
    let (code, text) = run(&lab, &["exec", "web", "--", "sh", "-c", "echo $MORE"]);
    assert!(code == Some(0) && text.contains("of tests-local-workers"), "{text}");

    // A number set by hand is kept, and told of.
    assert_eq!(run(&lab, &["scale", "web=3"]).0, Some(0));
    let (_, text) = run(&lab, &["status", "web"]);
    assert!(text.contains("3/3 healthy (scaled manually, its file says 2)"), "{text}");
    let (code, text) = run(&lab, &["restart", "web"]);
    assert!(code == Some(0) && text.contains("3 of 3 new instances"), "{text}");
    let (code, text) = plan();
    assert!(code == Some(0) && text.contains("web keeps 3 instances, set with `scale`"), "{text}");
    assert_eq!(run(&lab, &["stop", "web"]).0, Some(0));
    let (_, text) = run(&lab, &["status"]);
    assert!(text.contains("0/0") && text.contains("stopped"), "{text}");
    told(&lab, &["why", "web"], &["web was stopped by ", "next: `fleetwright start web`"]);
    assert_eq!(run(&lab, &["start", "web"]).0, Some(0));
    assert_eq!(run(&lab, &["scale", "web=2"]).0, Some(0));

    // One that can't work ends with its cause and its last lines, and what ran goes on.
    edit(
        &file,
        "  replicas: 2\n",
        "  replicas: 2\n  entrypoint: [/bin/sh, -c, 'echo no database; exit 7']\n",
    );
    let (code, text) = run(&lab, &["deploy", "-y"]);
    assert_eq!(code, Some(1), "{text}");
    for told in
        ["did not become healthy", "status 7", "| no database", "the previous revision is running again"]
    {
        assert!(text.contains(told), "`{told}` is missing in:\n{text}");
    }
    let (_, text) = run(&lab, &["status", "web"]);
    assert!(text.contains("2/2 healthy") && text.contains("no database"), "{text}");
    told(
        &lab,
        &["why", "web"],
        &[
            "web is whole",
            "failed and was rolled back",
            "exited",
            "with status 7",
            "| no database",
            "next: fix",
        ],
    );

    edit(&file, "  entrypoint: [/bin/sh, -c, 'echo no database; exit 7']\n", "");
    // One that is killed is an event as well, and so is its replacement.
    each(&lab, "web", |machine, id| tool("docker", &["exec", machine, "docker", "kill", id]));
    told(&lab, &["events", "web", "--since", "1m"], &["with status 137", "healthy on"]);
    told(
        &lab,
        &["events", "web"],
        &[
            "begins to roll out",
            ", by ",
            "scaled",
            "was stopped",
            "was started",
            "the service was stopped",
            "with status 7",
            "| no database",
            "the revision before was restored",
        ],
    );
    let document = run(&lab, &["events", "web", "-o", "json"]).1;
    let document: serde_json::Value = serde_json::from_str(&document).expect("one document");
    let ids: Vec<_> = document["events"].as_array().expect("events").iter().map(|one| &one["id"]).collect();
    let once: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!((once.len(), &document["missing"]), (ids.len(), &serde_json::json!([])));
    lab.until("web is whole again", Duration::from_secs(60), |snapshot| {
        service(snapshot, "web").filter(|web| web.is_whole()).map(|_| ())
    });
    secrets(&lab);

    // An image that is not there, a service that is not there, a revision that is not there.
    for (arguments, told) in [
        (vec!["deploy", "web", "--image", "demo/web:none", "-y"], "there is no image"),
        (vec!["deploy", "web", "--image", "other/web:1", "-y"], "is not an image of service `web`"),
        (vec!["deploy", "wbe", "-y"], "did you mean `web`?"),
        (vec!["rollback", "web", "--to", "999"], "there is no revision"),
    ] {
        let (code, text) = run(&lab, &arguments);
        assert!(matches!(code, Some(1 | 2)) && text.contains(told), "{text}");
    }
}

#[test]
fn commands_releases_and_volumes_are_what_they_are_said_to_be() {
    let lab = Lab::up();
    deploy(&lab, &unique("releases"));
    commands_before(&lab);
    releases(&lab);
    volumes(&lab);
}

/// A command before a rollout: what ran before keeps running where it fails, and it runs once where it succeeds.
fn commands_before(lab: &Lab) {
    let file = lab.infra.path().join("services/web.yaml");
    let running = || {
        let snapshot = lab.snapshot().expect("the cluster answers");
        let web = service(&snapshot, "web").expect("the service").clone();
        // What was replaced may still be stopping.
        let healthy = web.instances.iter().filter(|instance| instance.state == InstanceState::Healthy);
        let ids: BTreeSet<String> = healthy.map(|instance| instance.id.clone()).collect();
        (web, ids)
    };
    edit(&file, "  replicas: 2\n", "  replicas: 2\n  env: {GREETING: hello}\n");
    assert_eq!(run(lab, &["deploy", "-y"]).0, Some(0));
    let (_, before) = running();
    let failing = "  pre_deploy: {command: [/bin/sh, -c, 'echo $GREETING no table; exit 4'], timeout: 1m}\n";
    edit(&file, "  replicas: 2\n", &format!("  replicas: 2\n{failing}"));
    let (code, text) = run(lab, &["deploy", "--plan"]);
    assert!(code == Some(3) && text.contains("pre_deploy.command"), "{text}");
    let (code, text) = run(lab, &["deploy", "-y"]);
    assert_eq!(code, Some(1), "{text}");
    for told in ["was not rolled out", "status 4", "| hello no table", "no instance was replaced"] {
        assert!(text.contains(told), "`{told}` is missing in:\n{text}");
    }
    let (web, after) = running();
    assert_eq!(before, after, "what ran before keeps running");
    assert_eq!(web.history[0].pre_deploy, Some(PreDeployState::Failed), "{web:#?}");
    let (_, text) = run(lab, &["status", "web"]);
    assert!(text.contains("2/2 healthy") && text.contains("| hello no table"), "{text}");

    edit(&file, "exit 4", "exit 0");
    let (code, text) = run(lab, &["deploy", "-y"]);
    assert!(code == Some(0) && text.contains("pre_deploy running") && text.contains("running"), "{text}");
    assert_eq!(run(lab, &["deploy", "--plan"]).0, Some(0), "after `deploy` the plan is empty");
    let (web, _) = running();
    assert_eq!(web.history[0].pre_deploy, Some(PreDeployState::Succeeded), "{web:#?}");
    // The number of instances is no revision, and a rollback runs no command.
    assert_eq!(run(lab, &["rollback", "web"]).0, Some(0));
    let (web, _) = running();
    assert_eq!(web.history[0].pre_deploy, None, "{web:#?}");
    let text = std::fs::read_to_string(&file).expect("readable");
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("pre_deploy")).collect();
    std::fs::write(&file, without.join("\n") + "\n").expect("written");
}

/// Three services that are released together: the last one fails, and all are back where they were.
fn releases(lab: &Lab) {
    let folder = lab.infra.path().join("services");
    let image = "docker service inspect web --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}'";
    let image = lab.on_manager(image).expect("the image of `web`").trim().to_owned();
    let text = format!(
        "api:\n  image: {image}\n  env: {{STEP: \"1\"}}\n  update: {{monitor: 1s}}\n\
         worker:\n  image: {image}\n  update: {{monitor: 1s}}\n  depends_on: [api]\n"
    );
    let file = folder.join("more.yaml");
    std::fs::write(&file, text).expect("written");
    assert_eq!(run(lab, &["deploy", "api", "-y"]).0, Some(0));
    let before = lab.snapshot().expect("the cluster answers");
    let before = service(&before, "web").expect("the service").instances.clone();
    edit(&file, "STEP: \"1\"", "STEP: \"2\"");
    let web = folder.join("web.yaml");
    let last = "  depends_on: [worker]\n  pre_deploy: {command: [/bin/sh, -c, 'echo no table; exit 4']}\n";
    edit(&web, "  replicas: 2\n", &format!("  replicas: 2\n{last}"));
    let (code, text) = run(lab, &["deploy", "web", "worker", "api", "--together", "-y"]);
    assert_eq!(code, Some(1), "{text}");
    for told in [
        "was not rolled out",
        "| no table",
        "`api` is back at revision 1",
        "`worker` was removed, as it did not exist before",
        "`web` is at revision",
    ] {
        assert!(text.contains(told), "`{told}` is missing in:\n{text}");
    }
    let order = ["api   revision 2", "worker   revision 1", "web   revision"];
    let places: Vec<usize> = order.iter().map(|line| text.find(line).expect(line)).collect();
    assert!(places.is_sorted(), "{text}");
    let after = lab.snapshot().expect("the cluster answers");
    assert!(service(&after, "worker").is_none(), "{:#?}", after.services);
    assert_eq!(inside(lab, "api", "echo $STEP"), ["1\n"]);
    let ids = |instances: &[Instance]| instances.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&service(&after, "web").expect("the service").instances), ids(&before));
    assert_eq!(run(lab, &["rm", "api", "-y"]).0, Some(0));
    std::fs::remove_file(&file).expect("removed");
    edit(&web, last, "");
}

/// Sets a secret as a script does.
fn set(lab: &Lab, name: &str, value: &str) -> (Option<i32>, String) {
    let mut command = lab.command(&["secret", "set", name]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("it starts");
    child.stdin.take().expect("its stdin").write_all(value.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("$ fleetwright secret set {name}   -> {:?}\n{text}", output.status.code());
    (output.status.code(), text)
}

/// Runs a program in every healthy instance of a service; what each printed.
fn inside(lab: &Lab, name: &str, script: &str) -> Vec<String> {
    let run = |machine: &str, id: &str| {
        tool("docker", &["exec", machine, "docker", "exec", id, "/bin/sh", "-c", script])
    };
    each(lab, name, run)
}

/// Calls `run` with the machine and the container of every healthy instance of a service.
fn each(lab: &Lab, name: &str, run: impl Fn(&str, &str) -> String) -> Vec<String> {
    let snapshot = lab.snapshot().expect("the cluster answers");
    let instances = &service(&snapshot, name).expect("the service").instances;
    let healthy = instances.iter().filter(|instance| instance.state == InstanceState::Healthy);
    healthy
        .map(|instance| {
            let on = instance.machine.as_ref().expect("it is placed");
            let machine = snapshot.machines.iter().find(|machine| machine.id == *on).expect("the machine");
            let filter = format!("label=com.docker.swarm.task.id={}", instance.id);
            let container = lab.container(machine);
            let id = tool("docker", &["exec", &container, "docker", "ps", "-q", "--filter", &filter]);
            run(&container, id.trim())
        })
        .collect()
}

/// The engine's secrets of this test.
fn engine_secrets(lab: &Lab) -> Vec<String> {
    let listed = lab.on_manager("docker secret ls --format '{{.ID}} {{.Label \"fleetwright.secret\"}}'");
    let listed = listed.unwrap_or_default();
    let of = |line: &str| line.split_once(' ').map(|(id, name)| (id.to_owned(), name.to_owned()));
    let ours = |name: &str| ["session-key", "db-password"].contains(&name);
    listed.lines().filter_map(of).filter(|(_, name)| ours(name)).map(|(id, _)| id).collect()
}

/// A secret as a file and as a variable, in no specification; a new value; a file of the repository.
fn secrets(lab: &Lab) {
    // The fleet may have served this test before.
    for name in ["session-key", "db-password"] {
        run(lab, &["secret", "rm", name, "-y"]);
    }
    assert_eq!(run(lab, &["deploy", "-y"]).0, Some(0));
    let file = lab.infra.path().join("services/web.yaml");
    let conf = lab.infra.path().join("templates/files/app.conf");
    std::fs::create_dir_all(conf.parent().expect("a folder")).expect("created");
    std::fs::write(&conf, "service <{ service }> in <{ environment }> says <{ env.GREETING }>\n")
        .expect("written");
    edit(
        &file,
        "  replicas: 2\n",
        "  replicas: 2\n  secrets:\n    - {name: session-key, target: key, mode: \"0400\"}\n    - {name: db-password, env: DB_PASSWORD}\n  files: [\"templates/files/app.conf:/etc/app.conf\"]\n",
    );
    // A value is never an argument, and one that is missing is an error before anything starts.
    let (code, text) = run(lab, &["secret", "set", "db-password", "hunter2"]);
    assert!(code == Some(2) && !text.contains("hunter2"), "{text}");
    assert_eq!(set(lab, "session-key", "key-of-the-sessions").0, Some(0));
    let (code, text) = run(lab, &["deploy", "-y"]);
    assert!(code == Some(1) && text.contains("secrets that are not set: `db-password`"), "{text}");
    let (code, text) = run(lab, &["secret", "ls"]);
    assert!(code == Some(0) && missing(&text, "db-password"), "{text}");
    let first = "first-of-the-passwords";
    assert_eq!(set(lab, "db-password", &format!("{first}\n")).0, Some(0));
    let (code, text) = run(lab, &["deploy", "--plan"]);
    assert!(code == Some(3) && text.contains("secrets.db-password.value") && !text.contains(first), "{text}");
    assert_eq!(run(lab, &["deploy", "-y"]).0, Some(0));
    assert_eq!(run(lab, &["deploy", "--plan"]).0, Some(0), "after `deploy` the plan is empty");
    // The first process has the variable; a shell beside it has not.
    let script = "tr '\\0' '\\n' </proc/1/environ | grep ^DB_; cat /run/secrets/key; echo; ls -l /run/secrets/key | cut -c1-10; cat /etc/app.conf; echo beside ${DB_PASSWORD:-nothing}";
    let expected = format!(
        "DB_PASSWORD={first}\nkey-of-the-sessions\n-r--------\nservice web in local says hello\nbeside nothing\n"
    );
    assert_eq!(inside(lab, "web", script), [expected.clone(), expected]);
    // What `exec` and `run` start has it as well, in an environment of its own.
    let script = "echo $DB_PASSWORD; cat /etc/app.conf";
    let expected = format!("{first}\nservice web in local says hello\n");
    assert_eq!(lab.ok(&["exec", &lab.instances()[0], "--", "/bin/sh", "-c", script]), expected);
    assert_eq!(lab.ok(&["run", "web", "-t", "--", "/bin/sh", "-c", script]).replace('\r', ""), expected);
    let seen = [
        lab.on_manager("docker service inspect web; docker config ls -q | xargs docker config inspect")
            .unwrap_or_default(),
        each(lab, "web", |machine, id| tool("docker", &["exec", machine, "docker", "inspect", id])).concat(),
        each(lab, "web", |machine, _| {
            tool("docker", &["exec", machine, "journalctl", "--no-pager", "-n", "2000"])
        })
        .concat(),
        run(lab, &["audit"]).1,
        run(lab, &["deploy", "--plan", "-o", "json"]).1,
    ];
    for text in seen {
        assert!(text.len() > 100 && !text.contains(first), "{text}");
    }

    // A job that has ended has the value as well, in a container that is kept for its log.
    let job = lab.infra.path().join("jobs/reads.yaml");
    std::fs::create_dir_all(job.parent().expect("a folder")).expect("created");
    std::fs::write(&job, "reads:\n  service: web\n  command: [/bin/sh, -c, 'test -n \"$DB_PASSWORD\"']\n")
        .expect("written");
    assert_eq!(run(lab, &["deploy", "reads", "-y"]).0, Some(0));
    assert_eq!(run(lab, &["job", "run", "reads"]).0, Some(0));
    std::fs::remove_file(&job).expect("removed");

    let before = engine_secrets(lab);
    assert_eq!(before.len(), 2, "{before:?}");
    assert_eq!(set(lab, "db-password", "second-of-the-passwords").0, Some(0));
    let (code, text) = run(lab, &["deploy", "--plan"]);
    assert!(code == Some(3) && text.contains("version 1") && text.contains("version 2"), "{text}");
    // No request fails during the rotation.
    let visitor = Visitor::start(lab, "web");
    assert_eq!(run(lab, &["deploy", "web", "-y"]).0, Some(0));
    let (asked, failed) = visitor.end();
    println!("the visitor asked {asked} times during the rotation");
    assert!(asked > 50 && failed.is_empty(), "{asked} requests: {failed:#?}");
    for text in inside(lab, "web", "tr '\\0' '\\n' </proc/1/environ | grep ^DB_") {
        assert_eq!(text, "DB_PASSWORD=second-of-the-passwords\n");
    }
    // A rollback is about what ran, not about what the secrets were.
    assert_eq!(run(lab, &["rollback", "web"]).0, Some(0));
    for text in inside(lab, "web", "tr '\\0' '\\n' </proc/1/environ | grep ^DB_") {
        assert_eq!(text, "DB_PASSWORD=second-of-the-passwords\n");
    }
    let left = poll(Duration::from_secs(150), || {
        let now = engine_secrets(lab);
        (now.len() == 2 && now != before).then_some(now)
    });
    assert!(left.is_some(), "the previous value is still there: {:?}", engine_secrets(lab));
    assert_eq!(run(lab, &["job", "rm", "reads"]).0, Some(0));
    let (code, text) = run(lab, &["secret", "rm", "db-password", "-y"]);
    assert!(code == Some(2) && text.contains("is used by `web`"), "{text}");
}

/// A volume binds its service to a machine, and is not lost unless it is named.
fn volumes(lab: &Lab) {
    let snapshot = lab.snapshot().expect("the cluster answers");
    let digest = service(&snapshot, "web").expect("the service").history[0].digest.clone().expect("a digest");
    let file = lab.infra.path().join("services/store.yaml");
    let text = std::fs::read_to_string(lab.infra.path().join("services/web.yaml")).expect("readable");
    let image = text.lines().find(|line| line.contains("image:")).expect("an image");
    let volume = format!("data-{}", std::process::id());
    std::fs::write(
        &file,
        format!(
            "store:\n{image}\n  health: {{http: /health, port: 8080}}\n  volumes: [\"{volume}:/data\"]\n"
        ),
    )
    .expect("written");
    let digest = digest.to_string();
    assert_eq!(run(lab, &["deploy", "store", "--image", &digest, "-y"]).0, Some(0));
    inside(lab, "store", "echo kept >/data/file");
    assert_eq!(run(lab, &["restart", "store"]).0, Some(0));
    assert_eq!(inside(lab, "store", "cat /data/file"), ["kept\n"]);
    names(lab);
    // It begins elsewhere once it has stopped here: the volume can't be used by both.
    let place = || {
        let found = poll(Duration::from_secs(90), || {
            let snapshot = lab.snapshot()?;
            let instances = &service(&snapshot, "store")?.instances;
            let healthy = instances.iter().find(|instance| instance.state == InstanceState::Healthy)?;
            healthy.machine.clone()
        });
        found.expect("it runs").to_string()
    };
    let machine = place();
    let (code, text) = run(lab, &["drain", &machine]);
    assert!(
        code == Some(1) && text.contains(&format!("keeps volume `{volume}` of service `store`")),
        "{text}"
    );
    let (code, text) = run(lab, &["drain", &machine, "--lose-volume", &volume]);
    assert_eq!(code, Some(0), "{text}");
    assert_ne!(place(), machine);
    told(lab, &["events", &machine], &["is being emptied, by "]);
    assert_eq!(inside(lab, "store", "ls /data"), [""]);
    assert_eq!(run(lab, &["rm", "store", "-y"]).0, Some(0));
    std::fs::remove_file(&file).expect("removed");
    // The fleet serves other tests as well.
    let snapshot = lab.snapshot().expect("the cluster answers");
    let drained = snapshot.machines.iter().find(|one| one.id.as_str() == machine).expect("the machine");
    lab.undrain(drained);
}

/// Services find each other by name, on whichever machines they run, and not an instance that is gone.
fn names(lab: &Lab) {
    // Of a static busybox, only this program resolves names.
    let addresses = || {
        let text = inside(lab, "store", "busybox nslookup web 127.0.0.11 2>&1 || true").concat();
        println!("{text}");
        let answers = text.split_once("Name:").map_or("", |(_, answers)| answers);
        let words = answers.split(|c: char| c.is_whitespace() || c == ':');
        words
            .filter(|word| word.parse::<std::net::Ipv4Addr>().is_ok())
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let two = addresses();
    assert_eq!(two.len(), 2, "{two:?}");
    for address in two {
        let answer = inside(lab, "store", &format!("/.fleetwright/probe http {address}:8080 /health"));
        assert!(answer.concat().starts_with("200 in "), "{answer:?}");
    }
    assert_eq!(run(lab, &["scale", "web=1"]).0, Some(0));
    assert!(poll(Duration::from_secs(20), || (addresses().len() == 1).then_some(())).is_some());
    assert_eq!(run(lab, &["scale", "web=2"]).0, Some(0));
}

#[test]
fn a_job_runs_once_and_a_command_passes_its_status_on() {
    let lab = Lab::up();
    deploy(&lab, &unique("jobs"));
    let folder = lab.infra.path().join("jobs");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("report.yaml");
    let conf = lab.infra.path().join("templates/files/report.conf");
    std::fs::create_dir_all(conf.parent().expect("a folder")).expect("created");
    std::fs::write(&conf, "<{ job }> of <{ service }> in <{ environment }> for <{ env.WHOM }>\n")
        .expect("written");
    let text = "report:\n  service: web\n  command: [/bin/sh, -c, 'echo report for $WHOM; cat /etc/report.conf; exit $STATUS']\n  \
                env: {WHOM: ada, STATUS: \"0\"}\n  files: [\"templates/files/report.conf:/etc/report.conf\"]\n  schedule: \"0 4 * * *\"\n  timezone: Europe/Berlin\n";
    std::fs::write(&file, text).expect("written");
    let (code, text) = run(&lab, &["deploy", "--plan"]);
    assert!(
        code == Some(3) && text.contains("job report   is created") && text.contains("Europe/Berlin"),
        "{text}"
    );
    assert_eq!(run(&lab, &["deploy", "report", "-y"]).0, Some(0));
    assert_eq!(run(&lab, &["deploy", "--plan"]).0, Some(0), "it is what the file says");
    let (_, text) = run(&lab, &["job", "ls"]);
    assert!(text.contains("0 4 * * * Europe/Berlin"), "{text}");
    let (code, text) = run(&lab, &["job", "run", "report"]);
    assert!(code == Some(0) && text.contains("report for ada") && text.contains("succeeded"), "{text}");
    assert!(text.contains("report of web in local for ada"), "{text}");
    let (code, text) = run(&lab, &["job", "logs", "report"]);
    assert!(code == Some(0) && text.contains("report for ada"), "{text}");

    edit(&file, "STATUS: \"0\"", "STATUS: \"3\"");
    assert_eq!(run(&lab, &["deploy", "-y"]).0, Some(0));
    let (code, text) = run(&lab, &["job", "run", "report"]);
    assert!(code == Some(1) && text.contains("failed: it exited with status 3"), "{text}");
    let (_, text) = run(&lab, &["job", "history", "report"]);
    assert!(text.contains("succeeded") && text.contains("failed"), "{text}");

    let command = ["run", "web", "--", "/bin/sh", "-c", "echo here; exit 9"];
    let (code, text) = run(&lab, &command);
    assert!(code == Some(9) && text.contains("here"), "{text}");
    let (_, text) = run(&lab, &["status"]);
    assert!(text.contains("web") && !text.contains("run_web") && !text.contains("report"), "{text}");
    let (_, text) = run(&lab, &["audit"]);
    assert!(text.contains("run-command") && text.contains("run-job") && !text.contains("exit 9"), "{text}");
    assert_eq!(run(&lab, &["job", "rm", "report"]).0, Some(0));
    std::fs::remove_file(&file).expect("removed");
    std::fs::remove_file(&conf).expect("removed");
}

/// Whether a list of secrets says that this one is not set, however wide its columns are.
fn missing(list: &str, name: &str) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    list.lines().any(|line| words(line).starts_with(&[name, "-", "not", "set"].map(str::to_owned)))
}
