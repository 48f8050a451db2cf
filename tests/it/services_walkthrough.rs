//! The first application of docs/services.md, run as it stands: PostgreSQL and a page, on the fleet.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::lab::{Lab, Running, poll, root};
use crate::support::walkthrough::{Step, assert_shown, steps};

/// The image that the document makes in this computer's Docker.
const BASE: &str = "shop/debian:12";

#[test]
fn the_first_application_of_the_documents_works() {
    let document = std::fs::read_to_string(root().join("docs/services.md")).expect("the document");
    let lab = Lab::up();
    // The document writes beside the repository as well.
    let around = tempfile::tempdir().expect("a folder");
    let shop = around.path().join("shop");
    let copied = Command::new("cp").arg("-r").args([lab.infra.path(), &shop]).status().expect("cp runs");
    assert!(copied.success());
    let program = Path::new(env!("CARGO_BIN_EXE_fleetwright")).parent().expect("a folder");
    let path = format!("{}:{}:/usr/sbin", program.display(), std::env::var("PATH").unwrap_or_default());
    // A variable that the document exports is there for the commands after it.
    let mut exported = String::new();
    let run = |line: &str| {
        let like = lab.command(&[]);
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("exec 2>&1; {line}")]).current_dir(&shop).env_clear();
        shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &path);
        for who in ["AUTHOR", "COMMITTER"] {
            shell.env(format!("GIT_{who}_NAME"), "Newcomer").env(format!("GIT_{who}_EMAIL"), "new@shop.test");
        }
        let output = shell.output().expect("the shell runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // The document's second terminal.
    let serve = |exported: &str| {
        let like = lab.command(&[]);
        let mut shell = Command::new("bash");
        let line = format!("{exported}exec fleetwright serve --listen 127.0.0.1:0 >../serve.log 2>&1");
        shell.args(["-c", &line]).current_dir(&shop).env_clear();
        shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &path);
        let server = Running(shell.spawn().expect("the shell runs"));
        poll(Duration::from_secs(30), || {
            run(&format!("{exported}fleetwright pipeline list")).0.then_some(())
        })
        .unwrap_or_else(|| {
            panic!("{}", std::fs::read_to_string(around.path().join("serve.log")).unwrap_or_default())
        });
        server
    };
    let mut server = None;
    let steps = steps(&document);
    assert!(steps.len() > 20, "the document has files and blocks of `console`");
    for step in steps {
        match step {
            Step::Write { path, text } => {
                let file = shop.join(path);
                std::fs::create_dir_all(file.parent().expect("a folder")).expect("created");
                std::fs::write(&file, text).expect("written");
            }
            Step::Run { command, lines } => {
                // The fleet of the tests is of another project.
                let command = command.replace("SHOP_", "DEMO_");
                if command.starts_with("export ") {
                    exported.push_str(&format!("{command}; "));
                    continue;
                }
                if command.starts_with("fleetwright pipeline ") && server.is_none() {
                    server = Some(serve(&exported));
                }
                let begun = Instant::now();
                let (good, printed) = run(&format!("{exported}{command}"));
                println!("$ {command}   {:.1} s\n{printed}", begun.elapsed().as_secs_f64());
                assert_shown(&command, &lines, &printed);
                // The migration that is shown to fail is the only command that may.
                assert!(
                    good || lines.iter().any(|line| line.contains("does not exist")),
                    "`{command}` failed"
                );
            }
        }
    }
    drop(server);
    let _ = run(&format!("docker rmi {BASE}"));
}
