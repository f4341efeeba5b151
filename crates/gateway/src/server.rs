//! The server: connections in, spread over a worker for each core.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use journal::Handle;
use quantity::HashKey;
use tariff::Book;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::access::Access;
use crate::client_io::ClientIo;
use crate::clock::Clock;
use crate::limits::{Bodies, MAX_DRAINS, RetryBudget, Slots};
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::settings::{Settings, SettingsError};
use crate::shared::{KnownRows, Shared, Watch};
use crate::upstream::Connections;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a shutdown waits for exchanges under way.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// A gateway that is ready to serve.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

impl Gateway {
    /// A gateway with these settings, that prices by this book, writes to this journal and tells
    /// `watch`. `key` is the data directory's secret for fingerprints; `recent` may hold exchanges
    /// from before.
    ///
    /// # Errors
    /// [`SettingsError`] if the settings cannot be served.
    pub fn new(
        settings: Settings,
        book: Arc<Book>,
        journal: Handle,
        clock: Clock,
        key: HashKey,
        recent: Recent,
        watch: Arc<dyn Watch>,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self(Arc::new(Shared {
            retries: RetryBudget::new(),
            slots: Slots::new(&settings),
            bodies: Bodies::default(),
            access: Access::new(&settings),
            drains: Arc::new(Semaphore::new(MAX_DRAINS)),
            settings,
            book,
            journal,
            clock,
            key,
            metrics: Metrics::default(),
            recent,
            rows: KnownRows::default(),
            watch,
        })))
    }

    /// Serves until `shutdown`, then lets exchanges under way end, for thirty seconds at most; the
    /// clients of those that remain are cut off, and they settle as aborted.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<Worker> =
            (0..cores).map(|_| Worker::start(&self.0)).collect::<io::Result<_>>()?;
        let mut shutdown = std::pin::pin!(shutdown);
        for worker in workers.iter().cycle() {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => worker.take(stream),
                    // Out of file descriptors, most likely: connections that end free some.
                    Err(error) => {
                        self.0.metrics.not_accepted();
                        self.0.watch.not_accepted(&error);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
                () = &mut shutdown => break,
            }
        }
        drop(listener);
        let ended = tokio::task::spawn_blocking(|| {
            // All are told before any is waited for: their time to end is the same.
            let threads: Vec<_> = workers.into_iter().map(Worker::close).collect();
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        ended.await.map_err(io::Error::other)
    }
}

/// A thread with a runtime and upstream connections of its own. A connection stays with one worker,
/// so that no exchange wakes another thread but the journal's.
struct Worker {
    accepted: UnboundedSender<std::net::TcpStream>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let journal = shared.journal.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Records are handed to the journal's thread when there is nothing else to do, many at a
            // time when there is much to do.
            .on_thread_park(move || journal.wake())
            .build()?;
        let (accepted, incoming) = unbounded_channel();
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || runtime.block_on(work(shared, incoming)))?;
        Ok(Self { accepted, thread })
    }

    fn take(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        if let Ok(stream) = stream.into_std() {
            // The thread ends only after this sender is gone.
            let _ = self.accepted.send(stream);
        }
    }

    /// Tells it to end; gives its thread, to be waited for.
    fn close(self) -> std::thread::JoinHandle<()> {
        self.thread
    }
}

async fn work(shared: Arc<Shared>, mut incoming: UnboundedReceiver<std::net::TcpStream>) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let patience = shared.settings.client_timeout;
    let graceful = GracefulShutdown::new();
    let upstreams = Connections::new();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = incoming.recv() => match stream {
                Some(stream) => stream,
                None => break,
            },
            Some(_) = connections.join_next() => continue,
        };
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let (shared, upstreams) = (Arc::clone(&shared), upstreams.clone());
        let service = service_fn(move |request| {
            let (shared, upstreams) = (Arc::clone(&shared), upstreams.clone());
            async move { Ok::<_, Infallible>(shared.answer(&upstreams, request).await) }
        });
        let stream = TokioIo::new(ClientIo::new(stream, patience));
        let connection = graceful.watch(http.serve_connection(stream, service));
        connections.spawn(async move {
            // A connection that breaks is the client's affair; its exchange settles on drop.
            let _ = connection.await;
        });
    }
    let _ = timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
    connections.shutdown().await;
}
