//! Traces from any text: read or refused, in the order of time, and no prompt has more blocks than tokens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workload::{AzureReader, BlockReader, Client, NamedRow, Row, TraceReader, client_rows};

fuzz_target!(|text: &str| {
    let rows: Vec<_> = AzureReader::rows(text).map_while(Result::ok).collect();
    assert!(rows.is_sorted_by_key(|row| row.at));
    let rows: Vec<_> = BlockReader::rows(text).map_while(Result::ok).collect();
    check(&rows);
    let own = ["time=t,in=i,out=o,unit=ms", "time=t,in=i,out=o,priority=p"];
    for columns in own.map(Some).into_iter().chain([None]) {
        let mut reader = TraceReader::new(columns.and_then(|columns| columns.parse().ok()));
        let rows = text.lines().map_while(|line| reader.line(line).ok());
        check(&rows.flatten().collect::<Vec<_>>());
    }
    // A client's two tables, one behind the other.
    let (trace, dataset) =
        text.split_once('{').map_or((text, ""), |(trace, _)| (trace, &text[trace.len()..]));
    if let Ok(client) = Client::read(trace, dataset) {
        let rows: Vec<Row> = client_rows(&[client], 1).take(1_000).collect();
        assert!(rows.is_sorted_by_key(|row| row.at));
        assert!(rows.iter().all(|row| row.input.get() > 0 && row.output.get() > 0));
    }
});

fn check(rows: &[NamedRow]) {
    assert!(rows.is_sorted_by_key(|row| row.row.at));
    assert!(rows.iter().all(|row| row.names.len() as u64 <= row.row.input.get()));
}
