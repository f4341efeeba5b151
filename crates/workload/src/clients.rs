//! Tables of clients: how often each of them asks through a day, and how long its requests are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::iter::Peekable;
use std::time::Duration;

use quantity::TokenCount;
use serde::Deserialize;

use crate::{Random, Row};

/// Windows of a table whose last one has no next to tell where it ends.
const WINDOW: Duration = Duration::from_secs(600);
/// Gaps of a larger shape are all alike; without a bound one could be infinite, which nothing can be drawn of.
const MOST_SHAPE: f64 = 1e12;
/// No window of a table has more arrivals: ten thousand a second, for ten minutes.
const MOST: f64 = 6e6;

/// One client of a `ServeGen` table: rates and gaps by windows of time, and lengths by longer ones.
///
/// # Source
/// <https://github.com/alibaba/ServeGen>, `data`: `chunk-N-trace.csv` has a window a line, its start in seconds, requests
/// a second, their gaps' coefficient of variation, and of the distribution that was fitted to these its family, shape and
/// scale; `chunk-N-dataset.json` has histograms of tokens from some times on, each a text such as `{45: 0.2, 46: 0.8}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    windows: Vec<Window>,
    /// From which second on requests are like that.
    lengths: BTreeMap<u64, Lengths>,
}

#[derive(Debug, Clone, PartialEq)]
struct Window {
    start: Duration,
    length: Duration,
    /// Requests in it, in the mean.
    requests: f64,
    gaps: Gaps,
}

/// How gaps between arrivals are distributed, but for their mean: by its shape.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gaps {
    Gamma(f64),
    Weibull(f64),
}

/// Of a prompt's kinds of parts the tokens of each and how many there are, and of the reply.
#[derive(Debug, Clone, PartialEq, Default)]
struct Lengths {
    text: Histogram,
    media: Vec<(Histogram, Histogram)>,
    output: Histogram,
}

/// Counts with the probability that a draw is at most that, times any factor.
#[derive(Debug, Clone, PartialEq, Default)]
struct Histogram(Vec<(u32, f64)>);

/// What is not as a table of clients is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected}, found `{found}`")]
pub struct ClientError {
    /// The line of the table, or the keys of the histogram.
    pub place: String,
    /// What should be there.
    pub expected: &'static str,
    /// What is there, shortened.
    pub found: String,
}

fn error(place: String, expected: &'static str, found: &str) -> ClientError {
    ClientError { place, expected, found: found.chars().take(60).collect() }
}

impl Client {
    /// Whether a file's first line is one of a client's windows.
    #[must_use]
    pub fn is_told_by(first: &str) -> bool {
        window(first.trim_end()).is_ok_and(|window| window.is_some())
    }

    /// From the two files' texts.
    ///
    /// # Errors
    /// If one of them is not what the format promises, or nothing tells how long requests are that come.
    pub fn read(trace: &str, dataset: &str) -> Result<Self, ClientError> {
        let mut windows: Vec<Window> = Vec::new();
        for (line, number) in trace.lines().zip(1_u64..) {
            let at = || format!("line {number}");
            let told = window(line).map_err(|(expected, found)| error(at(), expected, &found))?;
            let Some((start, per_second, gaps)) = told else { continue };
            if let Some(last) = windows.last_mut() {
                if start <= last.start {
                    return Err(error(at(), "a time after that of the line above it", line));
                }
                last.resize(start - last.start);
            }
            let mut own = Window { start, length: WINDOW, requests: 0.0, gaps };
            // Until its length is known, this is its rate.
            own.requests = per_second * WINDOW.as_secs_f64();
            let before = windows.last().map(|last| last.length);
            own.resize(before.unwrap_or(WINDOW));
            windows.push(own);
        }
        let most = windows.iter().map(|window| window.requests).fold(0.0, f64::max);
        if most > MOST {
            let expected = "at most 6 million requests in a window";
            return Err(error("the table".to_owned(), expected, &most.to_string()));
        }
        let lengths = lengths(dataset)?;
        if most > 0.0 && lengths.is_empty() {
            let expected = "histograms of `input_tokens` or `text_tokens`, and of `output_tokens`";
            return Err(error("the lengths".to_owned(), expected, "empty ones alone"));
        }
        Ok(Self { windows, lengths })
    }

    /// Its requests in the order of time: in each window as many as its rate says, with gaps of the window's
    /// distribution, stretched so that they fill the window. Lengths are drawn one by one.
    pub fn rows<'a>(&'a self, random: &Random) -> impl Iterator<Item = Row> + use<'a> {
        let (arrivals, mut lengths) = (random.fork("arrivals"), random.fork("lengths"));
        let within = self.windows.iter().zip(0_u64..).flat_map(move |(window, number)| {
            window.arrivals(&mut arrivals.fork(&number.to_string()))
        });
        within.map(move |at| {
            let own = self.lengths.range(..=at.as_secs()).next_back();
            // Before the first that has any, requests are as they are then.
            let own = own.or_else(|| self.lengths.first_key_value());
            let (input, output) = own.map_or((1, 1), |(_, own)| own.draw(&mut lengths));
            Row { at, input: TokenCount::from(input), output: TokenCount::from(output) }
        })
    }
}

/// The requests of all clients in the order of time, from the first one on. The same seed draws the same requests.
pub fn client_rows(clients: &[Client], seed: u64) -> impl Iterator<Item = Row> + use<'_> {
    let random = Random::new(seed);
    let mut all: Vec<Peekable<_>> = clients
        .iter()
        .zip(0_u64..)
        .map(|(client, number)| client.rows(&random.fork(&number.to_string())).peekable())
        .collect();
    let mut next: BinaryHeap<Reverse<(Duration, usize)>> = all
        .iter_mut()
        .enumerate()
        .filter_map(|(index, rows)| Some(Reverse((rows.peek()?.at, index))))
        .collect();
    let mut first = None;
    std::iter::from_fn(move || {
        let Reverse((_, index)) = next.pop()?;
        let rows = all.get_mut(index)?;
        let row = rows.next()?;
        if let Some(after) = rows.peek() {
            next.push(Reverse((after.at, index)));
        }
        let first = *first.get_or_insert(row.at);
        Some(Row { at: row.at - first, ..row })
    })
}

/// Of a line: when the window begins, its requests a second, and how their gaps are distributed. `None` of an empty one.
type Told = Option<(Duration, f64, Gaps)>;

fn window(line: &str) -> Result<Told, (&'static str, String)> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    let &[start, rate, cv, family, shape, _scale] = cells.as_slice() else {
        return Err(("six cells, `time,rate,cv,family,shape,scale`", line.to_owned()));
    };
    let number = |cell: &str| {
        let value = cell.parse::<f64>().ok();
        value
            .filter(|value| (0.0..1e12).contains(value))
            .ok_or(("a number that is not negative", cell.to_owned()))
    };
    let (start, rate, cv) = (number(start)?, number(rate)?, number(cv)?);
    let shape = number(shape)?;
    let gaps = match family {
        "Gamma" if shape > 0.0 => Gaps::Gamma(shape),
        "Weibull" if shape > 0.0 => Gaps::Weibull(shape),
        // Too few to fit anything.
        "" if cv > 0.0 => Gaps::Gamma((1.0 / (cv * cv)).min(MOST_SHAPE)),
        "" => Gaps::Gamma(1.0),
        "Gamma" | "Weibull" => return Err(("a shape above 0", cells[4].to_owned())),
        _ => return Err(("`Gamma`, `Weibull` or nothing", family.to_owned())),
    };
    Ok(Some((Duration::from_secs_f64(start), rate, gaps)))
}

impl Window {
    /// The same rate for another time.
    fn resize(&mut self, length: Duration) {
        self.requests *= length.as_secs_f64() / self.length.as_secs_f64();
        self.length = length;
    }

    fn arrivals(&self, random: &mut Random) -> Vec<Duration> {
        let chance = self.requests.fract();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and checked to be at most `MOST`"
        )]
        let count = self.requests as usize + usize::from(random.chance(chance));
        let gaps = (0..=count).map(|_| match self.gaps {
            Gaps::Gamma(shape) => random.gamma(shape),
            Gaps::Weibull(shape) => libm::pow(-libm::log(1.0 - random.unit()), 1.0 / shape),
        });
        let mut ends: Vec<f64> = gaps
            .scan(0.0, |sum, gap| {
                *sum += gap;
                Some(*sum)
            })
            .collect();
        let all = ends.pop().unwrap_or(0.0);
        let usual = all.is_finite() && all > 0.0;
        let place = |(index, end): (usize, f64)| {
            // Gaps that are all nothing, or one beyond all numbers, say nothing: evenly then.
            let share = if usual { end / all } else { (index + 1) as f64 / (count + 1) as f64 };
            self.start + self.length.mul_f64(share.clamp(0.0, 1.0))
        };
        ends.into_iter().enumerate().map(place).collect()
    }
}

/// A time's histograms as they are written; absent ones are of other kinds of traffic.
#[derive(Deserialize)]
struct Written {
    input_tokens: Option<String>,
    text_tokens: Option<String>,
    image_tokens: Option<String>,
    audio_tokens: Option<String>,
    video_tokens: Option<String>,
    image_count: Option<String>,
    audio_count: Option<String>,
    video_count: Option<String>,
    output_tokens: Option<String>,
}

fn lengths(dataset: &str) -> Result<BTreeMap<u64, Lengths>, ClientError> {
    let all: BTreeMap<String, Written> = serde_json::from_str(dataset).map_err(|wrong| {
        let place = format!("line {}", wrong.line());
        error(place, "JSON such as {\"0\": {\"input_tokens\": \"{45: 1.0}\", \"output_tokens\": \"{9: 1.0}\"}}", &wrong.to_string())
    })?;
    let mut lengths = BTreeMap::new();
    for (time, written) in all {
        let start = time.parse::<u64>();
        let start =
            start.map_err(|_| error("a key".to_owned(), "a whole number of seconds", &time))?;
        let histogram = |name: &str, text: Option<String>| {
            let text = text.unwrap_or_default();
            Histogram::read(&text).ok_or_else(|| {
                let expected = "a histogram such as `{45: 0.25, 46: 0.75}`";
                error(format!("`{time}`, `{name}`"), expected, &text)
            })
        };
        let text = written.input_tokens.or(written.text_tokens);
        let media = [
            ("image_tokens", written.image_tokens, "image_count", written.image_count),
            ("audio_tokens", written.audio_tokens, "audio_count", written.audio_count),
            ("video_tokens", written.video_tokens, "video_count", written.video_count),
        ];
        let media = media.into_iter().map(|(name, tokens, counts, count)| {
            Ok((histogram(name, tokens)?, histogram(counts, count)?))
        });
        let own = Lengths {
            text: histogram("input_tokens", text)?,
            media: media.collect::<Result<_, ClientError>>()?,
            output: histogram("output_tokens", written.output_tokens)?,
        };
        if !own.text.0.is_empty() && !own.output.0.is_empty() {
            lengths.insert(start, own);
        }
    }
    Ok(lengths)
}

impl Lengths {
    /// Tokens of a prompt and of a reply, at least one each.
    fn draw(&self, random: &mut Random) -> (u32, u32) {
        /// No request has more pieces of a kind.
        const PIECES: u32 = 1_000;
        let text = self.text.draw(random);
        let media = self.media.iter().map(|(tokens, count)| {
            let pieces = (0..count.draw(random).min(PIECES)).map(|_| tokens.draw(random));
            pieces.fold(0, u32::saturating_add)
        });
        let input = media.fold(text, u32::saturating_add);
        (input.max(1), self.output.draw(random).max(1))
    }
}

impl Histogram {
    /// Of `{45: 0.25, 46: 0.75}`; of `{}` or nothing it is empty.
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Self::default());
        }
        let inner = text.strip_prefix('{')?.strip_suffix('}')?.trim();
        let (mut all, mut sum) = (Vec::new(), 0.0);
        for pair in inner.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (count, weight) = pair.split_once(':')?;
            let weight: f64 = weight.trim().parse().ok()?;
            if !(0.0..=1e12).contains(&weight) {
                return None;
            }
            sum += weight;
            if weight > 0.0 {
                all.push((count.trim().parse().ok()?, sum));
            }
        }
        Some(Self(all))
    }

    /// One of the counts; 0 of none.
    fn draw(&self, random: &mut Random) -> u32 {
        let Some((last, all)) = self.0.last() else { return 0 };
        let drawn = random.unit() * all;
        let index = self.0.partition_point(|(_, upto)| *upto <= drawn);
        self.0.get(index).map_or(*last, |(count, _)| *count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATASET: &str = r#"{
        "0": {"input_tokens": "{}", "output_tokens": "{}", "reason_ratio": "{}"},
        "1200": {"input_tokens": "{100: 0.25, 300: 0.75}", "output_tokens": "{7: 1.0, 9: 0.0}"},
        "2400": {"text_tokens": "{50: 1.0}", "image_tokens": "{4: 1.0}", "image_count": "{2: 1.0}",
                 "audio_tokens": "{0: 1.0}", "audio_count": "{0: 1.0}", "output_tokens": "{0: 1.0}"}
    }"#;

    fn client(trace: &str) -> Client {
        Client::read(trace, DATASET).unwrap()
    }

    fn at_seconds(rows: &[Row]) -> Vec<f64> {
        rows.iter().map(|row| row.at.as_secs_f64()).collect()
    }

    #[test]
    fn each_window_has_the_requests_and_lengths_that_the_table_says() {
        let table = client(
            "0,0,0,,0,0\n600,2,1,Gamma,1.0,0.5\n1200,0.5,3,Weibull,0.4,1\n1800,0,0,,0,0\n2400,1,2,Gamma,0.25,9\n",
        );
        let rows: Vec<Row> = table.rows(&Random::new(5)).collect();
        let within = |from: u64, until: u64| {
            let some = rows.iter().filter(move |row| {
                row.at >= Duration::from_secs(from) && row.at < Duration::from_secs(until)
            });
            some.collect::<Vec<_>>()
        };
        let counts = [(0, 600), (600, 1200), (1200, 1800), (1800, 2400), (2400, 3000)];
        let counts = counts.map(|(from, until)| within(from, until).len());
        assert_eq!((counts, rows.len()), ([0, 1200, 300, 0, 600], 2100));
        assert!(rows.is_sorted_by_key(|row| row.at));
        // What is not told yet is as it is told later.
        let long = rows[..1500].iter().filter(|row| row.input.get() == 300).count();
        assert!((1050..1200).contains(&long), "{long} of 1,500");
        assert!(rows[..1500].iter().all(|row| row.output.get() == 7));
        // Two images of 4 tokens; a reply has a token at the least.
        assert!(
            within(2400, 3000).iter().all(|row| (row.input.get(), row.output.get()) == (58, 1))
        );
    }

    #[test]
    fn gaps_have_the_spread_of_their_distribution() {
        // Of a Weibull with this shape the CV is 1.758.
        for (family, cv) in [("Weibull,0.6", 1.758), ("Gamma,0.25", 2.0), ("Gamma,4", 0.5)] {
            let rows: Vec<Row> =
                client(&format!("0,100,1,{family},1\n")).rows(&Random::new(2)).collect();
            let at = at_seconds(&rows);
            let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance =
                gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            let found = variance.sqrt() / mean;
            assert!((found / cv - 1.0).abs() < 0.06, "{family}: {found}");
        }
    }

    #[test]
    fn gaps_that_do_not_vary_at_all_end() {
        // The shape of such gaps is beyond all numbers.
        let even = client("0,0.01,1e-309,,0,0\n600,0,1,,0,0");
        let rows: Vec<Row> = even.rows(&Random::new(1)).collect();
        let gaps: Vec<f64> = at_seconds(&rows).windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(rows.len(), 6);
        assert!(gaps.iter().all(|gap| (gap - 600.0 / 7.0).abs() < 1e-3), "{gaps:?}");
    }

    #[test]
    fn clients_come_together_in_order_and_one_seed_is_one_traffic() {
        let table = "600,0.5,1,Gamma,1,1\n1200,0.25,1,Gamma,1,1\n";
        let clients = [client(table), client(table), client("1800,0.01,0,,0,0\n")];
        let rows = |seed| client_rows(&clients, seed).collect::<Vec<_>>();
        let all = rows(1);
        assert_eq!((all.len(), all[0].at), (2 * 450 + 6, Duration::ZERO));
        assert!(all.is_sorted_by_key(|row| row.at));
        assert_eq!(all, rows(1));
        assert_ne!(all, rows(2));
        // Clients with the same table are not in step.
        assert!(all.windows(2).filter(|pair| pair[0].at == pair[1].at).count() < 3);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let told =
            |trace: &str, dataset: &str| Client::read(trace, dataset).unwrap_err().to_string();
        let good = "0,1,1,Gamma,1,1\n";
        for (trace, what) in [
            ("0,1,1,Gamma,1", "line 2: expected six cells"),
            ("0,1,1,Gamma,1,1", "line 2: expected a time after that of the line above it"),
            ("600,-1,1,Gamma,1,1", "line 2: expected a number that is not negative, found `-1`"),
            ("600,NaN,1,Gamma,1,1", "line 2: expected a number that is not negative, found `NaN`"),
            (
                "600,1,1,Pareto,1,1",
                "line 2: expected `Gamma`, `Weibull` or nothing, found `Pareto`",
            ),
            ("600,1,1,Gamma,0,1", "line 2: expected a shape above 0"),
            ("600,1e11,1,Gamma,1,1", "the table: expected at most 6 million"),
        ] {
            let found = told(&format!("{good}{trace}"), DATASET);
            assert!(found.starts_with(what), "{found}");
        }
        for (dataset, what) in [
            ("{", "line 1: expected JSON such as"),
            ("{}", "the lengths: expected histograms"),
            (r#"{"x": {}}"#, "a key: expected a whole number of seconds, found `x`"),
            (r#"{"0": {"input_tokens": "{1: -1}"}}"#, "`0`, `input_tokens`: expected a histogram"),
            (r#"{"0": {"output_tokens": "7"}}"#, "`0`, `output_tokens`: expected a histogram"),
        ] {
            assert!(told(good, dataset).starts_with(what), "{}", told(good, dataset));
        }
        assert!(Client::is_told_by("0,0.295,3.49,Gamma,0.08,40.4\n"));
        assert!(
            !Client::is_told_by("TIMESTAMP,ContextTokens,GeneratedTokens")
                && !Client::is_told_by("")
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_times_never_go_back(
            trace in "([0-9]{1,4},[0-9.e-]{1,2},[0-9.]{1,4},(Gamma|Weibull|),[0-9.eE-]{1,6},[0-9]\n){0,4}",
            any in ".{0,60}",
            histogram in "\\{[0-9:. ,]{0,20}\\}",
        ) {
            let _ = Client::read(&any, &any);
            let dataset = format!("{{\"0\": {{\"input_tokens\": \"{histogram}\", \"output_tokens\": \"{{3: 1}}\"}}}}");
            let _ = Client::read(&trace, &dataset);
            if let Ok(client) = Client::read(&trace, DATASET) {
                let rows: Vec<Row> = client_rows(&[client], 1).take(500).collect();
                prop_assert!(rows.is_sorted_by_key(|row| row.at));
                prop_assert!(rows.iter().all(|row| row.input.get() > 0 && row.output.get() > 0));
            }
        }
    }
}
