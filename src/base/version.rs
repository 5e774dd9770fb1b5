//! What this server is, as `--version`, INFO, the log and crash reports say it.

/// The version of this server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from: what the peers say where the build does not know.
pub const GIT_SHA1: &str = "00000000";

/// Whether there were changes beside that commit.
pub const GIT_DIRTY: u8 = 0;

/// What tells builds of one version apart: nothing does yet.
pub const BUILD_ID: &str = "0000000000000000";

/// The allocator and its version.
pub const ALLOCATOR: &str = "jemalloc-5.3.0";
