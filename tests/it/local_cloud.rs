//! The local cloud for real: LocalStack, docker-registry, Docker and machines with systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use aws_sdk_autoscaling as autoscaling;
use aws_sdk_cloudformation as cloudformation;
use aws_sdk_ssm as ssm;
use fleetwright::event::Events;
use fleetwright::local::error::LocalError;
use fleetwright::local::home::Home;
use fleetwright::local::image::{self, Release};
use fleetwright::local::machines::{self, Machines};
use fleetwright::local::reconcile::Network;
use fleetwright::model::name::LocalName;

/// What no wait here should reach: a machine boots in seconds, on a busy computer in tens.
const PATIENCE: Duration = Duration::from_secs(120);

/// A local cloud of one test's own, removed at its end, however that comes.
struct Cloud {
    name: &'static str,
}

impl Cloud {
    fn new(name: &'static str) -> Self {
        let cloud = Self { name };
        // What a killed test run left.
        cloud.run(&["down"]);
        cloud
    }

    fn home() -> PathBuf {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::env::var_os("FLEETWRIGHT_HOME").map_or_else(|| checkout.join(".fleetwright"), PathBuf::from)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetwright"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("AWS_") || name.starts_with("FLEETWRIGHT_") {
                command.env_remove(name);
            }
        }
        command.env("FLEETWRIGHT_HOME", Self::home()).args(["local", "--name", self.name]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("fleetwright can be run")
    }

    /// Runs a verb that must succeed, and returns its data.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = std::fs::read_to_string(self.dir().join("logs/supervisor.log")).unwrap_or_default();
        assert!(output.status.success(), "local {arguments:?}: {errors}\n{log}");
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    }

    fn dir(&self) -> PathBuf {
        Self::home().join("local").join(self.name)
    }

    fn variables(&self) -> BTreeMap<String, String> {
        let text = self.ok(&["env"]);
        let lines = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        lines.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["status", "-o", "json"])).expect("status is JSON")
    }

    /// Machines whose cloud-init is done, by instance, with lifecycle and address.
    fn booted(&self) -> BTreeMap<String, (String, String)> {
        let status = self.status();
        let machines = status["machines"].as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let booted = machines.iter().filter(|m| m["container"] == "running" && m["cloud_init"] == "done");
        booted.map(|m| (text(&m["instance"]), (text(&m["lifecycle"]), text(&m["address"])))).collect()
    }

    fn container(&self, instance: &str) -> String {
        format!("fleetwright-{}-{instance}", self.name)
    }

    /// Runs a shell line in a machine.
    fn inside(&self, instance: &str, line: &str) -> String {
        docker(&["exec", &self.container(instance), "sh", "-c", line])
    }

    /// Everything of this cloud's that Docker still has.
    fn leftovers(&self) -> Vec<String> {
        let label = format!("label=fleetwright.local={}", self.name);
        let mut left = docker(&["ps", "-aq", "--filter", &label]);
        left.push_str(&docker(&["network", "ls", "-q", "--filter", &label]));
        left.push_str(&docker(&["volume", "ls", "-q", "--filter", &label]));
        left.lines().map(str::to_owned).collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker can be run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks until the answer is there.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

struct Clients {
    stacks: cloudformation::Client,
    groups: autoscaling::Client,
    parameters: ssm::Client,
}

impl Clients {
    fn new(variables: &BTreeMap<String, String>) -> Self {
        let endpoint = &variables["AWS_ENDPOINT_URL"];
        macro_rules! client {
            ($sdk:ident) => {{
                let config = $sdk::Config::builder()
                    .behavior_version($sdk::config::BehaviorVersion::latest())
                    .endpoint_url(endpoint)
                    .region($sdk::config::Region::new(variables["AWS_REGION"].clone()))
                    .credentials_provider($sdk::config::Credentials::new("test", "test", None, None, "test"));
                $sdk::Client::from_conf(config.build())
            }};
        }
        Self { stacks: client!(cloudformation), groups: client!(autoscaling), parameters: client!(ssm) }
    }

    async fn create_stack(&self, image: &str) {
        let parameter = cloudformation::types::Parameter::builder()
            .parameter_key("ImageId")
            .parameter_value(image)
            .build();
        self.stacks
            .create_stack()
            .stack_name("it-group")
            .template_body(include_str!("local_cloud/group.yaml"))
            .parameters(parameter)
            .capabilities(cloudformation::types::Capability::CapabilityIam)
            .send()
            .await
            .expect("the stack is accepted");
    }

    async fn scale(&self, to: i32) {
        let group = self.groups.set_desired_capacity().auto_scaling_group_name("it-group");
        group.desired_capacity(to).send().await.expect("the group can be scaled");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Runtime::new().expect("a runtime")
}

const TOKEN: &str = "T=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
                     http://169.254.169.254/latest/api/token); ";

fn metadata(cloud: &Cloud, instance: &str, path: &str) -> String {
    let line = format!(
        "{TOKEN} curl -sf -H \"X-aws-ec2-metadata-token: $T\" http://169.254.169.254/latest/meta-data/{path}"
    );
    cloud.inside(instance, &line)
}

#[test]
fn machines_follow_their_group() {
    let runtime = runtime();
    let cloud = Cloud::new("it-group");
    cloud.ok(&["up"]);
    let again = Instant::now();
    cloud.ok(&["up"]);
    assert!(again.elapsed() < Duration::from_secs(10), "a second `up` took {:?}", again.elapsed());
    let variables = cloud.variables();
    let clients = Clients::new(&variables);

    // Two machines, with the user data applied and who they are told.
    runtime.block_on(clients.create_stack(&variables["FLEETWRIGHT_MACHINE_IMAGE"]));
    let machines = until("two machines", || Some(cloud.booted()).filter(|m| m.len() == 2));
    let addresses: BTreeSet<&String> = machines.values().map(|(_, address)| address).collect();
    assert_eq!(addresses.len(), 2);
    for (instance, (_, address)) in &machines {
        assert_eq!(
            cloud.inside(instance, "hostname; cat /etc/greeting"),
            format!("{instance}\nfrom user data\n")
        );
        let port = variables["AWS_ENDPOINT_URL"].rsplit(':').next().unwrap_or_default();
        let greeted =
            until("the unit", || Some(cloud.inside(instance, "cat /run/greeted")).filter(|t| !t.is_empty()));
        assert_eq!(greeted, format!("eu-west-1 http://local-cloud.internal:{port}\n"));
        assert_eq!(&metadata(&cloud, instance, "instance-id"), instance);
        assert_eq!(&metadata(&cloud, instance, "local-ipv4"), address);
        assert_eq!(metadata(&cloud, instance, "tags/instance/fleetwright:role"), "worker");
        assert_eq!(metadata(&cloud, instance, "autoscaling/target-lifecycle-state"), "InService");
        let role = metadata(&cloud, instance, "iam/security-credentials/");
        assert!(
            metadata(&cloud, instance, &format!("iam/security-credentials/{role}")).contains("AccessKeyId")
        );
        let code =
            "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/instance-id";
        assert_eq!(cloud.inside(instance, code), "401");
        // The binary arrives as promised.
        let fetched =
            cloud.inside(instance, &format!("curl -sf {} | sha256sum", variables["FLEETWRIGHT_AGENT_URL"]));
        assert!(fetched.starts_with(&variables["FLEETWRIGHT_AGENT_SHA256"]));
    }

    // The registry: its password stands in a parameter, its certificate is good for machines too.
    let first = machines.keys().next().expect("there are two").clone();
    let parameter = runtime.block_on(
        clients.parameters.get_parameter().name("/fleetwright/registry").with_decryption(true).send(),
    );
    let parameter =
        parameter.expect("the parameter is there").parameter.and_then(|p| p.value).unwrap_or_default();
    let parameter: serde_json::Value = serde_json::from_str(&parameter).expect("it is JSON");
    let text = |key: &str| parameter[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(parameter["hosts"][1], variables["FLEETWRIGHT_REGISTRY_PULL"].as_str());
    let ask = format!(
        "printf '%s' '{}' > /run/ca.pem; curl -s --cacert /run/ca.pem -o /dev/null -w '%{{http_code}}' -u '{}:{}' https://{}/v2/",
        text("ca_pem"),
        text("username"),
        text("password"),
        variables["FLEETWRIGHT_REGISTRY_PULL"],
    );
    assert_eq!(cloud.inside(&first, &ask), "200");
    cloud.ok(&["registry", "stop"]);
    assert_ne!(cloud.inside(&first, &ask), "200");
    cloud.ok(&["registry", "start"]);
    assert_eq!(cloud.inside(&first, &ask), "200");

    // Scaled in: the machine gets its notice, and its time.
    runtime.block_on(clients.scale(1));
    let leaving = until("a machine waiting in its hook", || {
        cloud
            .booted()
            .into_iter()
            .find(|(_, (lifecycle, _))| lifecycle == "Terminating:Wait")
            .map(|(id, _)| id)
    });
    assert_eq!(metadata(&cloud, &leaving, "autoscaling/target-lifecycle-state"), "Terminated");
    assert_eq!(cloud.booted().len(), 2, "it keeps its machine while it waits");
    let complete = clients.groups.complete_lifecycle_action().auto_scaling_group_name("it-group");
    let complete = complete.lifecycle_hook_name("drain").instance_id(&leaving);
    runtime.block_on(complete.lifecycle_action_result("CONTINUE").send()).expect("the hook can be completed");
    until("the machine to go", || {
        docker(&["ps", "-aq", "--filter", &format!("name={}", cloud.container(&leaving))])
            .is_empty()
            .then_some(())
    });

    // A machine that reboots is the same instance, with its disks, in another boot.
    let staying = until("one machine", || Some(cloud.booted()).filter(|m| m.len() == 1)).into_keys().next();
    let staying = staying.expect("there is one");
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = cloud.inside(&staying, boot);
    cloud.inside(&staying, "echo kept > /var/kept; touch /run/reboot-required; systemctl reboot");
    let after = until("its second boot", || {
        // A machine that is going down prints something else, or nothing.
        Some(cloud.inside(&staying, boot)).filter(|id| id.len() == before.len() && *id != before)
    });
    println!("rebooted from {} into {}", before.trim(), after.trim());
    assert_eq!(cloud.inside(&staying, "cat /var/kept; ls /run/reboot-required 2>/dev/null"), "kept\n");
    until("it is up as before", || cloud.booted().contains_key(&staying).then_some(()));
    assert_eq!(metadata(&cloud, &staying, "instance-id"), staying);

    power_is_cut(&cloud, &staying);

    // A machine that vanishes is a terminated instance: another takes its place.
    let staying = until("one machine", || Some(cloud.booted()).filter(|m| m.len() == 1)).into_keys().next();
    let staying = staying.expect("there is one");
    docker(&["rm", "-f", &cloud.container(&staying)]);
    let next =
        until("its replacement", || cloud.booted().into_keys().find(|id| *id != staying && *id != leaving));
    assert_ne!(next, staying);
    let containers =
        docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", "label=fleetwright.local=it-group"]);
    assert!(!containers.contains(&staying), "a vanished machine came back: {containers}");

    // Nothing is left.
    cloud.ok(&["down"]);
    assert_eq!(cloud.leftovers(), Vec::<String>::new());
    assert!(!cloud.dir().exists());
    let status = cloud.status();
    assert_eq!(status["up"], false);
}

/// A machine whose power is cut is the same instance in another boot, even if its supervisor is
/// killed while it is off.
fn power_is_cut(cloud: &Cloud, instance: &str) {
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = cloud.inside(instance, boot);
    cloud.inside(instance, "echo cut > /var/kept; touch /run/marker /tmp/marker");
    let unknown = cloud.run(&["power-cycle", "i-0"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("`i-0`: no such instance has a machine"));

    let command = cloud
        .command(&["power-cycle", "--role", "worker", "--delay", "10s", "--seed", "7", "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("fleetwright can be run");
    let row = || {
        let machines = cloud.status()["machines"].as_array().cloned().unwrap_or_default();
        assert_eq!(machines.len(), 1, "{machines:?}");
        machines.into_iter().next().filter(|machine| machine["container"] == "off")
    };
    let off = until("the machine is off", row);
    assert_eq!((&off["instance"], &off["lifecycle"]), (&instance.into(), &"InService".into()));
    let again = cloud.run(&["power-cycle", instance]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("its power is cut already"));
    kill(cloud.status()["parts"][0]["pid"].as_i64().unwrap_or_default());
    until("the supervisor's end", || (cloud.status()["up"] == false).then_some(()));
    cloud.ok(&["up"]);

    let output = command.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    let events: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect();
    let what: Vec<&str> = events.iter().filter_map(|event| event["kind"]["local"]["what"].as_str()).collect();
    assert_eq!(what, ["power-cycle", "power-cut", "power-on"], "{events:?}");
    assert_eq!(events[0]["kind"]["local"]["seed"], 7);
    let seconds = events[2]["kind"]["local"]["seconds"].as_f64().unwrap_or_default();
    assert!((8.0..40.0).contains(&seconds), "it was off for {seconds} s");

    let after =
        until("its next boot", || Some(cloud.inside(instance, boot)).filter(|id| id.len() == before.len()));
    assert_ne!(after, before);
    assert_eq!(
        cloud.inside(instance, "cat /var/kept; ls /run/marker /tmp/marker 2>/dev/null; hostname"),
        format!("cut\n{instance}\n")
    );
    until("it is up as before", || cloud.booted().contains_key(instance).then_some(()));
    assert_eq!(metadata(cloud, instance, "instance-id"), instance);
    assert!(!cloud.dir().join("machines").join(instance).join("power.json").exists());
}

#[test]
fn a_dead_supervisor_is_taken_over_and_a_dead_emulator_is_told() {
    let runtime = runtime();
    let cloud = Cloud::new("it-faults");
    cloud.ok(&["up"]);
    let clients = Clients::new(&cloud.variables());
    let put = clients.parameters.put_parameter().name("/it/note").value("kept");
    runtime
        .block_on(put.r#type(ssm::types::ParameterType::String).send())
        .expect("a parameter can be written");

    let pid = |part: usize| cloud.status()["parts"][part]["pid"].as_i64().unwrap_or_default();
    let (supervisor, emulator) = (pid(0), pid(1));
    kill(supervisor);
    until("the supervisor's end", || (cloud.status()["up"] == false).then_some(()));
    assert!(!cloud.run(&["env"]).status.success(), "nobody supervises it");

    // The next one finds the emulator running, and all that it knows.
    cloud.ok(&["up"]);
    assert_eq!(pid(1), emulator);
    assert_ne!(pid(0), supervisor);
    let kept = runtime.block_on(clients.parameters.get_parameter().name("/it/note").send());
    assert_eq!(kept.expect("it is kept").parameter.and_then(|p| p.value).as_deref(), Some("kept"));

    // One of an earlier version that provides less is replaced in the same way.
    let (older, file) = (pid(0), cloud.dir().join("state.json"));
    let text = std::fs::read_to_string(&file).expect("the state");
    std::fs::write(&file, text.replace("\"serves\": 1", "\"serves\": 0")).expect("written");
    cloud.ok(&["up"]);
    assert_eq!(pid(1), emulator);
    assert_ne!(pid(0), older);

    // The registry is restarted; its storage is on disk.
    let registry = pid(2);
    kill(registry);
    until("a registry again", || {
        (pid(2) != registry && cloud.status()["parts"][2]["state"] == "running").then_some(())
    });

    // The emulator is not: everything it knew is gone, and that is said.
    kill(emulator);
    let broken = until("the broken cloud", || cloud.status()["broken"].as_str().map(str::to_owned));
    assert!(broken.contains("all stacks and instances"), "{broken}");
    let up = cloud.run(&["up"]);
    assert_eq!(up.status.code(), Some(1));
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(said.contains("local down --name it-faults && fleetwright local up"), "{said}");
    cloud.ok(&["down"]);
    assert_eq!(cloud.leftovers(), Vec::<String>::new());
}

fn kill(pid: i64) {
    assert!(pid > 1, "there is no such process");
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()));
}

#[test]
fn what_an_abandoned_cloud_left_makes_room_and_what_another_uses_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("local/it-other");
    std::fs::create_dir_all(&other).expect("a folder");
    let (network, machine) = ("fleetwright-it-other-vpc-1", "fleetwright-it-other-i-1");
    let labels = [
        "--label=fleetwright.local=it-other".to_owned(),
        format!("--label=fleetwright.local.folder={}", other.display()),
    ];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let of = |words: &[&str]| {
        let words = [&words[..2], labels.as_slice(), &words[2..]].concat();
        let output = Command::new("docker").args(&words).output().expect("docker can be run");
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    let runtime = runtime();
    let image = runtime.block_on(async {
        let connection = machines::connect().await.expect("Docker answers");
        let home = Home::from_env().expect("a home");
        image::ensure(&connection, &home, Release::default(), &Events::channel().0).await.expect("an image")
    });
    let abandon = || {
        of(&["network", "create", "--subnet=10.95.0.0/24", network]);
        of(&["volume", "create", machine]);
        let options = [format!("--network={network}"), format!("--name={machine}")];
        let volume = format!("--volume={machine}:/data");
        let run = ["container", "run", &options[0], &options[1], &volume, "--detach", "--entrypoint=sleep"];
        of(&[&run[..], &[image.as_str(), "600"]].concat());
    };
    let make = |vpc: &str| {
        runtime.block_on(async {
            let connection = machines::connect().await.expect("Docker answers");
            let name: LocalName = "it-room".parse().expect("a name");
            let files = Home::from_env().expect("a home").cloud(&name);
            let machines = Machines::new(connection, name, files);
            let cidr = "10.95.0.0/16".parse().expect("a range");
            let made = machines.create_network(&Network { vpc: vpc.to_owned(), cidr }).await;
            machines.remove_network(vpc).await.expect("removed");
            made
        })
    };
    let left = || {
        let each =
            [["container", "ls", "--all"], ["network", "ls", "--no-trunc"], ["volume", "ls", "--quiet"]];
        each.map(|words| {
            let filter = ["--quiet", "--filter", "label=fleetwright.local=it-other"];
            docker(&[&words[..], &filter].concat()).lines().count()
        })
    };

    abandon();
    let taken = make("vpc-1").expect_err("its machine runs");
    let expected = format!("local cloud `it-other` in {} uses it", other.display());
    assert!(taken.to_string().ends_with(&expected), "{taken}");
    let next = format!("FLEETWRIGHT_HOME={} fleetwright local down --name it-other", folder.path().display());
    assert!(taken.next().contains(&next), "{}", taken.next());
    docker(&["kill", machine]);
    let lock = std::fs::File::create(other.join("supervisor.lock")).expect("a lock");
    lock.lock().expect("locked");
    assert!(matches!(make("vpc-1"), Err(LocalError::Taken { .. })), "it is supervised");
    assert_eq!(left(), [1, 1, 1]);
    lock.unlock().expect("unlocked");
    make("vpc-1").expect("it was abandoned");
    assert_eq!(left(), [0, 0, 0]);

    // So it is when its folder was removed.
    abandon();
    docker(&["kill", machine]);
    std::fs::remove_dir_all(&other).expect("removed");
    make("vpc-1").expect("it was abandoned");
    assert_eq!(left(), [0, 0, 0]);
}

#[test]
fn a_cloud_of_the_same_name_under_another_home_is_left_alone() {
    let cloud = Cloud::new("it-home");
    let create = |name: &str, labels: &[String]| {
        let labels = labels.iter().flat_map(|label| ["--label", label.as_str()]);
        docker(&["volume", "create"].into_iter().chain(labels).chain([name]).collect::<Vec<_>>());
    };
    let of = |name: &str| {
        vec!["fleetwright.local=it-home".to_owned(), format!("fleetwright.local.instance={name}")]
    };
    let folder = |path: &str| format!("fleetwright.local.folder={path}");
    create("fleetwright-it-home-i-unmarked", &of("i-unmarked"));
    let own = cloud.dir().display().to_string();
    create("fleetwright-it-home-i-own", &[of("i-own"), vec![folder(&own)]].concat());
    create(
        "fleetwright-it-home-i-other",
        &[of("i-other"), vec![folder("/elsewhere/local/it-home")]].concat(),
    );

    cloud.ok(&["down"]);
    let left = docker(&["volume", "ls", "-q", "--filter", "label=fleetwright.local=it-home"]);
    docker(&["volume", "rm", "-f", "fleetwright-it-home-i-other"]);
    assert_eq!(left.trim(), "fleetwright-it-home-i-other");
}
