//! `fleetwright local push`.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::local::home::Home;
use crate::local::push;
use crate::model::name::LocalName;
use crate::view;

/// Puts an image of this computer's Docker into the local cloud's registry
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Dockerfiles of pipelines find it there (`FROM debian:12`), and so does `deploy --image` for a service
whose image has no tag.

Examples:
  fleetwright local push debian:12
  fleetwright local push my-postgres --as shop/postgres:15")]
pub struct Args {
    /// The image, as `docker images` shows it
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Its name in the registry [default: the same]
    #[arg(id = "as", long = "as", value_name = "NAME")]
    to: Option<String>,
}

/// Runs the command.
pub async fn run(context: &Context, home: &Home, name: &LocalName, args: Args) -> Result<(), Failure> {
    let state = super::state_of(home, name)?;
    let to = args.to.as_deref().unwrap_or(&args.image);
    let files = home.cloud(name);
    let work = push::push(&files, state.ports.registry, &args.image, to);
    let digest = tokio::select! {
        digest = work => digest?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::Interrupted { left: "the registry keeps the layers that it has".into() });
        }
    };
    if context.json() {
        view::json::line(&serde_json::json!({"version": 1, "image": to, "digest": digest}));
    } else {
        view::out::stdout(&format!("{to} is in the registry of local cloud `{name}`: {digest}\n"));
    }
    Ok(())
}
