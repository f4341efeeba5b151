//! Both ends of the gateway bench: the upstream that every gateway forwards to, and the clients.
//!
//! ```text
//! gateway-load upstream ADDRESS
//! gateway-load clients ADDRESS unary|stream|paced|slow CONNECTIONS SECONDS MODEL [HEADER: VALUE]...
//! gateway-load arrivals ADDRESS unary|stream|paced|slow PER-SECOND SECONDS MODEL [HEADER: VALUE]...
//! ```
//!
//! `clients` runs a closed loop: each connection sends its next request when the last reply is
//! complete. `arrivals` sends at a rate, whether or not replies come, and counts the latency from the
//! moment at which a request was to be sent: a target that falls behind cannot slow the clients down
//! and so hide it. Every reply is checked, and one line of JSON with the result goes to stdout.
//! Each end runs on one thread (and one that sleeps until the next arrival), so that it leaves the
//! other cores to the gateway under test.

mod clients;
mod http;
mod payload;
mod upstream;

use clients::Load;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: gateway-load upstream ADDRESS
       gateway-load clients ADDRESS unary|stream|paced|slow CONNECTIONS SECONDS MODEL [HEADER: VALUE]...
       gateway-load arrivals ADDRESS unary|stream|paced|slow PER-SECOND SECONDS MODEL [HEADER: VALUE]...";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["upstream", address] => upstream::serve(address).await.map_err(|error| error.to_string()),
        [kind, address, shape, load, seconds, model, headers @ ..] => {
            match plan(kind, address, shape, load, seconds, model, headers) {
                Some(plan) => clients::run(plan).await.map(|result| println!("{result}")),
                None => Err(USAGE.to_owned()),
            }
        }
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn plan(
    kind: &str,
    address: &str,
    shape: &str,
    load: &str,
    seconds: &str,
    model: &str,
    headers: &[&str],
) -> Option<clients::Plan> {
    let load = match kind {
        "clients" => Load::Closed { connections: load.parse().ok().filter(|n| *n > 0)? },
        "arrivals" => Load::Open { rate: load.parse().ok().filter(|rate| *rate > 0.0)? },
        _ => return None,
    };
    let shape = payload::Shape::parse(shape)?;
    Some(clients::Plan {
        address: address.to_owned(),
        shape,
        load,
        duration: Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?,
        request: payload::request(address, shape, model, headers),
    })
}
