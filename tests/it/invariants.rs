//! `docs/invariants.md` names, for each hard point, the file that keeps it and the tests that guard
//! it: both must be there, or the page is no use.

use std::path::Path;

/// What stands between back-quotes in a line.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_file_and_test_that_the_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/invariants.md")).expect("the page");
    let (mut rows, mut tests, mut missing) = (0, 0, Vec::new());
    for line in page.lines().filter(|line| line.starts_with("| ") && line.contains("::")) {
        rows += 1;
        for name in quoted(line) {
            let (path, test) = match name.split_once("::") {
                Some((path, test)) => (path, Some(test)),
                None => (name, None),
            };
            if !path.contains('/') {
                continue;
            }
            let source = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            let is_there = test.map_or(!source.is_empty(), |test| source.contains(&format!("fn {test}(")));
            tests += usize::from(test.is_some());
            if !is_there {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "not there: {missing:#?}");
    assert!(rows > 50 && tests > rows, "{rows} rows name {tests} tests");
}
