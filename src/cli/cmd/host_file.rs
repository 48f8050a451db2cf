//! `fleetwright host-file`.

use serde_json::{Value, json};

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::host_files::{Known, not_deployed};
use crate::model::host_file::HostFileSpec;
use crate::model::machine::Machine;
use crate::model::name::{HostFileName, MachineId};
use crate::model::project::{Environment, Repository};
use crate::port::cluster::Cluster as _;
use crate::port::host_files::HostFileCluster as _;
use crate::source::suggest;
use crate::view;
use crate::view::paint::Paint;

/// Shows watched files: files on machines, rendered from what the cluster knows
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists the watched files of the cluster, and on how many machines they are in place
    #[command(after_long_help = "\
Examples:
  fleetwright host-file ls
  fleetwright host-file ls -o json     described in docs/json.md")]
    Ls,
    /// Shows what is deployed of a watched file, and how far each machine has come
    #[command(after_long_help = "\
Examples:
  fleetwright host-file show proxy")]
    Show {
        /// The watched file
        #[arg(value_name = "FILE")]
        file: HostFileName,
    },
    /// Prints a watched file as a machine would have it
    #[command(after_long_help = "\
Renders the template of this repository, deployed or not, from what the cluster knows now. Names that
the template looks up with `lookup_ip` are only looked up on machines.

Examples:
  fleetwright host-file render proxy
  fleetwright host-file render proxy --machine i-0d3c1f2a9b8e7d6c5
  fleetwright host-file render proxy --deployed        what the cluster has, not the repository")]
    Render {
        /// The watched file
        #[arg(value_name = "FILE")]
        file: HostFileName,

        /// The machine; by default the first that has the file
        #[arg(long, value_name = "ID")]
        machine: Option<MachineId>,

        /// Render what is deployed
        #[arg(long)]
        deployed: bool,
    },
    /// Shows what deploying a watched file would change on machines
    #[command(after_long_help = "\
Exit status: 0 no change, 3 changes.

Examples:
  fleetwright host-file diff                  all of them
  fleetwright host-file diff proxy
  fleetwright host-file diff proxy --machine i-0d3c1f2a9b8e7d6c5")]
    Diff {
        /// The watched file; by default all of the repository
        #[arg(value_name = "FILE")]
        file: Option<HostFileName>,

        /// Compare on this machine alone
        #[arg(long, value_name = "ID")]
        machine: Option<MachineId>,
    },
    /// Removes a watched file from the cluster; the files on machines stay as they are
    #[command(
        visible_alias = "rm",
        after_long_help = "\
Needs the level admin. Remove it from host_files/ as well, or the next `deploy` deploys it again.

Examples:
  fleetwright host-file rm proxy"
    )]
    Remove {
        /// The watched file
        #[arg(value_name = "FILE")]
        file: HostFileName,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Action::Ls => ls(context).await,
        Action::Show { file } => show(context, &file).await,
        Action::Render { file, machine, deployed } => {
            render(context, &file, machine.as_ref(), deployed).await
        }
        Action::Diff { file, machine } => diff(context, file.as_ref(), machine.as_ref()).await,
        Action::Remove { file } => remove(context, &file).await,
    }
}

async fn ls(context: &Context) -> Result<Done, Failure> {
    let cluster = context.cluster_api().await?;
    let files = cluster.host_files().await.map_err(|error| failure(&error))?;
    let machines = cluster.snapshot().await.map_err(|error| failure(&error))?.machines;
    if context.json() {
        let files: Vec<Value> = files.iter().map(|file| view::host_file::json(file, &machines)).collect();
        view::json::document(&json!({ "version": 1, "host_files": files }));
    } else {
        view::out::stdout(&view::host_file::list(&files, &machines));
    }
    Ok(Done::Ok)
}

async fn show(context: &Context, name: &HostFileName) -> Result<Done, Failure> {
    let cluster = context.cluster_api().await?;
    let files = cluster.host_files().await.map_err(|error| failure(&error))?;
    let Some(file) = files.iter().find(|file| file.spec.name == *name) else {
        return Err(not_deployed(name.as_str()));
    };
    let machines = cluster.snapshot().await.map_err(|error| failure(&error))?.machines;
    if context.json() {
        let mut document = view::host_file::json(file, &machines);
        document["version"] = 1.into();
        view::json::document(&document);
    } else {
        view::out::stdout(&view::host_file::show(file, &machines));
    }
    Ok(Done::Ok)
}

/// The watched file of that name in the repository.
fn wanted<'r>(
    repository: &'r Repository,
    environment: &Environment,
    name: &HostFileName,
) -> Result<&'r HostFileSpec, Failure> {
    let found = repository.host_files.iter().find(|file| file.name() == name);
    found.map(|file| file.in_environment(&environment.name)).ok_or_else(|| {
        let known = repository.host_files.iter().map(|file| file.name().as_str());
        let next = match suggest(name.as_str(), known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "host_files/ describes them, as docs/watched-files.md shows".to_owned(),
        };
        Failure::usage(format!("this repository has no watched file `{name}`"), next)
    })
}

/// The machine of that id, or the first that has the file.
fn machine<'k>(
    known: &'k Known,
    spec: &HostFileSpec,
    id: Option<&MachineId>,
) -> Result<&'k Machine, Failure> {
    match id {
        Some(id) => known.machines().iter().find(|machine| machine.id == *id).ok_or_else(|| {
            failure(&crate::port::cluster::ClusterError::NotFound { what: "machine", name: id.to_string() })
        }),
        None => known.machines().iter().find(|machine| spec.is_on(machine)).ok_or_else(|| {
            Failure::failed(
                format!("no machine has the watched file `{}`", spec.name),
                "`fleetwright machines` shows their metadata, which `where` is compared with",
            )
        }),
    }
}

async fn render(
    context: &Context,
    name: &HostFileName,
    id: Option<&MachineId>,
    is_deployed: bool,
) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let environment = context.environment(&repository)?;
    let cluster = context.cluster_api_of(&repository, environment).await?;
    let known = if is_deployed {
        let files = cluster.host_files().await.map_err(|error| failure(&error))?;
        let file = files.iter().find(|file| file.spec.name == *name);
        let file = file.ok_or_else(|| not_deployed(name.as_str()))?;
        (Known::ask(cluster.as_ref(), &repository, environment, &[&file.spec]).await?, file.spec.clone())
    } else {
        let spec = wanted(&repository, environment, name)?;
        (Known::ask(cluster.as_ref(), &repository, environment, &[spec]).await?, spec.clone())
    };
    let (known, spec) = known;
    let machine = machine(&known, &spec, id)?;
    let text = known.render(&spec, machine).map_err(|reason| {
        Failure::failed(
            format!("`{name}` can't be rendered for {}: {reason}", machine.id),
            format!("see {}, and docs/watched-files.md for what it may use", spec.source),
        )
    })?;
    if context.json() {
        let document = json!({
            "version": 1, "host_file": name, "machine": machine.id, "path": spec.path, "text": context.mask().mask(&text),
        });
        view::json::document(&document);
    } else {
        view::out::stdout(&text);
    }
    Ok(Done::Ok)
}

async fn diff(
    context: &Context,
    name: Option<&HostFileName>,
    id: Option<&MachineId>,
) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let environment = context.environment(&repository)?;
    let specs: Vec<&HostFileSpec> = match name {
        Some(name) => vec![wanted(&repository, environment, name)?],
        None => repository.host_files.iter().map(|file| file.in_environment(&environment.name)).collect(),
    };
    let cluster = context.cluster_api_of(&repository, environment).await?;
    let known = Known::ask(cluster.as_ref(), &repository, environment, &specs).await?;
    if let (Some(id), Some(spec)) = (id, specs.first()) {
        machine(&known, spec, Some(id))?;
    }
    let mut compared = crate::plan::comparison::Comparison {
        host_files: specs.iter().map(|spec| known.plan(spec)).collect(),
        ..Default::default()
    };
    if let Some(id) = id {
        for plan in &mut compared.host_files {
            plan.machines.iter_mut().for_each(|effect| effect.machines.retain(|machine| machine == id));
            plan.machines.retain(|effect| !effect.machines.is_empty());
        }
    }
    let mask = context.mask();
    compared.map_values(|value| mask.mask(value));
    if context.json() {
        let document =
            json!({ "version": 1, "changes": compared.has_changes(), "host_files": compared.host_files });
        view::json::document(&document);
    } else {
        view::out::stdout(&view::deploy::human(&compared, Paint(context.colour_out)));
    }
    Ok(if compared.has_changes() { Done::Changes } else { Done::Ok })
}

async fn remove(context: &Context, name: &HostFileName) -> Result<Done, Failure> {
    let cluster = context.cluster_api_to_change(&format!("fleetwright host-file rm {name}")).await?;
    cluster.remove_host_file(name).await.map_err(|error| failure(&error))?;
    if context.json() {
        view::json::document(&json!({ "version": 1, "host_file": name, "removed": true }));
    } else {
        eprintln!("{name}   removed; the files on machines stay as they are");
    }
    Ok(Done::Ok)
}
