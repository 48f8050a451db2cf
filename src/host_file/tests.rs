use super::*;
use crate::model::host_file::{Endpoint, Host, Selection};
use crate::model::machine::Role;
use crate::model::service::InstanceState;

fn host(id: &str, address: &str) -> Host {
    Host {
        id: id.parse().expect("an id"),
        address: address.parse().expect("an address"),
        role: Role::Worker,
        group: "workers".to_owned(),
        ready: true,
        metadata: BTreeMap::from([("zone".to_owned(), "eu-central-1a".to_owned())]),
    }
}

fn endpoint(service: &str, slot: u32, port: u16, healthy: bool) -> Endpoint {
    let host = host("i-1", "10.0.0.1");
    Endpoint {
        name: format!("{service}@{slot}"),
        id: format!("task{slot}"),
        machine: host.id,
        address: host.address,
        port: Some(port),
        ports: BTreeMap::from([("8080".to_owned(), port)]),
        healthy,
        state: if healthy { InstanceState::Healthy } else { InstanceState::Starting },
    }
}

fn facts() -> Facts {
    let keys = [
        ("/app/name", "shop"),
        ("/app/upstream/one", "10.1.0.1:80"),
        ("/app/upstream/two", "10.1.0.2:80"),
        ("/app/json", r#"{"list": [1, 2], "on": true}"#),
        ("/apple", "not of /app"),
        ("/other", "hidden"),
    ];
    Facts {
        machine: Some(host("i-1", "10.0.0.1")),
        machines: vec![host("i-1", "10.0.0.1"), host("i-2", "10.0.0.2")].into(),
        services: BTreeMap::from([
            (
                "web".parse().expect("a name"),
                vec![endpoint("web", 1, 20_001, true), endpoint("web", 2, 20_002, false)].into(),
            ),
            ("secret".parse().expect("a name"), vec![endpoint("secret", 1, 20_009, true)].into()),
        ]),
        keys: keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

fn spec(template: &str) -> HostFileSpec {
    HostFileSpec {
        name: "app".parse().expect("a name"),
        path: "/etc/app.conf".to_owned(),
        source: "templates/host_files/app.conf".to_owned(),
        template: template.to_owned(),
        mode: 0o644,
        owner: None,
        keys: vec!["/app".to_owned()],
        services: Selection::Named(["web", "gone"].map(|name| name.parse().expect("a name")).into()),
        machines: true,
        check: Vec::new(),
        reload: None,
        placement: BTreeMap::new(),
    }
}

fn surroundings() -> Surroundings {
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let mut surroundings = Surroundings::still("demo", "test", "main", now);
    surroundings.variables.insert("TZ".to_owned(), "UTC".to_owned());
    surroundings.lookup = Arc::new(|name| match name {
        "db.internal" => {
            Ok(["10.9.0.2", "10.9.0.1", "10.9.0.2"].map(|text| text.parse().expect("an address")).into())
        }
        _ => Err(format!("`{name}` is not known")),
    });
    surroundings
}

fn rendered(template: &str) -> Result<String, String> {
    let spec = spec(template);
    render(&spec, &facts(), &surroundings()).map_err(|error| reason(&error, &spec.source))
}

#[test]
fn each_function_of_confd_has_its_answer() {
    let cases = [
        (r#"<{ getv(key="/app/name") }>"#, "shop"),
        (r#"<{ getv(key="/app/none", default="x") }>"#, "x"),
        (r#"<% set pair = get(key="/app/name") %><{ pair.key }>=<{ pair.value }>"#, "/app/name=shop"),
        (
            r#"<% for pair in gets(pattern="/app/upstream/*") %><{ pair.key | base }>:<{ pair.value }> <% endfor %>"#,
            "one:10.1.0.1:80 two:10.1.0.2:80 ",
        ),
        (r#"<{ getvs(pattern="/app/upstream/*") | join(sep=",") }>"#, "10.1.0.1:80,10.1.0.2:80"),
        // `*` stops at `/`, as in Go.
        (r#"<{ getvs(pattern="/app/*") | length }>"#, "2"),
        (r#"<{ getvs(pattern="/*") | length }>"#, "0"),
        (r#"<{ ls(key="/app") | join(sep=" ") }>"#, "json name upstream"),
        (r#"<{ lsdir(key="/app/") | join(sep=" ") }>"#, "upstream"),
        (
            r#"<{ exists(key="/app/name") }> <{ exists(key="/other") }> <{ exists(key="/apple") }>"#,
            "true false false",
        ),
        (r#"<{ getenv(name="TZ") }> <{ getenv(name="NONE", default="-") }>"#, "UTC -"),
        (r#"<% set known = getv(key="/app/json") | from_json %><{ known.list | last }>"#, "2"),
        (r#"<{ getv(key="/app/json") | from_json | json }>"#, r#"{"list":[1,2],"on":true}"#),
        (r#"<{ "/a/b/c" | base }> <{ "/a/b/c" | dir }> <{ "/a" | dir }> <{ "a" | dir }>"#, "c /a/b / ."),
        (r#"<{ "x y" | base64_encode }> <{ "eCB5" | base64_decode }>"#, "eCB5 x y"),
        (r#"<{ "a,b" | split(pat=",") | last | upper }>"#, "B"),
        (r#"<{ lookup_ip(name="db.internal") | join(sep=" ") }>"#, "10.9.0.1 10.9.0.2"),
        ("<{ datetime() }>", "2027-01-15T08:00:00Z"),
        ("<{ project }>/<{ environment }>/<{ cluster }>", "demo/test/main"),
        ("<{ machine.id }> <{ machine.metadata.zone }> <{ machine.role }>", "i-1 eu-central-1a worker"),
        ("<% for one in machines %><{ one.address }> <% endfor %>", "10.0.0.1 10.0.0.2 "),
        (
            "<% for one in services.web.instances %><% if one.healthy %><{ one.name }> <{ one.address }>:<{ one.ports[\"8080\"] }>=<{ one.port }><% endif %><% endfor %>",
            "web@1 10.0.0.1:20001=20001",
        ),
        ("<{ services.gone.instances | length }>", "0"),
        // Nothing of a template is escaped, and other tools' delimiters are left alone.
        (r#"{{x}} {%y%} <{ "a&b" }>"#, "{{x}} {%y%} a&b"),
    ];
    for (template, text) in cases {
        assert_eq!(rendered(template).as_deref(), Ok(text), "{template}");
    }
}

#[test]
fn what_is_not_there_or_not_named_is_an_error_with_its_line() {
    let cases = [
        ("\n<{ getv(key=\"/app/none\") }>", "app.conf:2: There is no key `/app/none`; give `default`"),
        ("<{ getv(key=\"/other\") }>", "There is no key `/other`"),
        ("<{ services.secret.instances }>", "app.conf:1:"),
        ("<{ nothing }>", "app.conf:1:"),
        ("<% if %>", "app.conf:1:"),
        ("<{ getenv(name=\"HOME\") }>", "The agent has no variable `HOME`"),
        ("<{ lookup_ip(name=\"nowhere\") }>", "`nowhere` is not known"),
        ("<{ \"%\" | base64_decode }>", "This is not base64"),
        ("<{ \"{\" | from_json }>", "This is not JSON"),
        ("<{ gets(pattern=\"/[\") }>", "`/[` is not a pattern"),
    ];
    for (template, part) in cases {
        let error = rendered(template).expect_err(template);
        assert!(error.contains(part), "{template}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_file_knows_only_what_it_names() {
    let narrow = narrowed(&spec(""), &facts());
    assert_eq!(narrow.services.keys().map(ToString::to_string).collect::<Vec<_>>(), ["web"]);
    let keys: Vec<&str> = narrow.keys.keys().map(String::as_str).collect();
    assert_eq!(keys, ["/app/json", "/app/name", "/app/upstream/one", "/app/upstream/two"]);
    let mut all = spec("");
    (all.services, all.keys, all.machines) = (Selection::All, vec!["/".to_owned()], false);
    let wide = narrowed(&all, &facts());
    assert_eq!((wide.services.len(), wide.keys.len(), wide.machines.len()), (2, 6, 0));
}
