//! What holds for every text: it is a configuration, or the error says where it is not.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::Config;

const SAMPLE: &str = include_str!("../../../../farthing.sample.toml");

/// The sample with every setting that is commented out.
pub(super) fn without_comments(sample: &str) -> String {
    let lines = sample
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Reads a text, with or without an environment; whether it is a configuration.
#[track_caller]
fn read(text: &str) -> bool {
    let whole = [|_: &str| None, |_: &str| Some("a-key".to_owned())].map(|env| {
        let error = match Config::parse(text, &env) {
            Ok(config) => {
                // It may still be one that cannot be served, and says so.
                let _ = config.settings.check();
                return true;
            }
            Err(error) => format!("{error:#}"),
        };
        let line = error.split_once("line ").map(|(_, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse::<usize>().unwrap()
        });
        let lines = text.matches('\n').count() + 1;
        assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{error}\nin\n{text}");
        assert!(error.contains('`') || error.contains("TOML"), "{error}\nin\n{text}");
        false
    });
    whole[1]
}

/// Values of every kind, good and bad.
const VALUES: &[&str] = &[
    "\"\"",
    "\"openai\"",
    "\"vllm\"",
    "\"simulated\"",
    "\"own-gpu\"",
    "\"http://h:1/v1\"",
    "\"https://user@h/v1\"",
    "\"//h\"",
    "\"127.0.0.1:0\"",
    "\"[::1]:99999\"",
    "\"2.50\"",
    "\"-0.000000000001\"",
    "\"1e400\"",
    "\"99999999999999999999999999999999999999\"",
    "\"18446744073709551615ms\"",
    "\"18446744073709551615h\"",
    "\"\u{660}s\"",
    "\"\\u0000\"",
    "\"\"\"a\nb\"\"\"",
    "0",
    "-1",
    "9223372036854775807",
    "2.5",
    "nan",
    "true",
    "1979-05-27",
    "[]",
    "{}",
    "[{}]",
    "[\"a\", 1]",
    "{ upstream = \"openai\" }",
    "[{ upstream = \"openai\", model = \"\" }]",
];

/// What is done to a line of the sample.
#[derive(Debug, Clone)]
enum Change {
    Drop,
    Double,
    Value(&'static str),
    /// Another line's key, with this one's value.
    Key(Index),
    Swap(Index),
    Insert(Index, String),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Drop),
        Just(Change::Double),
        select(VALUES).prop_map(Change::Value),
        any::<Index>().prop_map(Change::Key),
        any::<Index>().prop_map(Change::Swap),
        (any::<Index>(), ".{0,4}").prop_map(|(at, text)| Change::Insert(at, text)),
    ]
}

fn changed(changes: &[(Index, Change)]) -> String {
    let sample = without_comments(SAMPLE);
    let settings = sample.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut lines: Vec<String> = settings.map(str::to_owned).collect();
    for (at, change) in changes {
        let at = at.index(lines.len());
        let key = |line: &str| line.split_once(" = ").map_or(line, |(key, _)| key).to_owned();
        match change {
            Change::Drop if lines.len() > 1 => drop(lines.remove(at)),
            Change::Drop => {}
            Change::Double => lines.insert(at, lines[at].clone()),
            Change::Value(value) => lines[at] = format!("{} = {value}", key(&lines[at])),
            Change::Key(other) => {
                let other = key(&lines[other.index(lines.len())]);
                let value = lines[at].split_once(" = ").map_or("1", |(_, value)| value);
                lines[at] = format!("{other} = {value}");
            }
            Change::Swap(other) => {
                let other = other.index(lines.len());
                lines.swap(at, other);
            }
            Change::Insert(place, text) => {
                let places: Vec<usize> = lines[at].char_indices().map(|(index, _)| index).collect();
                let place = places.get(place.index(places.len() + 1)).copied();
                let place = place.unwrap_or(lines[at].len());
                lines[at].insert_str(place, text);
            }
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_sample_is_a_configuration_or_the_error_says_where_it_is_not(
        changes in proptest::collection::vec((any::<Index>(), change()), 1..4),
    ) {
        read(&changed(&changes));
    }

    #[test]
    fn any_text_is_a_configuration_or_the_error_says_where_it_is_not(
        text in "(?s).{0,60}|([a-z_]{1,9}|\"[^\"]{0,4}\")( = |\\.|\\[|\\]|\n|[0-9]){0,9}",
    ) {
        read(&text);
    }
}

#[test]
fn the_unchanged_sample_is_read_by_these_tests() {
    assert!(read(&changed(&[])));
}
