//! Open files: each exchange under way takes two, for its client and for its upstream.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of this process as far as the system allows without asking. The usual first limit
/// of 1,024, kept for programs that cannot count further, is little for a gateway.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
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
