use super::*;
use crate::model::unit::{ORDER_VERSION, OnDisconnect, UnitOrder, UnitSet};

fn record(task: &str) -> UnitRecord {
    let units = UnitSet {
        start: vec!["web.service".to_owned()],
        files: [("web.service".to_owned(), String::new())].into(),
        exclusive: false,
        on_disconnect: OnDisconnect::Keep,
        apart: Vec::new(),
    };
    let order = UnitOrder {
        version: ORDER_VERSION,
        units,
        environment: Default::default(),
        health: None,
        memory_bytes: None,
        cpu_millis: None,
        stop: std::time::Duration::from_secs(10),
        secrets: Vec::new(),
        files: Vec::new(),
    };
    let unit = format!("web-{task}.service");
    UnitRecord {
        version: 1,
        task: task.to_owned(),
        installed_for: task.to_owned(),
        service: "web".to_owned(),
        slot: "1".to_owned(),
        template: "t".to_owned(),
        order,
        target: format!("fleetwright-{task}.target"),
        start: vec![unit.clone()],
        units: vec![unit],
        started: true,
        stopping: None,
    }
}

fn installed(record: &UnitRecord) -> Installed {
    let unit = &record.units[0];
    let files = [unit.clone(), format!("{unit}.d/{DROP_IN}"), record.target.clone()];
    Installed {
        target: record.target.clone(),
        start: record.start.clone(),
        units: record.units.clone(),
        files: files.into_iter().map(|path| (path, "[Unit]\n".to_owned())).collect(),
    }
}

#[tokio::test]
async fn what_belongs_to_no_record_is_removed_and_nothing_else() {
    let root = tempfile::tempdir().expect("a folder");
    let store = RunFolder::at(root.path());
    let (kept, lost) = (record("kept"), record("lost"));
    let user = nix::unistd::getuid().as_raw();
    let secret = PrivateFile {
        path: "files/run/secrets/password".to_owned(),
        content: b"hunter2".to_vec(),
        mode: 0o400,
        owner: (user, nix::unistd::getgid().as_raw()),
    };
    assert!(!format!("{secret:?}").contains("hunter2"), "it can't be printed");
    for record in [&kept, &lost] {
        store.install(record, &installed(record), std::slice::from_ref(&secret)).await.expect("installed");
    }
    let path = Path::new(&store.folder("kept")).join(&secret.path);
    let about = fs::metadata(&path).expect("the secret");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777, 0o400);
    // Somebody else's units, with a drop-in of theirs.
    let systemd = root.path().join("systemd");
    fs::create_dir(systemd.join("ssh.service.d")).expect("made");
    for other in ["web.service", "ssh.service.d/override.conf", "multi-user.target"] {
        fs::write(systemd.join(other), "").expect("written");
    }
    // The record of one of them is half written.
    fs::write(Path::new(&store.folder("lost")).join(RECORD), "{").expect("written");
    let (records, mut stray) = store.load().await.expect("loaded");
    stray.sort();
    assert_eq!((records, stray), (vec![kept.clone()], vec![lost.target.clone(), lost.units[0].clone()]));
    let mut left: Vec<String> = listed(&systemd)
        .expect("listed")
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    left.sort();
    let own = ["fleetwright-kept.target", "multi-user.target", "ssh.service.d"];
    assert_eq!(left, [&own[..], &["web-kept.service", "web-kept.service.d", "web.service"]].concat());
    store.remove(&kept).await.expect("removed");
    assert!(!path.exists() && store.load().await.expect("loaded").0.is_empty());
}
