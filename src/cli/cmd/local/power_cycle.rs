//! `fleetwright local power-cycle`.

use clap::ValueEnum;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::event::Events;
use crate::local::home::Home;
use crate::local::power::{self, Delay, Options, Which};
use crate::model::machine::Role;
use crate::model::name::LocalName;
use crate::view;

/// Cuts the power of machines and switches them on again, each after a delay
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Every program of a machine ends at once, without a signal. After its delay the machine boots again:
the same instance with the same address and the same disks, an empty /run and another boot id. While
it is off it is no terminated instance, and `local status` shows it as `off`. What a program has
written and not synced is kept: the disks of a machine are files of this computer.

All power is cut at the same moment, unless --one-at-a-time is given. The delays are drawn from the
range of --delay. In the order `random` each machine has its own; otherwise each machine is switched
on a delay after the one before it.

The background process carries the order out, so machines are switched on again even if this
command is interrupted.

Examples:
  fleetwright local power-cycle i-0d3c1f2a9b8e7d6c5
  fleetwright local power-cycle --all --delay 5s..60s
  fleetwright local power-cycle --all --delay 5s..60s --seed 4711
  fleetwright local power-cycle --role control --delay 2m --order reversed
  fleetwright local power-cycle --role worker --one-at-a-time")]
pub struct Args {
    /// The machines' instance ids
    #[arg(value_name = "MACHINE", required_unless_present_any = ["all", "role"], conflicts_with_all = ["all", "role"])]
    machines: Vec<String>,

    /// All machines of the local cloud
    #[arg(long, conflicts_with = "role")]
    all: bool,

    /// The machines whose tag `fleetwright:role` has this value
    #[arg(long, value_enum)]
    role: Option<RoleName>,

    /// How long a machine is off: a duration such as 10s, or a range such as 5s..2m
    #[arg(long, value_name = "RANGE", default_value = "5s..30s")]
    delay: Delay,

    /// The order in which machines are switched on
    #[arg(long, value_enum, default_value_t = Order::Random)]
    order: Order,

    /// Cut the power of each machine only when the one before it is on again
    #[arg(long)]
    one_at_a_time: bool,

    /// Draw the same delays and order as the power cycle that printed this seed
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Control machines
    Control,
    /// Workers
    Worker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// As the delays fall
    Random,
    /// As the machines are listed; by group and address with --all and --role
    Listed,
    /// The other way round
    Reversed,
}

/// Runs the command.
pub async fn run(context: &Context, home: &Home, name: &LocalName, args: Args) -> Result<(), Failure> {
    let state = super::state_of(home, name)?;
    let which = match args.role {
        Some(RoleName::Control) => Which::Role(Role::Control),
        Some(RoleName::Worker) => Which::Role(Role::Worker),
        None if args.all => Which::All,
        None => Which::Named(args.machines),
    };
    let options = Options {
        which,
        delay: args.delay,
        order: match args.order {
            Order::Random => power::Order::Random,
            Order::Listed => power::Order::Listed,
            Order::Reversed => power::Order::Reversed,
        },
        one_at_a_time: args.one_at_a_time,
        seed: args.seed.unwrap_or_else(|| chrono::Utc::now().timestamp_micros().unsigned_abs()),
    };
    let (events, mut receiver) = Events::channel();
    let mut progress = view::local::Progress::new(context.live && !context.json());
    let mut show = |event| {
        if context.json() {
            view::json::line(&serde_json::to_value(&event).unwrap_or_default());
        } else {
            progress.handle(&event);
        }
    };
    let work = power::cycle(home, name, &state, &options, &events);
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            Some(event) = receiver.recv() => show(event),
            result = &mut work => break result,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::Interrupted {
                    left: "machines whose power was cut are switched on again when their time has come".into(),
                });
            }
        }
    };
    while let Ok(event) = receiver.try_recv() {
        show(event);
    }
    Ok(result?)
}
