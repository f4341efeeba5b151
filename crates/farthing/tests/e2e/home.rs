//! A user's place: a configuration, a data directory, and processes of the binary that use them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use facts::Exchange;
use journal::{Body, DirStorage, Reader, Storage};
use ledger::Ledger;
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes that long unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Prices of the provider `test` that are easy to reckon by hand, for the model `m`.
pub(crate) const PRICES: &str = r#"
[[prices]]
provider = "test"
model = "m"
input_uncached = "2.50"
cache_read = "0.25"
cache_write_5m = "3.125"
output_text = "10"
reasoning = "10"
"#;

/// Pico-dollars of a token of uncached input and of output, by [`PRICES`].
pub(crate) const INPUT: i128 = 2_500_000;
pub(crate) const OUTPUT: i128 = 10_000_000;

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(outcome.is_ok(), "never: {what}");
}

/// What a journal has settled, and how many exchanges are open in it.
pub(crate) fn replayed<S: Storage>(reader: &mut Reader<S>) -> (Vec<Exchange>, usize) {
    let (mut ledger, mut settled) = (Ledger::default(), Vec::new());
    while let Some(record) = reader.next().unwrap() {
        match record.decode().unwrap().body {
            Body::Admitted(record) => ledger.admit(record).unwrap(),
            Body::Dispatched(record) => ledger.dispatch(record).unwrap(),
            Body::AttemptEnded(record) => ledger.end(record).unwrap(),
            Body::Settled(record) => settled.push(ledger.settle(record).unwrap()),
            Body::Price(_) | Body::Adjusted(_) | Body::Gap(_) => {}
            Body::Unknown { .. } => panic!("an unknown record"),
        }
    }
    (settled, ledger.open())
}

/// An upstream's table in the configuration.
pub(crate) fn upstream(kind: &str, address: SocketAddr) -> String {
    format!(
        "[upstreams.{kind}]\nkind = \"{kind}\"\nbase_url = \"http://{address}/v1\"\n\
         provider = \"test\"\n"
    )
}

/// Both dialects at one address, at [`PRICES`].
pub(crate) fn both(address: SocketAddr) -> String {
    upstream("openai", address) + &upstream("anthropic", address) + PRICES
}

/// Pico-dollars of a decimal text, reckoned without the project's own types.
pub(crate) fn pico(text: &str) -> i128 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    assert!(part.len() <= 12, "{text}");
    sign * format!("{whole}{part:0<12}").parse::<i128>().unwrap()
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<std::process::Output> for Ran {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// A folder of its own with configuration and data.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new(config: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.configure(config);
        home
    }

    pub(crate) fn configure(&self, config: &str) {
        let data = self.data();
        // Keys without a table come first.
        let text = format!("listen = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n{config}", data.display());
        std::fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.path().join("farthing.toml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.0.path()).env("TMPDIR", self.0.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
        Ran::from(self.command(arguments).envs(env.iter().copied()).output().unwrap())
    }

    pub(crate) fn serve(&self) -> Gateway {
        self.serve_with(&[])
    }

    pub(crate) fn serve_with(&self, env: &[(&str, &str)]) -> Gateway {
        let mut command = self.command(&["serve"]);
        command.envs(env.iter().copied());
        Self::started(command)
    }

    /// Another command that serves.
    pub(crate) fn start(&self, arguments: &[&str]) -> Gateway {
        Self::started(self.command(arguments))
    }

    /// With files of at most so many blocks of 512 or 1,024 bytes (shells differ): a full disk.
    pub(crate) fn serve_on_a_small_disk(&self, blocks: u32) -> Gateway {
        self.serve_after(&format!("trap '' XFSZ; ulimit -f {blocks}"))
    }

    /// In a process to which a shell did something before.
    pub(crate) fn serve_after(&self, script: &str) -> Gateway {
        let serve = self.command(&[]);
        let mut command = Command::new("sh");
        let script = format!("{script}; exec \"$0\" serve");
        command.args(["-c", &script]).arg(serve.get_program());
        command.current_dir(self.0.path()).stdin(Stdio::null());
        Self::started(command)
    }

    /// `serve` where no file may have a single byte.
    pub(crate) fn run_on_a_full_disk(&self) -> Ran {
        let serve = self.command(&[]);
        let mut command = Command::new("sh");
        let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" serve";
        command.args(["-c", script]).arg(serve.get_program());
        command.current_dir(self.0.path()).stdin(Stdio::null());
        Ran::from(command.output().unwrap())
    }

    /// On a disk that [`Gateway::fill_disk`] can fill.
    pub(crate) fn serve_on_a_disk_that_fills(&self) -> Gateway {
        let serve = self.command(&[]);
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" serve"]).arg(serve.get_program());
        command.current_dir(self.0.path()).stdin(Stdio::null());
        Self::started(command)
    }

    fn started(mut command: Command) -> Gateway {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (greet, greeting) = channel();
        let out = listen(child.stdout.take().unwrap(), Arc::clone(&said), None);
        let err = listen(child.stderr.take().unwrap(), Arc::clone(&said), Some(greet));
        let address = address(&greeting);
        let address =
            address.unwrap_or_else(|| panic!("it never greeted: {}", said.lock().unwrap()));
        Gateway { child, address, said, listening: vec![out, err] }
    }

    /// Everything settled so far, in order, and how many exchanges are open, read from the journal's
    /// files.
    pub(crate) fn journal(&self) -> (Vec<Exchange>, usize) {
        let storage = DirStorage::open(self.data().join("journal")).unwrap();
        let mut reader = Reader::open(storage).unwrap();
        let told = replayed(&mut reader);
        assert!(reader.missing().is_empty());
        told
    }

    /// The exchange with this id, if it is settled on the journal.
    pub(crate) fn settled(&self, id: &str) -> Option<Exchange> {
        let (settled, _) = self.journal();
        settled.into_iter().find(|exchange| exchange.admission.exchange.to_string() == id)
    }

    /// The settled exchanges once there are so many.
    pub(crate) async fn once_settled(&self, count: usize) -> Vec<Exchange> {
        eventually("so many exchanges settle", || self.journal().0.len() >= count).await;
        let (settled, open) = self.journal();
        assert_eq!((settled.len(), open), (count, 0));
        settled
    }
}

/// What an exchange cost, pico-dollars; `None` where that is not known.
pub(crate) fn cost(exchange: &Exchange) -> Option<i128> {
    let [attempt] = exchange.attempts.as_slice() else { panic!("one attempt") };
    attempt.end.charged.cost().map(|cost| pico(&cost.to_string()))
}

fn listen(
    from: impl std::io::Read + Send + 'static,
    said: Arc<Mutex<String>>,
    greet: Option<std::sync::mpsc::Sender<SocketAddr>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let address = line.split_once("serving on http://").and_then(|(_, rest)| {
                rest.split_ascii_whitespace().next().and_then(|address| address.parse().ok())
            });
            if let (Some(greet), Some(address)) = (&greet, address) {
                let _ = greet.send(address);
            }
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    })
}

fn address(greeting: &Receiver<SocketAddr>) -> Option<SocketAddr> {
    greeting.recv_timeout(DEADLINE).ok()
}

/// A gateway in a process of its own, killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<String>>,
    listening: Vec<std::thread::JoinHandle<()>>,
}

impl Gateway {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// A line of its `/proc/PID/status`.
    pub(crate) fn status(&self, line: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
        line.trim_matches([':', '\t', ' ']).to_owned()
    }

    /// The same of one that counts memory, KiB.
    pub(crate) fn memory_kib(&self, line: &str) -> usize {
        self.status(line).trim_end_matches(" kB").parse().unwrap()
    }

    /// From now on no file grows, or all may.
    pub(crate) fn fill_disk(&self, full: bool) {
        let (pid, limit) = (self.child.id().to_string(), if full { "0:" } else { "unlimited:" });
        let limit = format!("--fsize={limit}");
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(set.success());
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.all_said()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code and all it said, once it has ended by itself.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let mut status = None;
        eventually("the gateway ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        (status.unwrap().code(), self.all_said())
    }

    /// SIGTERM, and a good end.
    pub(crate) async fn stop(self) -> String {
        self.terminate();
        let (code, said) = self.ended().await;
        assert_eq!(code, Some(0), "{said}");
        said
    }

    fn all_said(&mut self) -> String {
        for thread in self.listening.drain(..) {
            thread.join().unwrap();
        }
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
