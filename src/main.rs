//! Arguments to a configuration, and on to [`redshard::server::boot`].

use redshard::base::memory::Counting;
use redshard::config::cli::{self, Start};
use redshard::server::{boot, check, logs};
use std::io::{self, Write as _};
use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// jemalloc, because its classes are what they say: 5 M blocks of 80 bytes take 80.7 bytes each of
/// resident memory, where mimalloc 3 took 96.5.
#[global_allocator]
static ALLOCATOR: Counting<Jemalloc> = Counting(Jemalloc);

/// Asks for huge pages where the kernel has them (`transparent_hugepage` at `madvise` or `always`),
/// which `disable-thp no` then lets it have (`server/process.rs` says what that is worth). jemalloc
/// reads this when it starts, and after it the environment's `_RJEM_MALLOC_CONF`.
// SAFETY: (1) the allocator declares the symbol as a pointer to a string that ends with NUL, which a
// reference to this array is; (2) it only reads it; (3) nobody else defines it.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 11] = b"thp:always\0";

fn main() -> ExitCode {
    let config = match cli::read(std::env::args_os().collect()) {
        Ok(Start::Serve(config)) => *config,
        Ok(Start::CheckRdb(file)) => return check::rdb(&file),
        Ok(Start::Print(text)) => {
            return match io::stdout().write_all(text.as_bytes()) {
                // Whoever pipes it into `head` has read enough.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
                _ => ExitCode::SUCCESS,
            };
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match boot::serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logs::fatal(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
