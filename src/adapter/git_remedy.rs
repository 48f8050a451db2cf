//! What a person can do when ssh does not let git through. ssh says what is wrong, and never what to do about it on a
//! machine where nobody answers its questions.

/// The next step after what git and ssh have written, for the repository at `url`; `None` where nothing is known.
pub fn next(said: &str, url: &str) -> Option<String> {
    let has = |sign: &str| said.contains(sign);
    let (host, port) = host(url)?;
    let port_option = port.map(|port| format!("-p {port} ")).unwrap_or_default();
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED")
        || has("has changed and you have requested strict checking")
    {
        let named = port.map_or_else(|| host.to_owned(), |port| format!("[{host}]:{port}"));
        return Some(format!(
            "somebody may pretend to be {host}. Compare the fingerprints with those that it publishes; if its key was \
             replaced, `ssh-keygen -R '{named}'` removes the old one, and `ssh-keyscan {port_option}{host}` prints the new one"
        ));
    }
    if has("Host key verification failed") {
        return Some(format!(
            "add the host's key to the known_hosts file of the user that runs the server: `ssh-keyscan {port_option}{host}` \
             prints it, `ssh-keygen -lf -` its fingerprint to compare with those that the host publishes"
        ));
    }
    if has("Permission denied (") {
        return Some(format!(
            "add the server's public key to the repository at {host} as a deploy key that may read, and name the private one \
             in `IdentityFile` of ssh's configuration or in GIT_SSH_COMMAND"
        ));
    }
    None
}

/// The host and port that ssh connects to; `None` for what is no address of ssh.
fn host(url: &str) -> Option<(&str, Option<&str>)> {
    let Some((scheme, rest)) = url.split_once("://") else {
        // `user@host:path`, where no `/` comes before the colon.
        let (before, _) = url.split_once(':')?;
        let host = before.rsplit_once('@').map_or(before, |(_, host)| host);
        return (!host.is_empty() && !before.contains('/')).then_some((host, None));
    };
    if !matches!(scheme.to_ascii_lowercase().as_str(), "ssh" | "git+ssh" | "ssh+git") {
        return None;
    }
    let authority = rest.split('/').next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(inner) = authority.strip_prefix('[') {
        let (host, rest) = inner.split_once(']')?;
        return Some((host, rest.strip_prefix(':')));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_of_ssh_is_found() {
        for (url, expected) in [
            ("ssh://git@h.example:2222/shop/web.git", Some(("h.example", Some("2222")))),
            ("ssh://h.example/shop/web.git", Some(("h.example", None))),
            ("ssh://git@[::1]:22/x", Some(("::1", Some("22")))),
            ("git@h.example:shop/web.git", Some(("h.example", None))),
            ("h:x", Some(("h", None))),
            ("/srv/a:b", None),
            ("https://h.example/x", None),
            ("file:///srv/x", None),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }

    #[test]
    fn what_ssh_refuses_has_a_next_step_that_names_the_host() {
        let url = "ssh://git@h.example:2222/x.git";
        let unknown = next("Host key verification failed.\r\nfatal: x\n", url).expect("a step");
        assert!(unknown.contains("`ssh-keyscan -p 2222 h.example`"), "{unknown}");
        let text =
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.\n";
        let changed = next(text, url).expect("a step");
        assert!(changed.contains("`ssh-keygen -R '[h.example]:2222'`"), "{changed}");
        let refused = next("git@h.example: Permission denied (publickey).\n", "git@h.example:x.git");
        assert!(refused.is_some_and(|refused| refused.contains("deploy key")));
        assert_eq!(next("ssh: connect to host h port 22: Connection refused\n", url), None);
        assert_eq!(next("remote: Permission denied (x)\n", "https://h.example/x"), None);
    }
}
