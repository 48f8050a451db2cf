//! Tokens for callers without an AWS identity.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chrono::Utc;

use super::super::strict::Strict;
use super::{Api, Authorised, Problem};
use crate::model::principal::Target;
use crate::plan::audit::who;
use crate::port::tokens::{CreatedBody, NewToken, TOKENS_VERSION, TokensBody};

pub(super) async fn create(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(new): Strict<NewToken>,
) -> Result<Json<CreatedBody>, Problem> {
    let created = api.tokens.create(&new, &who(&authorised.principal), Utc::now()).await?;
    tracing::info!(token = %new.name, level = %new.level, by = %authorised.principal, "token created");
    Ok(Json(CreatedBody {
        version: TOKENS_VERSION,
        info: created.info,
        token: created.text.expose().clone(),
    }))
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<TokensBody>, Problem> {
    Ok(Json(TokensBody { version: TOKENS_VERSION, tokens: api.tokens.list().await? }))
}

pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
) -> Result<StatusCode, Problem> {
    let Target::Token(name) = &authorised.target else {
        return Err(Problem::invalid("this is about one token"));
    };
    api.tokens.revoke(name).await?;
    tracing::info!(token = %name, by = %authorised.principal, "token revoked");
    Ok(StatusCode::NO_CONTENT)
}
