//! `serve` watches a repository over ssh, with a deploy key, as docs/infra-repository.md describes it. sshd, ssh, git and
//! Docker are real.

use crate::pipeline_serve::Site;
use crate::support::git_ssh::GitSsh;

const DOCKERFILE: (&str, &[u8]) = ("Dockerfile", b"FROM scratch\nCOPY . /srv\n");

/// A site whose repository is at the server, with one commit.
fn site(ssh: &GitSsh) -> Site {
    let mut site = Site::new();
    site.set("WEB", ssh.url());
    push(&site, ssh, "first");
    site
}

fn push(site: &Site, ssh: &GitSsh, subject: &str) {
    site.origin.commit(subject, &[DOCKERFILE, ("subject", subject.as_bytes())]);
    ssh.push(&site.origin);
}

fn succeeds(site: &Site, subject: &str) {
    site.wait_for(subject, |run| run["subject"] == subject && run["state"] == "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_over_ssh_is_run_also_when_the_server_was_away_meanwhile() {
    let mut ssh = GitSsh::serve();
    ssh.authorise();
    ssh.know();
    let mut site = site(&ssh);
    site.set("GIT_SSH_COMMAND", ssh.command());
    let serve = site.serve();
    succeeds(&site, "first");
    push(&site, &ssh, "second");
    succeeds(&site, "second");

    ssh.stop();
    let complaint = serve.says("repository `web`: ");
    assert!(complaint.contains(&format!("port {}: Connection refused", ssh.port())), "{complaint}");
    assert!(complaint.ends_with("; trying again"), "{complaint}");
    push(&site, &ssh, "third");
    ssh.start();
    serve.says("repository `web` answers again");
    succeeds(&site, "third");
    assert_eq!(site.runs().len(), 3, "each push is run once");
    assert_eq!(site.cluster.deployments().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_key_is_not_known_or_has_changed_is_not_trusted() {
    let mut ssh = GitSsh::serve();
    ssh.authorise();
    let mut site = site(&ssh);
    site.set("GIT_SSH_COMMAND", ssh.command());
    let serve = site.serve();
    let complaint = serve.says("repository `web`: ");
    assert!(complaint.contains("Host key verification failed"), "{complaint}");
    let next = serve.says(" next: ");
    let scan = format!("`ssh-keyscan -p {} 127.0.0.1`", ssh.port());
    assert!(next.contains(&scan) && next.contains("known_hosts"), "{next}");
    // Whoever asks for a run gets the same reason.
    let (good, _, stderr) = site.run(&["pipeline", "run", "web"]);
    assert!(!good && stderr.contains("Host key verification failed") && stderr.contains(&scan), "{stderr}");
    assert_eq!(site.runs().len(), 0, "what can't be read is no run");

    // What the next step says is all that is needed.
    ssh.know();
    serve.says("repository `web` answers again");
    succeeds(&site, "first");

    push(&site, &ssh, "second");
    succeeds(&site, "second");
    ssh.replace_host_key();
    push(&site, &ssh, "from another host");
    // Its key is noticed once it is there; before that, it does not answer.
    let removal = format!("`ssh-keygen -R '[127.0.0.1]:{}'`", ssh.port());
    let next = serve.says(&removal);
    assert!(next.contains("somebody may pretend to be 127.0.0.1"), "{next}");
    assert_eq!(site.runs().len(), 2, "nothing of a host with another key is run");
    ssh.know();
    succeeds(&site, "from another host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_repository_does_not_accept_is_reported_and_counts_once_it_does() {
    let ssh = GitSsh::serve();
    ssh.know();
    let site = site(&ssh);
    // Without the variable, git's own setting says which ssh it is.
    let settings = format!("[core]\n\tsshCommand = {}\n", ssh.command());
    std::fs::write(site.folder.path().join(".gitconfig"), settings).expect("written");
    let serve = site.serve();
    let complaint = serve.says("repository `web`: ");
    assert!(complaint.contains("Permission denied (publickey)"), "{complaint}");
    let next = serve.says(" next: ");
    assert!(next.contains("as a deploy key") && next.contains("GIT_SSH_COMMAND"), "{next}");
    let (good, _, stderr) = site.run(&["pipeline", "run", "web"]);
    assert!(!good && stderr.contains("Permission denied (publickey)"), "{stderr}");
    assert!(stderr.contains("as a deploy key"), "{stderr}");
    assert_eq!(site.runs().len(), 0, "what can't be read is no run");

    ssh.authorise();
    serve.says("repository `web` answers again");
    succeeds(&site, "first");
}
