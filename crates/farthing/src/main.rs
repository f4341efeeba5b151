//! The `farthing` program. All of it is in the library.

/// Exchanges are made on one thread and dropped on another, where the system's allocator is slow: this
/// one takes a tenth off the CPU time of a small exchange.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    farthing::main()
}
