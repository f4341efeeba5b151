//! The `farthing` program. All of it is in the library.

/// Exchanges are made on one thread and dropped on another, where the system's allocator is slow: this
/// one takes a tenth off the CPU time of a small exchange.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A panic within an exchange ends that alone: it is contained, and its exchange settles.
const _: () = assert!(cfg!(panic = "unwind"), "a panic must not end the process");

fn main() -> std::process::ExitCode {
    // The message of a panic may quote what was being read, and words and keys belong in no log.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let place = place.as_deref().unwrap_or("a place unknown");
        eprintln!("farthing: a bug showed at {place}; please report it");
    }));
    farthing::main()
}
