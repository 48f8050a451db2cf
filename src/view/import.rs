//! Imports, in words.

use std::fmt::{Display, Write as _};

use super::words::count;
use crate::model::deployed::Import;

/// What will be imported.
pub fn sentence(name: &dyn Display, cloud_name: &str, exists: bool, imports: &[Import]) -> String {
    let resources = count(imports.len(), "resource");
    let mut text = if exists {
        format!("{name} takes over {resources}; nothing else of {cloud_name} changes:")
    } else {
        format!("{name} does not exist yet: {cloud_name} is made of {resources}:")
    };
    let width = |of: fn(&Import) -> &str| imports.iter().map(|import| of(import).len()).max().unwrap_or(0);
    let (names, types) = (width(|i| &i.resource), width(|i| &i.resource_type));
    for import in imports {
        let identity: Vec<String> =
            import.identifier.iter().map(|(property, value)| format!("{property} {value}")).collect();
        let identity = identity.join(", ");
        let _ =
            write!(text, "\n  + {:names$}   {:types$}   {identity}", import.resource, import.resource_type);
    }
    text
}

/// How many were imported.
pub fn done(number: usize) -> String {
    format!("{} imported", count(number, "resource"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_over_is_named() {
        let import = |resource: &str, kind: &str, identifier: &[(&str, &str)]| Import {
            resource: resource.to_owned(),
            resource_type: kind.to_owned(),
            identifier: identifier.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        let imports = [
            import("Bucket", "AWS::S3::Bucket", &[("BucketName", "shop-uploads")]),
            import("Route", "AWS::ApiGateway::Resource", &[("RestApiId", "a1"), ("ResourceId", "b2")]),
        ];
        let text = [
            sentence(&"data", "shop-production-data", true, &imports),
            sentence(&"data", "shop-production-data", false, &imports[..1]),
        ];
        insta::assert_snapshot!(text.join("\n\n"), @r"
        data takes over 2 resources; nothing else of shop-production-data changes:
          + Bucket   AWS::S3::Bucket             BucketName shop-uploads
          + Route    AWS::ApiGateway::Resource   ResourceId b2, RestApiId a1

        data does not exist yet: shop-production-data is made of 1 resource:
          + Bucket   AWS::S3::Bucket   BucketName shop-uploads
        ");
    }
}
