//! Logs of running and ended instances, as people read them, on a real fleet.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};

use crate::faults::{deploy, unique};
use crate::support::lab::{Lab, Running};

/// Has an instance write a line to its log.
fn write(lab: &Lab, instance: &str, line: &str) {
    lab.ok(&["exec", instance, "--", "sh", "-c", &format!("echo '{line}' >/proc/1/fd/1")]);
}

fn lines(lab: &Lab, arguments: &[&str]) -> Vec<String> {
    let arguments = [&["logs"], arguments].concat();
    let text = lab.ok(&arguments);
    println!("$ fleetwright {}\n{text}", arguments.join(" "));
    text.lines().map(str::to_owned).collect()
}

/// What stands behind the bar of each line.
fn texts(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.split_once(" | ").expect("a bar").1).collect()
}

#[test]
fn lines_come_in_the_order_of_time_also_of_instances_that_have_ended() {
    let lab = Lab::up();
    deploy(&lab, &unique("logs"));
    let [first, second] = lab.instances();
    let mark = unique("mark").replace(' ', "-");
    let line = |number: u32| format!("{mark} a|b {number}");
    let now = || Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
    let mut times = Vec::new();
    for number in 1..=6 {
        times.push(now());
        write(&lab, if number % 2 == 1 { &first } else { &second }, &line(number));
    }
    let all: Vec<String> = (1..=6).map(line).collect();
    let found = lines(&lab, &["web", "--grep", &mark]);
    assert_eq!(texts(&found), all);
    assert!(
        found[0].starts_with(&format!("{first} i-")) && found[1].starts_with(&format!("{second} i-")),
        "{found:?}"
    );
    // One instance, several, the newest of each, and none.
    assert_eq!(texts(&lines(&lab, &[&first, "--grep", &mark])), [&all[0], &all[2], &all[4]]);
    assert_eq!(texts(&lines(&lab, &[&second, &first, "--grep", &mark])), all);
    assert_eq!(texts(&lines(&lab, &["web", "--grep", &mark, "--tail", "1"])), [&all[4], &all[5]]);
    assert_eq!(lines(&lab, &["web", "--grep", "a.b 1"]), [""; 0], "it is no pattern");
    // A span of time; the time of each line.
    let between = lines(&lab, &["web", "-t", "--since", &times[1], "--until", &times[4], "--grep", &mark]);
    assert_eq!(texts(&between), all[1..4]);
    assert!(
        between.windows(2).all(|pair| pair[0].split(' ').next() < pair[1].split(' ').next()),
        "{between:?}"
    );
    assert_eq!(texts(&lines(&lab, &["web", "--since", "10m", "--grep", &mark])), all);
    let json = lines(&lab, &["web", "--grep", &mark, "-o", "json"]);
    let json: Vec<serde_json::Value> =
        json.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&json[1]["instance"], &json[1]["text"]), (&second.as_str().into(), &all[1].as_str().into()));
    assert!(json[0]["timestamp"].as_str() < json[1]["timestamp"].as_str(), "{json:?}");
    // What is not there.
    let none = lab.run(&["logs", "web@77", "--grep", &mark]);
    let text = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(none.status.code() == Some(1) && text.contains(&format!("{first}, {second}")), "{text}");

    // Those to come, also of instances that start meanwhile.
    let mut child = lab.command(&["logs", "web", "--follow", "--grep", &mark, "--tail", "1"]);
    let mut child = Running(child.stdout(Stdio::piped()).spawn().expect("the binary runs"));
    let (sender, followed) = mpsc::channel();
    let output = BufReader::new(child.0.stdout.take().expect("a pipe"));
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let next = || followed.recv_timeout(Duration::from_secs(30)).expect("a line");
    assert!(next().ends_with(&all[4]) && next().ends_with(&all[5]));
    write(&lab, &second, &line(7));
    assert!(next().ends_with(&line(7)));
    lab.ok(&["restart", "web"]);
    let [first, _] = lab.instances();
    write(&lab, &first, &line(8));
    assert!(next().ends_with(&line(8)));

    // The instances that were replaced have ended, and their machines have their lines.
    let all: Vec<String> = (1..=8).map(line).collect();
    assert_eq!(texts(&lines(&lab, &["web", "--grep", &mark])), all);
}
