//! `farthing simulated`: a model server without a model, at the pace of one that a GPU would serve.

use std::net::SocketAddr;

use anyhow::Context;
use quantity::grouped;
use simulated::{Simulated, Stats};
use tokio::net::TcpListener;

use crate::serve::{interrupted, runtime};
use crate::simulate::{Replica, Serving, some};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    serving: Serving,
    /// Copies of all that; each request goes to the next in turn
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    replicas: u32,
    /// Prompts that begin with the same messages share nothing. Else a replica keeps the KV cache of what it has read until
    /// it needs the room: what it finds there it does not compute, and usage tells of it as cached
    #[arg(long)]
    no_prefix_caching: bool,
    /// Output tokens of a reply where the request does not say [default: 16 to 128, by the prompt]
    #[arg(long = "out", value_name = "TOKENS", value_parser = some)]
    output: Option<u32>,
    /// How many times as fast as the clock everything is
    #[arg(long, value_name = "FACTOR", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    speed: u32,
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    runtime()?.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let interrupted = interrupted();
    let Replica { setup, memory, mut engine } = arguments.serving.replica()?;
    engine.enable_prefix_caching = !arguments.no_prefix_caching;
    let (replicas, speed) = (arguments.replicas, arguments.speed);
    let serving = simulated::Serving::start(&engine, setup.compile(), replicas, speed)?;
    let model = setup.model.row().name().to_owned();
    let clock = gateway::Clock::system();
    let options = simulated::Options {
        engine: Some(serving),
        speed,
        models: vec![model.clone()],
        output_tokens: arguments.output.map(u64::from),
        now: std::sync::Arc::new(move || clock.now()),
        ..simulated::Options::default()
    };
    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let server = Simulated::serve(listener, options)?;
    let gpus = setup.layout.accelerators() * replicas;
    eprintln!(
        "farthing simulated: {model} on {gpus} x {} with {}, serving on http://{}\n  \
         {} x {} tokens of KV cache, steps of up to {} tokens, {} sequences; predicted, not measured",
        setup.accelerator.row().name(),
        setup.engine.row().name(),
        server.address(),
        replicas,
        grouped(memory.kv_tokens),
        grouped(u64::from(engine.max_num_batched_tokens)),
        grouped(u64::from(engine.max_num_seqs)),
    );
    interrupted.await;
    let stats = server.stats();
    let Stats { completed, refused, cancelled, input_tokens, cached_tokens, .. } = stats;
    let Stats { generated_tokens, begun, ttft_ps, .. } = stats;
    server.shutdown().await;
    let ttft = match ttft_ps.checked_div(begun) {
        Some(mean_ps) => {
            format!("; TTFT {:.2} ms in the mean by the engine's clock", mean_ps as f64 / 1e9)
        }
        None => String::new(),
    };
    eprintln!(
        "farthing simulated: {} replies, {} refused, {} left early\n  \
         {} tokens read, of these {} from the prefix cache, {} generated{ttft}",
        grouped(completed),
        grouped(refused),
        grouped(cancelled),
        grouped(input_tokens),
        grouped(cached_tokens),
        grouped(generated_tokens),
    );
    Ok(())
}
