//! What a gateway asks of the system for its process.

use std::io;
use std::thread::{Builder, JoinHandle};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How much lower the priority of work that can wait is: a tenth of the time, where all is wanted.
const BACK: i32 = 10;

/// Raises the limit of open files as far as the system allows without asking: each exchange under way
/// takes two, for its client and for its upstream. The usual first limit of 1,024, kept for programs
/// that cannot count further, is little for a gateway.
pub(crate) fn raise_limit_of_files() {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Takes memory in pages of 4 KiB. Linux may give 2 MiB at a touch instead, which it has to clear
/// first: every exchange of that thread waits for it, on a virtual machine for milliseconds, and most
/// of the memory is never used.
pub(crate) fn use_small_pages() {
    #[cfg(target_os = "linux")]
    // Where it cannot be asked for, only the slowest exchanges are slower.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Starts a thread for what can wait until those who are served have been.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn in_background(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let run = move || {
        // Elsewhere this would slow down the whole process.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(BACK);
        work();
    };
    Builder::new().name(name.to_owned()).spawn(run).context("the system gives no thread")
}

/// What to say of a connection that could not be accepted.
pub(crate) fn not_accepted(error: &io::Error) -> String {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    format!(
        "a connection could not be accepted: {error}; clients wait until others leave\n\
         hint: an exchange under way takes two open files, and this process may have {limit}: \
         raise the hard limit (`ulimit -Hn`, `LimitNOFILE=` of a systemd unit)"
    )
}
