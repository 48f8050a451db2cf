//! `pipeline_secrets` of an environment: which runs of pipelines may have which secrets.

use super::decode::Reader;
use super::pipelines::{not_a_value, patterns};
use crate::model::project::SecretScope;
use crate::yaml::{Node, Scalar};

/// The key of an environment.
pub const KEY: &str = "pipeline_secrets";

/// Decodes it: a mapping from SSM parameters to what they are for.
pub fn decode(reader: &mut Reader<'_>, node: &Node) -> Vec<SecretScope> {
    let entries = reader.entries(node, "`pipeline_secrets`");
    entries.iter().filter_map(|(key, value)| scope(reader, key, value)).collect()
}

fn scope(reader: &mut Reader<'_>, key: &Node, value: &Node) -> Option<SecretScope> {
    not_a_value(reader, key);
    let parameter = key.text()?.to_owned();
    let everywhere = SecretScope { parameter, pipelines: Vec::new(), branches: Vec::new(), tags: Vec::new() };
    if value.scalar() == Some(Scalar::Null) {
        return Some(everywhere);
    }
    let fields =
        reader.fields(value, key.span, "the scope of a secret", &["pipelines", "branches", "tags"])?;
    let mut named = Vec::new();
    if let Some(node) = fields.get("pipelines") {
        let items = reader.items(node, "`pipelines`");
        named = items.iter().filter_map(|item| reader.name(item)).collect();
    }
    let branches =
        fields.get("branches").map(|node| patterns(reader, node, "`branches`")).unwrap_or_default();
    let tags = fields.get("tags").map(|node| patterns(reader, node, "`tags`")).unwrap_or_default();
    Some(SecretScope { pipelines: named, branches, tags, ..everywhere })
}
