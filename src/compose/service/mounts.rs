//! What a service of a Compose file mounts: secrets, configs, volumes and folders in memory.

use super::One;
use crate::compose::emit::Value;
use crate::compose::{is_true, words};
use crate::yaml::Node;

/// The longest text of a file that is copied into the repository.
const FILE_MOST: usize = 64 << 10;

impl One<'_, '_> {
    /// Secrets, configs, volumes and folders in memory.
    pub(super) fn mounts(&mut self, mut secrets: Vec<Value>) {
        let (mut files, mut volumes, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for item in self.node.get("secrets").and_then(|node| node.items()).unwrap_or_default().to_vec() {
            secrets.extend(self.secret(&item));
        }
        for item in self.node.get("configs").and_then(|node| node.items()).unwrap_or_default().to_vec() {
            files.extend(self.config(&item));
        }
        for item in self.node.get("volumes").and_then(|node| node.items()).unwrap_or_default().to_vec() {
            match self.volume(&item) {
                Some(Mounted::Volume(volume)) => volumes.push(volume),
                Some(Mounted::File(file)) => files.push(file),
                Some(Mounted::Memory(path, fields)) => memory.push((path, Value::Map(fields))),
                None => {}
            }
        }
        for text in self.list("tmpfs") {
            let path = text.split(':').next().unwrap_or_default().to_owned();
            memory.push((path, Value::Map(Vec::new())));
        }
        for (key, list) in [("secrets", secrets), ("files", files), ("volumes", volumes)] {
            if !list.is_empty() {
                self.set(key, Value::List(list));
            }
        }
        if !memory.is_empty() {
            self.set("tmpfs", Value::Map(memory));
        }
    }

    fn secret(&mut self, item: &Node) -> Option<Value> {
        let source = item.text().or_else(|| item.get("source").and_then(Node::text))?.to_owned();
        let top = self.converter.section("secrets", &source);
        let text =
            |key: &str| top.as_ref().and_then(|top| top.get(key)).and_then(Node::text).map(str::to_owned);
        let name = source.replace(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c), "-");
        let file = text("file");
        let set = match &file {
            Some(path) => format!("`fleetwright secret set {name} --file {path}`"),
            None => format!("`fleetwright secret set {name}`"),
        };
        self.note(item, "secrets", format!("its value is not copied: {set}"));
        self.converter.done.secrets.insert(name.clone(), file);
        let mut fields = vec![("name".to_owned(), Value::text(name.clone()))];
        self.file_fields(item, &mut fields);
        Some(if fields.len() == 1 { Value::text(name) } else { Value::Map(fields) })
    }

    /// Target, owner and mode of a secret or config in the long form.
    fn file_fields(&mut self, item: &Node, fields: &mut Vec<(String, Value)>) {
        if let Some(target) = item.get("target").and_then(Node::text) {
            fields.push(("target".to_owned(), Value::text(target)));
        }
        if let Some(mode) = item.get("mode").and_then(Node::text) {
            let digits = mode.trim_start_matches("0o");
            let octal = if digits.starts_with('0') || digits.len() > 3 {
                digits.to_owned()
            } else {
                format!("0{digits}")
            };
            fields.push(("mode".to_owned(), Value::text(octal)));
        }
        for key in ["uid", "gid"] {
            if let Some(number) = item.get(key).and_then(Node::text).and_then(|text| text.parse::<u32>().ok())
            {
                fields.push((key.to_owned(), Value::plain(number)));
            }
        }
    }

    fn config(&mut self, item: &Node) -> Option<Value> {
        let source = item.text().or_else(|| item.get("source").and_then(Node::text))?.to_owned();
        let top = self.converter.section("configs", &source);
        let text =
            |key: &str| top.as_ref().and_then(|top| top.get(key)).and_then(Node::text).map(str::to_owned);
        let content = text("content").or_else(|| (self.converter.beside)(&text("file")?));
        let Some(content) = content.filter(|content| content.len() <= FILE_MOST) else {
            self.note(
                item,
                "configs",
                format!("`{source}` was not read: put it into templates/files/, and name it in `files`"),
            );
            return None;
        };
        let template = self.template(&source, content);
        let mut fields = vec![("source".to_owned(), Value::text(template))];
        self.file_fields(item, &mut fields);
        if item.get("target").is_none() {
            fields.push(("target".to_owned(), Value::text(format!("/{source}"))));
        }
        Some(Value::Map(fields))
    }

    /// Puts a text into the repository; the name of the template.
    fn template(&mut self, source: &str, content: String) -> String {
        let folder = format!("templates/files/{}", self.ours);
        let base = source.rsplit('/').next().unwrap_or(source);
        // Files of one name in different folders stay apart.
        let whole = source.trim_start_matches(['.', '/']).replace('/', "-");
        let path = [format!("{folder}/{base}"), format!("{folder}/{whole}")]
            .into_iter()
            .find(|path| self.converter.done.files.get(path).is_none_or(|known| *known == content))
            .unwrap_or_else(|| format!("{folder}/{}-{whole}", self.converter.done.files.len()));
        let verbatim = ["<{", "<%", "<#"].iter().any(|mark| content.contains(mark));
        let content = if verbatim { format!("<% raw %>{content}<% endraw %>") } else { content };
        self.converter.done.files.insert(path.clone(), content);
        path
    }

    fn volume(&mut self, item: &Node) -> Option<Mounted> {
        if item.entries().is_some() {
            return self.long_volume(item);
        }
        let text = self.text(item, "volumes");
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts.as_slice() {
            [target] => ("", *target, ""),
            [source, target] => (*source, *target, ""),
            [source, target, options, ..] => (*source, *target, *options),
            [] => return None,
        };
        let read_only = options.split(',').any(|option| option == "ro");
        self.mounted(item, source, target, read_only)
    }

    fn long_volume(&mut self, item: &Node) -> Option<Mounted> {
        let text = |key: &str| item.get(key).and_then(Node::text).unwrap_or_default().to_owned();
        let (source, target) = (text("source"), text("target"));
        let read_only = item.get("read_only").is_some_and(is_true);
        match text("type").as_str() {
            "tmpfs" => {
                let size = item
                    .get("tmpfs")
                    .and_then(|one| one.get("size"))
                    .and_then(Node::text)
                    .and_then(words::size);
                let size = size.map(|size| ("size".to_owned(), Value::plain(size)));
                Some(Mounted::Memory(target, size.into_iter().collect()))
            }
            "volume" | "bind" | "" => self.mounted(item, &source, &target, read_only),
            other => {
                self.note(item, "volumes", format!("a mount of type `{other}` has no counterpart"));
                None
            }
        }
    }

    fn mounted(&mut self, item: &Node, source: &str, target: &str, read_only: bool) -> Option<Mounted> {
        let ending = if read_only { ":ro" } else { "" };
        if source.is_empty() {
            let name = format!("{}-{}", self.ours, words::name(target));
            self.note(
                item,
                "volumes",
                format!("a volume without a name; it is called `{name}` here, and outlives its container"),
            );
            return Some(Mounted::Volume(Value::text(format!("{name}:{target}"))));
        }
        if source.starts_with(['.', '~']) || (source.contains('/') && !source.starts_with('/')) {
            return match (self.converter.beside)(source).filter(|content| content.len() <= FILE_MOST) {
                Some(content) => {
                    let template = self.template(source, content);
                    Some(Mounted::File(Value::text(format!("{template}:{target}"))))
                }
                None => {
                    self.note(
                        item,
                        "volumes",
                        format!("machines have no copy of `{source}`: put it into the image, or single text files into templates/files/"),
                    );
                    None
                }
            };
        }
        if source.starts_with('/') {
            let path = if source == "/" { source } else { source.trim_end_matches('/') };
            self.note(item, "volumes", format!("`{path}` is a folder of the machine: add it to `host_paths` in fleetwright.yaml if that is meant"));
            self.converter.done.host_paths.insert(path.to_owned());
            return Some(Mounted::Volume(Value::text(format!("{path}:{target}{ending}"))));
        }
        let top = self.converter.section("volumes", source);
        let option = |key: &str| {
            top.as_ref()
                .and_then(|top| top.get("driver_opts"))
                .and_then(|one| one.get(key))
                .and_then(Node::text)
                .map(str::to_owned)
        };
        if option("type").as_deref() == Some("nfs") {
            let (options, device) = (option("o").unwrap_or_default(), option("device").unwrap_or_default());
            let server = options.split(',').find_map(|one| one.strip_prefix("addr="));
            let rest: Vec<&str> =
                options.split(',').filter(|one| !one.starts_with("addr=") && !one.is_empty()).collect();
            let Some(server) = server else {
                self.note(
                    item,
                    "volumes",
                    format!("the NFS volume `{source}` names no server (`addr=` in `o`)"),
                );
                return None;
            };
            let path = device.trim_start_matches(':');
            let mut fields = vec![
                ("type".to_owned(), Value::text("nfs")),
                ("source".to_owned(), Value::text(format!("{server}:{path}"))),
                ("target".to_owned(), Value::text(target)),
            ];
            if !rest.is_empty() {
                fields.push(("options".to_owned(), Value::text(rest.join(","))));
            }
            if read_only {
                fields.push(("read_only".to_owned(), Value::plain(true)));
            }
            return Some(Mounted::Volume(Value::Map(fields)));
        }
        if let Some(driver) = top
            .as_ref()
            .and_then(|top| top.get("driver"))
            .and_then(Node::text)
            .filter(|driver| *driver != "local")
        {
            self.note(
                item,
                "volumes",
                format!("the driver `{driver}` has no counterpart; the volume is kept on one machine"),
            );
        }
        let name = words::name(source);
        self.note(
            item,
            "volumes",
            format!("volume `{name}` is kept on one machine, and begins empty: copy the data over"),
        );
        Some(Mounted::Volume(Value::text(format!("{name}:{target}{ending}"))))
    }
}

enum Mounted {
    Volume(Value),
    File(Value),
    Memory(String, Vec<(String, Value)>),
}
