//! Dockerfiles as people write them.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Dockerfile, DockerfileError> {
    Dockerfile::parse(text, &BTreeMap::new(), "linux/amd64")
}

fn parse(text: &str) -> Dockerfile {
    read(text).expect("a Dockerfile")
}

fn images(file: &Dockerfile) -> Vec<&str> {
    file.bases(None).expect("stages").iter().map(|base| base.image.as_str()).collect()
}

#[test]
fn bases_are_images_not_stages() {
    let file = parse(
        "FROM demo/base AS build\nRUN x\nFROM scratch\nCOPY --from=build /a /a\nCOPY --from=0 /a /b\n\
         COPY --chmod=755 --from=host:5000/tools:1 /t /t\n\
         RUN --mount=type=cache,target=/c --mount=type=bind,from=demo/data,target=/d --mount=from=build,target=/e x\n",
    );
    assert_eq!(images(&file), ["demo/base", "host:5000/tools:1", "demo/data"]);
    // A stage can't name itself, so this is an image.
    assert_eq!(images(&parse("FROM alpine AS alpine\n")), ["alpine"]);
}

#[test]
fn pinning_keeps_every_line_in_its_place() {
    let file = parse(
        "# first\nfrom --platform=linux/amd64 demo/base \\\n  AS b\nRUN a \\\n # why\n  b\nFROM b\n\
         RUN --mount=from=demo/base,target=/x x\n",
    );
    let pins = BTreeMap::from([("demo/base".to_owned(), "r:1/demo/base@sha256:00".to_owned())]);
    assert_eq!(
        file.pinned(&pins),
        "# first\nfrom --platform=linux/amd64 r:1/demo/base@sha256:00 \\\n  AS b\nRUN a \\\n # why\n  b\nFROM b\n\
         RUN --mount=from=r:1/demo/base@sha256:00,target=/x x\n"
    );
}

#[test]
fn steps_are_found_by_the_builders_names_for_them() {
    let file = parse(
        "FROM demo/base AS build\nENV A=1\nRUN make \\\n  all\nWORKDIR /x\nFROM scratch\nCOPY . /\nFROM build\nRUN [\"a\"]\n",
    );
    let line = |name: &str| file.step(name).map(|step| step.line);
    assert_eq!(line("[build 1/3] FROM r/demo/base@sha256:00"), Some(1));
    assert_eq!(line("[build 2/3] RUN make   all"), Some(3));
    assert_eq!(line("[linux/amd64 build 3/3] WORKDIR /x"), Some(5));
    assert_eq!(line("[stage-1 1/1] COPY . /"), Some(7));
    assert_eq!(line("[stage-2 1/1] RUN [\"a\"]"), Some(9));
    assert_eq!(line("[internal] load build context"), None);
    let single = parse("FROM scratch\n\n# why\nCOPY a.txt /a\nRUN [\"/nothing\"]\n");
    assert_eq!(single.step("[2/2] RUN [\"/nothing\"]").map(|step| step.line), Some(5));
}

#[test]
fn arguments_before_the_first_from_and_the_platform_name_the_base() {
    let text = "ARG BASE=demo/base\nARG TAG=\"1\"\nFROM ${BASE}:$TAG\nARG BASE=other\n";
    assert_eq!(images(&parse(text)), ["demo/base:1"]);
    let args = BTreeMap::from([("TAG".to_owned(), "2".to_owned())]);
    let file = Dockerfile::parse(text, &args, "linux/amd64").expect("a Dockerfile");
    assert_eq!(images(&file), ["demo/base:2"]);
    assert_eq!(images(&parse("FROM a:${TAG:-3}\n")), ["a:3"]);
    assert_eq!(images(&parse("FROM a:${TAG-3}${TARGETARCH:+x}\n")), ["a:3x"]);
    assert_eq!(
        images(&parse("FROM --platform=$BUILDPLATFORM a-${TARGETARCH}${TARGETVARIANT}\n")),
        ["a-amd64"]
    );
    assert_eq!(
        Dockerfile::parse("\nFROM a:$TAG\n", &BTreeMap::new(), "").expect_err("no ARG").to_string(),
        "line 2: `a:$TAG` holds the variable `TAG`, which has no value here: give it a default in an `ARG` \
         before the first `FROM`, or a value under `args`"
    );
    // What would be another image here than in the builder is refused.
    for form in ["${TAG#v}", "${TAG%%-*}", "${TAG/v/w}"] {
        let refusal = read(&format!("ARG TAG=v1\nFROM a:{form}\n")).expect_err(form).to_string();
        assert!(
            refusal.starts_with(&format!("line 2: `a:{form}`: an image can be named with `${{NAME}}`")),
            "{refusal}"
        );
    }
}

#[test]
fn heredocs_are_no_instructions_and_need_a_new_engine() {
    for text in [
        "FROM a\nRUN <<EOF\nFROM no\nEOF\nRUN x\n",
        "FROM a\nRUN <<-\"E\" cat > /x\nFROM no\n\tE\nRUN x\n",
        "FROM a\nCOPY <<one <<two /d/\nFROM no\none\nFROM no\ntwo\nRUN x\n",
        "FROM a\nRUN cat \\\n  <<EOF\nFROM no \\\nEOF\nRUN x\n",
    ] {
        let file = parse(text);
        assert_eq!(images(&file), ["a"], "{text}");
        assert_eq!(file.pinned(&BTreeMap::new()), text);
        assert!(file.check_engine("23.0.1").is_ok() && file.check_engine("dev").is_ok());
        let refusal = file.check_engine("20.10.24+dfsg1").expect_err("too old").to_string();
        let expected = "line 2: a heredoc needs Docker 23.0 or newer, and the engine here is 20.10.24+dfsg1";
        assert!(refusal.starts_with(expected), "{refusal}");
    }
    // None of these is one.
    for text in [
        "FROM a\nRUN echo \"<<EOF\"\nFROM b\n",
        "FROM a\nRUN echo $((1<<2)) <<<word\nFROM b\n",
        "FROM a\nENV x=<<EOF\nFROM b\n",
    ] {
        assert_eq!(images(&parse(text)), ["b"], "{text}");
    }
    let error = read("FROM a\nRUN <<EOF\nx\n").expect_err("not closed");
    assert_eq!(error, DockerfileError::OpenHeredoc { line: 2, name: "EOF".into() });
}

#[test]
fn what_an_old_engine_lacks_is_named_with_the_version_that_has_it() {
    for (step, needed) in [
        ("COPY --link a b", "23.0"),
        ("ADD --checksum=sha256:0 http://x /x", "25.0"),
        ("RUN --network=none x", "23.0"),
        ("RUN --mount=type=secret,id=a,env=A x", "27.3"),
        ("ADD --unpack a.tar /", "28.3"),
        ("COPY --exclude=*.md . /", "28.5"),
        ("COPY --parents a b", "29.1"),
    ] {
        let file = parse(&format!("FROM a\n{step}\n"));
        let refusal = file.check_engine("20.10.24").expect_err(step).to_string();
        assert!(refusal.contains(&format!("needs Docker {needed} or newer")), "{refusal}");
        assert!(file.check_engine("29.1.0").is_ok());
    }
    let file = parse("FROM a\nRUN --mount=type=secret,id=env x\nCOPY --chmod=1 a b\nRUN echo --network\n");
    assert!(file.check_engine("20.10.24").is_ok());
}

#[test]
fn only_what_the_target_needs_is_a_base() {
    let file = parse(
        "FROM one AS a\nFROM two AS B\nCOPY --from=a / /\nFROM three\nFROM four AS last\nCOPY --from=b / /\n",
    );
    let of =
        |target| file.bases(target).map(|bases| bases.iter().map(|base| &*base.image).collect::<Vec<_>>());
    assert_eq!(of(None).expect("stages"), ["one", "two", "four"]);
    assert_eq!(of(Some("b")).expect("a stage"), ["one", "two"]);
    assert_eq!(of(Some("2")).expect("a stage"), ["three"]);
    let refusal = of(Some("c")).expect_err("no stage").to_string();
    assert_eq!(
        refusal,
        "there is no stage `c`, which the step's `target` names; the stages are `a`, `b`, `last`"
    );
}

#[test]
fn directives_count_at_the_top_only_and_the_frontend_is_the_engines() {
    let text = "# syntax=docker/dockerfile:1.7\n# escape=`\nFROM a `\n  AS x\nRUN c:\\\nFROM b\n";
    let file = parse(text);
    assert_eq!(file.pinned(&BTreeMap::new()), "# escape=`\n#\nFROM a `\n  AS x\nRUN c:\\\nFROM b\n");
    assert_eq!(images(&file), ["b"]);
    assert_eq!(images(&parse("\u{feff}FROM a\n")), ["a"]);
    assert_eq!(images(&parse("# a comment\n# syntax=evil/frontend\nFROM a\n")), ["a"]);
    let refusal = read("#syntax = evil/frontend:1\nFROM a\n").expect_err("a frontend").to_string();
    assert!(refusal.starts_with("line 1: `# syntax=evil/frontend:1`"), "{refusal}");
}

#[test]
fn what_is_no_dockerfile_says_so() {
    assert_eq!(read("RUN x\n"), Err(DockerfileError::NoBase));
    assert_eq!(read("\nFROM\n"), Err(DockerfileError::NoImage { line: 2 }));
}

proptest! {
    #[test]
    fn parsing_is_without_panic_and_pinning_nothing_changes_nothing(
        text in "(FROM |COPY --from=|RUN --mount=from=|ARG A=|<<E|E|\\\\\n|#|# escape=`|\\$\\{|[ a-zä}:,\n]){0,30}"
    ) {
        if let Ok(file) = read(&text) {
            let _ = (file.bases(None), file.step(&text));
            prop_assert_eq!(file.pinned(&BTreeMap::new()), text);
        }
    }
}
