//! What the repository promises of itself.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    // Tests run in the package's folder; a path from compile time could be another checkout's.
    Path::new("../..").canonicalize().unwrap()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The crates of the table in ARCHITECTURE.md and what each may use.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let page = text("ARCHITECTURE.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let uses = cells[3].split(", ").filter(|name| !name.is_empty()).map(str::to_owned);
        (cells[1].trim_matches('`').to_owned(), uses.collect())
    })
    .collect()
}

#[test]
fn crates_use_only_what_the_architecture_says() {
    let allowed = allowed();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let listed: BTreeSet<&str> = allowed.keys().map(String::as_str).collect();
    assert_eq!(names, listed, "crates, and those in ARCHITECTURE.md's table");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        if allowed[name].contains("everything") {
            continue;
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let shipped = dependency["kind"].is_null();
            assert!(
                !shipped || !names.contains(used) || allowed[name].contains(used),
                "`{name}` uses `{used}`, which ARCHITECTURE.md does not allow"
            );
        }
    }
}

#[test]
fn files_stay_readable() {
    const MOST_LINES: usize = 1_000;
    let mut folders = vec![root().join("crates")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                seen += 1;
                let lines = std::fs::read_to_string(&path).unwrap().lines().count();
                assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
            }
        }
    }
    assert!(seen > 50);
}

#[test]
fn the_readme_names_only_commands_that_exist() {
    let readme = text("README.md");
    let main = text("crates/farthing/src/lib.rs");
    let commands = readme.lines().filter_map(|line| line.strip_prefix("farthing "));
    let mut seen = 0;
    for command in commands.filter_map(|line| line.split(' ').next()) {
        seen += 1;
        let variant = format!("    {}{}(", command[..1].to_uppercase(), &command[1..]);
        assert!(main.contains(&variant), "`farthing {command}` is not a command");
    }
    assert!(seen > 3);
}
