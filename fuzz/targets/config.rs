//! Configurations from any text: read, or refused with the line it is about.
#![no_main]

use farthing::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for env in [|_: &str| None, |_: &str| Some("a-key".to_owned())] {
        let Err(error) = Config::parse(text, &env) else { continue };
        let error = format!("{error:#}");
        let line = error.split_once("line ").map(|(_, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse::<usize>().expect("a number")
        });
        let lines = text.matches('\n').count() + 1;
        assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{error}");
    }
});
