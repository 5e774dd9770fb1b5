//! Arguments to a configuration, and on to [`redshard::server::boot`].

use redshard::base::memory::Counting;
use redshard::config::parse::{self, Start};
use redshard::server::boot;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// jemalloc, because its classes are what they say: 5 M blocks of 80 bytes take 80.7 bytes each of
/// resident memory, where mimalloc 3 took 96.5.
#[global_allocator]
static ALLOCATOR: Counting<Jemalloc> = Counting(Jemalloc);

fn main() -> ExitCode {
    let arguments: Vec<Vec<u8>> = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let config = match parse::start_line(&arguments) {
        Ok(Start::Serve(config)) => *config,
        Ok(Start::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    tracing_subscriber::fmt().with_target(false).with_ansi(false).init();
    end_with_any_panic();
    match boot::serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A shard that panicked would leave its keys unreachable and its clients hanging: better none of
/// it than half.
fn end_with_any_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        eprintln!("Redshard ends: one shard cannot go on, so none does.");
        std::process::abort();
    }));
}
