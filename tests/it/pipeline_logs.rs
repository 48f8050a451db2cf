//! The log of a step that prints much, while its server is killed and slow readers hang on: 200,000 lines, or as many as
//! FLEETWRIGHT_LINES says. From 1,000,000 on, a line of 50 MB is among them.

use std::time::Instant;

use serde_json::Value;

use crate::pipeline_serve::Serve;
use crate::pipeline_steps::{commit, lines, site};
use crate::support::endpoints::STEP_TOKEN;

/// How many lines the step prints, and how long its longest line is.
fn bounds() -> (usize, usize) {
    let lines =
        std::env::var("FLEETWRIGHT_LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(200_000);
    // What follows it begins before the end of a piece, and ends after it.
    (lines, if lines >= 1_000_000 { 3051 } else { 30 } * 16384 - 8)
}

/// The most memory that a server has had, in MiB.
fn peak(serve: &Serve) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

/// Looks into every file that was left behind.
fn assert_nowhere(folder: &std::path::Path, secret: &str) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_nowhere(&path, secret);
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("a file");
        if path.extension().is_some_and(|extension| extension == "zst") {
            bytes = unpacked(&bytes);
        }
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{} holds the secret", path.display());
    }
}

/// The frames of a closed segment.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let frames = u32::from_le_bytes(bytes[bytes.len() - 16..][..4].try_into().expect("four bytes")) as usize;
    let index = &bytes[bytes.len() - 16 - 24 * frames..bytes.len() - 16];
    let mut all = Vec::new();
    for entry in index.chunks_exact(24) {
        let number =
            |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes")) as usize;
        let frame = &bytes[number(8)..number(8) + number(16)];
        all.extend(zstd::bulk::decompress(frame, number(20)).expect("a frame"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_loses_and_repeats_nothing_while_servers_are_killed_and_readers_are_slow() {
    let (count, long) = bounds();
    let site = site(&format!(
        r#"    - run:
        name: loud
        image: demo/web
        secrets: {{TOKEN: /team/step-token}}
        command: |
          printf '\033[31mred\033[0m <b>bold</b>\n'
          printf ' 10%%\r 50%%\r100%%\r\n'
          printf '\000\377binary\n'
          echo "token: $TOKEN"
          printf "wx\033[1myz-of-a-step-4711\n"
          head -c {long} /dev/zero | tr '\0' x
          printf "$TOKEN\n"
          i=0
          while [ $i -lt 10 ]; do i=$((i+1)); seq 1 {part} | sed "s/^/part $i line /"; sleep 0.5; done
          printf 'no newline'
"#,
        part = count / 10
    ));
    commit(&site, "loud", &[]);
    let recorded = |run: &Value| run["steps"][2]["state"]["lines"].as_u64();
    let mut seen = 0;
    for _ in 0..4 {
        let serve = site.serve();
        let run = site.wait_for("further lines", |run| {
            recorded(run) > Some(seen) || run["steps"][2]["state"]["is"] == "succeeded"
        });
        seen = recorded(&run).unwrap_or(u64::MAX - 1);
        serve.kill();
    }
    let serve = site.serve();
    // They are connected, and read nothing.
    let stream = format!("{}v1/runs/1/log", serve.page);
    let mut slow = Vec::new();
    for _ in 0..5 {
        slow.push(site.client().get(&stream).send().await.expect("an answer"));
    }
    let run = site.wait_for("ended", |run| run["state"] != "running");
    assert_eq!(run["state"], "succeeded", "{run:#?}");

    // The engine keeps logs as JSON, which has U+FFFD in the place of the byte that is no text.
    let mut expected =
        "\u{1b}[31mred\u{1b}[0m <b>bold</b>\n 10%\r 50%\r100%\r\n\\x00\u{fffd}binary\n".to_owned();
    expected += "token: [redacted]\n[redacted]\u{1b}[1m\n";
    expected += &"x".repeat(long);
    expected += "[redacted]\n";
    for part in 1..=10 {
        (1..=count / 10).for_each(|line| expected += &format!("part {part} line {line}\n"));
    }
    expected += "no newline\n";
    let url = format!("{}v1/runs/1/log/raw?step=loud", serve.page);
    let raw = site.client().get(&url).send().await.expect("an answer").text().await.expect("text");
    // Comparing them as a whole would print them as a whole.
    let mut pairs = raw.lines().zip(expected.lines()).enumerate();
    let differs = pairs.find(|(_, (is, wanted))| is != wanted);
    let shorten = |text: &str| text.chars().take(200).collect::<String>();
    let differs = differs.map(|(at, (is, wanted))| (at, shorten(is), shorten(wanted)));
    assert_eq!((differs, raw.len()), (None, expected.len()));

    // A page, and a search that goes through all of it.
    let get = async |path: &str| -> Value {
        let answer = site.client().get(format!("{}v1/runs/1/log/{path}", serve.page)).send();
        answer.await.expect("an answer").json().await.expect("JSON")
    };
    let begun = Instant::now();
    let page = get("lines?step=loud&count=3").await;
    assert_eq!(page["lines"][0]["text"], "red <b>bold</b>");
    assert_eq!(page["lines"][1]["text"], "100%");
    let total = page["total"].as_u64().expect("a number");
    let last = get(&format!("lines?step=loud&from={}", total - 1)).await;
    assert_eq!((&last["lines"][1]["text"], &last["next"]), (&"no newline".into(), &Value::Null));
    let wanted = format!("part 10 line {}", count / 10);
    let found = get(&format!("search?step=loud&text={}", wanted.replace(' ', "%20"))).await;
    assert_eq!(found["lines"][0]["number"], total - 1, "{found}");
    assert_eq!(
        get("search?step=loud&text=PART%2010%20LINE%205&any_case=true&limit=1").await["lines"][0]["text"],
        "part 10 line 5"
    );
    assert_eq!(get(&format!("search?step=loud&text={STEP_TOKEN}")).await["lines"], serde_json::json!([]));
    println!("five requests: {:?}; peak of the server: {} MiB", begun.elapsed(), peak(&serve));
    assert!(peak(&serve) < 300, "{} MiB", peak(&serve));
    drop(slow);

    let (good, stdout, stderr) = site.run(&["pipeline", "logs", "1", "loud", "--search", &wanted]);
    assert!(good, "{stderr}");
    assert_eq!(stdout, format!("{}: {wanted}\n", total - 1));
    let html = async |path: &str| {
        let answer =
            site.client().get(format!("{}runs/1{path}", serve.page)).send().await.expect("an answer");
        answer.text().await.expect("text")
    };
    let first = html("?step=3&from=1").await;
    assert!(first.contains("<span class=\"c1\">red</span> &lt;b&gt;bold&lt;/b&gt;"), "{first}");
    assert!(first.contains(">100%</p>") && !first.contains(" 50%"), "only the last state is shown");
    assert!(first.contains("id=\"s3-1000\"") && !first.contains("id=\"s3-1001\""));
    assert!(first.contains("/runs/1?step=3&amp;from=1001#step-3"), "the next page is a link");
    let page = html(&format!("?step=3&line={total}")).await;
    assert!(page.contains(&format!("<p id=\"s3-{total}\" class=\"mark\">")), "a line has a link");
    let page = html("?step=3&search=bold").await;
    assert!(page.contains("1 line with `bold`"), "{page}");
    assert_nowhere(&site.folder.path().join("home"), STEP_TOKEN);
}

/// Events of a run are what they were when lines were among the rows of the journal.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_has_each_line_and_resumes_anywhere() {
    let site = site(
        r#"    - run: {name: one, image: demo/web, command: "seq 1 1200"}
    - run: {name: two, image: demo/web, command: "echo two"}
"#,
    );
    commit(&site, "lines", &[]);
    let serve = site.serve();
    site.wait_for("succeeded", |run| run["state"] == "succeeded");
    let numbers: Vec<String> = (1..=1200).map(|number| number.to_string()).chain(["two".into()]).collect();
    assert_eq!(lines(&site, &serve.page, 1).await, numbers);
    let ids = async |query: &str| -> Vec<i64> {
        let url = format!("{}v1/runs/1/log?{query}", serve.page);
        let text = site.client().get(&url).send().await.expect("an answer").text().await.expect("text");
        text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
    };
    let all = ids("follow=false").await;
    assert_eq!(all, (1..=all.len() as i64).collect::<Vec<_>>());
    for after in [700, 1000, all.len() as i64 - 1] {
        assert_eq!(ids(&format!("after={after}")).await, (after + 1..=all.len() as i64).collect::<Vec<_>>());
    }
    // Any number has an answer.
    for after in [i64::MIN, -1] {
        assert_eq!(ids(&format!("after={after}")).await, all, "{after}");
    }
    assert_eq!(ids(&format!("after={}", i64::MAX)).await, [0_i64; 0]);
    for path in ["log/lines?step=one&from=", "log/search?step=one&text=x&from=", "?before="] {
        let url = match path.strip_prefix('?') {
            Some(query) => format!("{}v1/runs?{query}{}", serve.page, i64::MAX),
            None => format!("{}v1/runs/1/{path}{}", serve.page, u64::MAX),
        };
        let answer = site.client().get(&url).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{url}");
    }
    let without = ids("lines=false").await;
    assert!(without.len() < 100 && all.len() - without.len() > 1200, "{without:?}");
    assert_eq!(ids("step=two&follow=false").await.len(), ids("step=two").await.len());
}
