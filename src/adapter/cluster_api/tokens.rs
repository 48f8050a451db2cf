//! Tokens of the cluster, through its API.

use async_trait::async_trait;
use reqwest::Method;

use super::{Again, ClusterApi};
use crate::model::name::TokenName;
use crate::model::secret::Secret;
use crate::port::cluster::ClusterError;
use crate::port::tokens::{CreatedBody, CreatedToken, NewToken, TokenInfo, Tokens, TokensBody};

#[async_trait]
impl Tokens for ClusterApi {
    async fn create(&self, token: &NewToken) -> Result<CreatedToken, ClusterError> {
        let created: CreatedBody =
            self.0.answer(Method::POST, "tokens", Some(token), Again::OnlyUnsent).await?;
        Ok(CreatedToken { info: created.info, text: Secret::new(created.token) })
    }

    async fn list(&self) -> Result<Vec<TokenInfo>, ClusterError> {
        let found: TokensBody = self.0.answer(Method::GET, "tokens", None::<&()>, Again::Always).await?;
        Ok(found.tokens)
    }

    async fn revoke(&self, name: &TokenName) -> Result<(), ClusterError> {
        let path = format!("tokens/{name}");
        self.0.call(Method::DELETE, &path, None::<&()>, Again::Always).await.map(|_: Option<()>| ())
    }
}
