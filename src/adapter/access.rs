//! What people may do where `access:` says nothing.

use async_trait::async_trait;

use crate::model::principal::{Level, Principal};
use crate::model::secret::Secret;
use crate::port::access::Access;
use crate::port::cluster::ClusterError;

/// Everybody with an identity of the cluster's own account is an admin; nobody else is anything.
#[derive(Debug, Clone)]
pub struct OwnAccount {
    /// The account that the cluster's machines belong to.
    pub account: String,
}

#[async_trait]
impl Access for OwnAccount {
    async fn token(&self, _bearer: &Secret<String>) -> Result<Option<Principal>, ClusterError> {
        Ok(None)
    }

    async fn level(&self, principal: &Principal) -> Result<Option<Level>, ClusterError> {
        let Principal::Person { arn, session } = principal else { return Ok(None) };
        // Programs on instances, and machines of other clusters, are not people.
        if session.as_ref().is_some_and(|session| session.starts_with("i-")) {
            return Ok(None);
        }
        let account = arn.split(':').nth(4);
        Ok((account == Some(self.account.as_str()) && !self.account.is_empty()).then_some(Level::Admin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_identities_of_the_own_account_have_access() {
        let access = OwnAccount { account: "111122223333".into() };
        let level = async |arn: &str| {
            let person = Principal::Person { arn: arn.into(), session: None };
            access.level(&person).await.expect("known")
        };
        assert_eq!(level("arn:aws:iam::111122223333:user/ann").await, Some(Level::Admin));
        assert_eq!(level("arn:aws:iam::999922223333:user/ann").await, None);
        assert_eq!(level("arn:aws:iam::999922223333:user/x:111122223333").await, None);
        let none = OwnAccount { account: String::new() };
        let person = Principal::Person { arn: "arn:aws:iam:::user/ann".into(), session: None };
        assert_eq!(none.level(&person).await.expect("known"), None);
    }
}
