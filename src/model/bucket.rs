//! The name of a project's bucket, one for each account and region.

use sha2::{Digest as _, Sha256};

/// The longest name that a bucket may have.
const LONGEST: usize = 63;

/// Digits of an account.
const ACCOUNT: usize = 12;

/// The bucket's name. A project whose name would make it too long has a hash of it there.
pub fn name(project: &str, account: &str, region: &str) -> String {
    format!("{}-{account}-{region}", beginning(project, region))
}

/// The bucket's name for templates of CloudFormation, which fills in the account.
pub fn substitution(project: &str, region: &str) -> String {
    format!("{}-${{AWS::AccountId}}-${{AWS::Region}}", beginning(project, region))
}

fn beginning(project: &str, region: &str) -> String {
    let name = format!("fleetwright-{project}");
    // A project that is called like a hash gets one too: so no name is a hash of another.
    let is_like_hash = project.len() == 16 && project.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Two hyphens, the account and the region follow.
    if !is_like_hash && name.len() + 2 + ACCOUNT + region.len() <= LONGEST {
        return name;
    }
    let hash: String = Sha256::digest(project).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("fleetwright-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_s_name_is_never_too_long() {
        assert_eq!(name("shop", "123456789012", "eu-west-1"), "fleetwright-shop-123456789012-eu-west-1");
        let long = name(&"x".repeat(40), "123456789012", "ap-southeast-1");
        assert!(long.len() <= LONGEST && long.ends_with("-123456789012-ap-southeast-1"), "{long}");
        assert_ne!(long, name(&"y".repeat(40), "123456789012", "ap-southeast-1"));
    }

    #[test]
    fn a_project_called_like_the_hash_of_another_has_another_bucket() {
        let long = name(&"x".repeat(40), "123456789012", "ap-southeast-1");
        let hash = long.strip_prefix("fleetwright-").and_then(|rest| rest.split('-').next()).expect("a hash");
        assert_ne!(name(hash, "123456789012", "ap-southeast-1"), long);
    }

    #[test]
    fn templates_name_the_same_bucket() {
        for project in
            ["shop", &"x".repeat(40), &"x".repeat(23), &"x".repeat(24), &"x".repeat(28), &"x".repeat(29)]
        {
            for region in ["eu-west-1", "ap-southeast-1"] {
                let text = substitution(project, region)
                    .replace("${AWS::AccountId}", "123456789012")
                    .replace("${AWS::Region}", region);
                assert_eq!(text, name(project, "123456789012", region));
                assert!(text.len() <= LONGEST, "{text}");
            }
        }
    }
}
