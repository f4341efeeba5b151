//! Predictions beside measured points.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

const HEAD: &str = "model,quantization,gpu,n_gpus,tp,pp,ep,dp,engine,isl,osl,concurrency_or_rate,tpot_ms,notes,commit_or_date\n";

fn compared(rows: &str, each: bool) -> anyhow::Result<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{HEAD}{rows}")).unwrap();
    xtask::serving::compare(file.path().to_str().unwrap(), each)
}

#[test]
fn rows_are_predicted_or_left_out_with_the_reason() {
    let rows = "\
        \"meta-llama/Llama-3.1-8B\",bf16,H100 SXM,1,1,1,1,1,vllm,1000,1000,conc=8,6.5,\"agg; a, b\",\n\
        meta-llama/Llama-3.1-8B,bf16,H100 SXM,1,1,1,1,1,vllm,1000,1000,conc=8,6.5,DISAGG,\n\
        meta-llama/Llama-3.1-8B,bf16,H100 SXM,2,1,1,1,1,vllm,1000,1000,conc=8,6.5,agg,\n\
        meta-llama/Llama-9,bf16,H100 SXM,1,1,1,1,1,vllm,1000,1000,conc=8,6.5,agg,\n\
        meta-llama/Llama-3.1-70B,bf16,H100 SXM,1,1,1,1,1,vllm,1000,1000,conc=8,6.5,agg,\n";
    let table = compared(rows, false).unwrap();
    assert!(table.contains("dense: |error| of TPOT over rows"), "{table}");
    for why in [
        "     1  tp x pp x dp is not the number of accelerators",
        "     1  no sheet of meta-llama/Llama-9",
        "     1  llama-3.1-70b does not fit h100-sxm x 1",
    ] {
        assert!(table.contains(why), "{table}");
    }
    let each = compared(rows, true).unwrap();
    let row: Vec<&str> = each.lines().nth(1).unwrap().split('\t').collect();
    assert_eq!(row[..6], ["2", "dense", "h100-sxm", "vllm", "llama-3.1-8b", "6.500"]);
    let predicted: f64 = row[6].parse().unwrap();
    assert!(predicted > 5.5 && predicted < 8.0, "{predicted}");
    assert_eq!(each.lines().count(), 2);
}
