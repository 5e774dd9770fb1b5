//! The world as commands may ask for it ([`crate::instance::Host`]).

use crate::base::clock;
use crate::instance::Host;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;
use std::{fs, process, thread};

/// This process on this machine.
#[derive(Debug)]
pub struct Machine;

impl Host for Machine {
    fn unix_us(&self) -> i64 {
        clock::unix_us()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    fn abort(&self) -> ! {
        process::abort()
    }

    fn rewrite(&self, path: &Path, change: &dyn Fn(&[u8], &Path) -> Vec<u8>) -> io::Result<()> {
        // A link stays one.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (old, permissions) = match fs::read(path) {
            Ok(old) => (old, Some(fs::metadata(path)?.permissions())),
            // It has been removed: that is no reason to lose what was in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => return Err(error),
        };
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.new", process::id()));
        let written = (|| {
            let mut file = fs::File::create(&name)?;
            if let Some(permissions) = permissions {
                file.set_permissions(permissions)?;
            }
            file.write_all(&change(&old, path))?;
            file.sync_all()?;
            fs::rename(&name, path)
        })();
        if written.is_err() {
            // What is wrong has been found out already.
            let _ = fs::remove_file(&name);
        }
        written
    }
}
