//! What a person reads when AWS, or what stands in between, does not answer as it should: every kind of failure,
//! made by a real HTTP server, through the real program.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Run, fleetwright_with};

/// A server that answers every request with the same bytes, or closes the connection where there are none.
struct Server {
    port: u16,
}

impl Server {
    fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::after(Duration::ZERO, answer)
    }

    /// The same, where every request is answered late.
    fn after(pause: Duration, answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let answer = answer.into();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                std::thread::spawn(move || serve(stream, pause, &answer));
            }
        });
        Self { port }
    }

    fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
        Self::answering(head + body)
    }

    /// An error in the words of AWS's Query protocol.
    fn refusing(status: &str, code: &str, message: &str) -> Self {
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        );
        Self::status(status, "content-type: text/xml\r\n", &body)
    }

    fn plan(&self) -> String {
        plan(&[("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", self.port))])
    }
}

/// Reads one request and answers it.
fn serve(mut stream: TcpStream, pause: Duration, answer: &[u8]) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                break;
            }
        }
        // The first byte of a client that speaks TLS.
        if request.first() == Some(&0x16) {
            break;
        }
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
            Ok(_) | Err(_) => return,
        }
    }
    std::thread::sleep(pause);
    // Who asked may have gone away.
    let _ = stream.write_all(answer);
}

fn repository(folder: &Path) {
    let write = |file: &str, text: &str| {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write(
        "fleetwright.yaml",
        "project: shop\nenvironments:\n  local:\n    region: eu-west-1\n    cluster: main\nclusters:\n  main:\n    engine: swarm\n",
    );
    write("stacks/all.yaml", "db:\n  template: db.yaml\n");
    write("templates/cloudformation/db.yaml", "Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n");
}

fn run(variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    let (folder, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    repository(folder.path());
    let home = home.path().to_string_lossy().into_owned();
    let mut all = vec![
        ("FLEETWRIGHT_HOME", home.as_str()),
        ("HOME", home.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    if variables.iter().all(|(name, _)| *name != "AWS_PROFILE" && *name != "NO_CREDENTIALS") {
        all.extend([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
    }
    all.extend_from_slice(variables);
    let run = fleetwright_with(folder.path(), arguments, &all);
    let plain = |text: &str| text.replace(&home, "HOME");
    Run { stdout: plain(&run.stdout), stderr: plain(&run.stderr), ..run }
}

/// `plan` with these variables: what it prints, with ports and times made the same.
fn plan(variables: &[(&str, &str)]) -> String {
    let run = run(variables, &["plan"]);
    assert_eq!(run.stdout, "", "{run}");
    let mut text = format!("{}status {}\n", run.stderr, run.status.unwrap_or(-1));
    // Both are asked at once, and either may fail first.
    text = text.replace("listing autoscaling groups", "listing stacks");
    // How long something was waited for depends on the machine.
    text = text
        .lines()
        .filter(|line| !line.starts_with("waiting for "))
        .map(|line| format!("{line}\n"))
        .collect();
    while let Some(at) = text.find("127.0.0.1:") {
        let port = at + "127.0.0.1:".len();
        let end = text[port..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| port + end);
        text.replace_range(at..end, "ADDRESS");
    }
    for never in ["Request {", "SdkBody", "no message", "no code", "remove what it complains of", "test/2"] {
        assert!(!text.contains(never), "`{never}` in:\n{text}");
    }
    text
}

macro_rules! failures {
    ($($test:ident => $plan:expr,)*) => {
        $(
            #[test]
            fn $test() {
                insta::assert_snapshot!(concat!("aws-", stringify!($test)), $plan);
            }
        )*
    };
}

const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in to\n the network</title><script>x()</script></head><body>b</body></html>";

failures! {
    a_page_instead_of_an_answer => Server::status("200 OK", "content-type: text/html\r\n", PAGE).plan(),
    a_page_that_forbids => Server::status("403 Forbidden", "content-type: text/html\r\n", PAGE).plan(),
    a_page_of_a_gateway => Server::status("502 Bad Gateway", "content-type: text/html\r\n", "<html><body><h1>502</h1> upstream gone</body></html>").plan(),
    an_error_of_a_proxy => Server::status("407 Proxy Authentication Required", "", "who are you").plan(),
    an_answer_of_nothing => Server::status("500 Internal Server Error", "", "").plan(),
    a_json_of_somebody_else => Server::status("404 Not Found", "content-type: application/json\r\n", "{\"detail\":\"Not Found\"}").plan(),
    a_closed_connection => Server::answering("").plan(),
    half_an_answer => Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n<half").plan(),
    no_http_at_all => Server::answering("SSH-2.0-OpenSSH_9.2\r\n").plan(),
    nothing_listens => {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        plan(&[("AWS_ENDPOINT_URL", &address)])
    },
    a_name_that_is_not_there => plan(&[("AWS_ENDPOINT_URL", "http://nothing.invalid:4566")]),
    tls_where_none_is_spoken => {
        let server = Server::answering("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        plan(&[("AWS_ENDPOINT_URL", &format!("https://127.0.0.1:{}", server.port))])
    },
    an_endpoint_without_a_scheme => plan(&[("AWS_ENDPOINT_URL", "localhost:4566")]),
    an_endpoint_of_one_service => plan(&[("AWS_ENDPOINT_URL_CLOUDFORMATION", "ftp://localhost")]),
    too_many_calls => Server::refusing("400 Bad Request", "Throttling", "Rate exceeded").plan(),
    a_service_that_is_down => Server::refusing("503 Service Unavailable", "ServiceUnavailable", "Please try again").plan(),
    a_clock_that_is_wrong => {
        let body = "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z</Message></Error></ErrorResponse>";
        let date = (chrono::Utc::now() + chrono::Duration::seconds(630)).to_rfc2822();
        Server::status("403 Forbidden", &format!("content-type: text/xml\r\ndate: {}\r\n", date.replace("+0000", "GMT")), body).plan()
    },
    a_time_that_is_refused => Server::refusing("400 Bad Request", "RequestExpired", "Request has expired.").plan(),
    an_expired_token => Server::refusing("403 Forbidden", "ExpiredToken", "The security token included in the request is expired").plan(),
    an_unknown_key => Server::refusing("403 Forbidden", "InvalidClientTokenId", "The security token included in the request is invalid.").plan(),
    a_wrong_secret => Server::refusing("403 Forbidden", "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.").plan(),
    a_right_that_is_missing => Server::refusing("403 Forbidden", "AccessDenied", "User: arn:aws:iam::123456789012:user/ada is not authorized to perform: cloudformation:DescribeStacks").plan(),
    a_refusal => Server::refusing("400 Bad Request", "ValidationError", "Something is not valid").plan(),
    a_refusal_without_words => Server::refusing("400 Bad Request", "ValidationError", "").plan(),
    no_credentials => plan(&[("NO_CREDENTIALS", "1"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]),
    a_profile_that_is_not_there => plan(&[("AWS_PROFILE", "staging"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]),
}

#[test]
fn a_slow_endpoint_is_named_while_it_is_waited_for() {
    let page = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for arguments in [&["plan"][..], &["plan", "-o", "json"]] {
        let server = Server::after(Duration::from_secs(7), page);
        let address = format!("http://127.0.0.1:{}", server.port);
        let begun = Instant::now();
        let run = run(&[("AWS_ENDPOINT_URL", &address)], arguments);
        assert!(begun.elapsed() >= Duration::from_secs(7), "{run}");
        let line = run.stderr.lines().next().unwrap_or_default();
        assert!(
            line.starts_with(&format!("waiting for {address}: Describe")) && line.contains("5 s so far"),
            "{run}"
        );
        assert_eq!(run.stdout, "", "a query gives its document alone");
    }
}

#[test]
fn a_profile_that_is_nearly_there_is_suggested() {
    let home = tempfile::tempdir().expect("a folder");
    let config = home.path().join("config");
    std::fs::write(&config, "[profile staging]\nregion = eu-west-1\n").expect("written");
    let config = config.to_string_lossy().into_owned();
    let run = run(&[("AWS_PROFILE", "stagin"), ("AWS_CONFIG_FILE", &config)], &["plan"]);
    assert!(run.stderr.contains("did you mean `staging`?"), "{run}");
}
