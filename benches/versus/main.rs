//! Ours against every peer found, side by side, on one machine.
//!
//! ```text
//! cargo bench --bench versus                        CPU per operation, the default
//! cargo bench --bench versus -- shards              two shards against one
//! cargo bench --bench versus -- before              this build against an earlier one
//! cargo bench --bench versus -- memory              bytes per key
//! cargo bench --bench versus -- pause               the longest wait of a client
//! cargo bench --bench versus -- idle                bytes per idle connection
//! cargo bench --bench versus -- observe             what INFO and /metrics cost under load
//! cargo bench --bench versus -- save                SAVE and load, alone and beside writers
//! cargo bench --bench versus -- pubsub              messages to subscribers
//! cargo bench --bench versus -- replication         a full synchronization, the stream, WAIT
//! cargo bench --bench versus -- cpu --help          the options, and what else is set
//! ```
//!
//! One rule decides the design: compare what is robust on a noisy machine.
//! So the main figure is the server's processor time and not its throughput,
//! servers take turns within seconds of each other and are compared turn by
//! turn, and every table says how busy the server and the load were and how
//! long others on the machine kept the server off its core.
//!
//! ```text
//! main      arguments -> one report
//! options   what can be asked for, declared once
//! contest   rounds of turns: the measurement behind `cpu`, `shards` and `before`
//! cpu shards before memory pause idle observe save pubsub replication   one report each
//! load request reply                the load generator
//! server proc                       servers as processes; what the kernel knows of them
//! stats table                       figures and how they are printed
//! ```

use std::error::Error;
use std::process::ExitCode;

mod before;
mod contest;
mod cpu;
mod idle;
mod load;
mod memory;
mod observe;
mod options;
mod pause;
mod proc;
mod pubsub;
mod replication;
mod reply;
mod request;
mod save;
mod server;
mod shards;
mod stats;
mod table;

use options::{Options, Report};
use server::Field;

/// Any error ends the run with its text: half a comparison is none.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a report gets to work with.
struct Bench {
    options: Options,
    field: Field,
    cores: Cores,
}

/// Who runs where when the server has one core.
struct Cores {
    server: usize,
    load: usize,
    all: Vec<usize>,
}

impl Bench {
    /// Prints what every report begins with: what, where, how to repeat it,
    /// and who could not take part.
    fn print_head(&self, title: &str) {
        println!("\n## {title}\n");
        println!("{} cores of {}.\n", self.cores.all.len(), proc::machine());
        println!("```sh\n{}\n```\n", self.options.command_line());
        for missing in &self.field.missing {
            println!("Not compared, since not installed: {missing}\n");
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{}", options::usage());
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome<()> {
    let options = Options::parse(arguments)?;
    let field = Field::find(&options.peers)?;
    let all = proc::allowed_cores()?;
    let server = *all.first().ok_or("no core to run on")?;
    let load = *all.get(1).unwrap_or(&server);
    if load == server {
        eprintln!("versus: a single core: the load and the server share it, so expect noise");
    }
    let bench = Bench { options, field, cores: Cores { server, load, all } };
    match bench.options.report {
        Report::Cpu => cpu::report(&bench),
        Report::Shards => shards::report(&bench),
        Report::Before => before::report(&bench),
        Report::Memory => memory::report(&bench),
        Report::Pause => pause::report(&bench),
        Report::Idle => idle::report(&bench),
        Report::Observe => observe::report(&bench),
        Report::Save => save::report(&bench),
        Report::Pubsub => pubsub::report(&bench),
        Report::Replication => replication::report(&bench),
    }
}
