//! Writes the C header generated from the crate's sources to the path given.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: header PATH");
        return ExitCode::FAILURE;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match generate(&root).and_then(|text| Ok(std::fs::write(path, text)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("header: {why}");
            ExitCode::FAILURE
        }
    }
}

fn generate(root: &Path) -> Result<String, Box<dyn Error>> {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    let bindings = cbindgen::Builder::new().with_config(config).with_src(root.join("src/capi/mod.rs")).generate()?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    Ok(for_c(&String::from_utf8(text)?))
}

/// The windows are wider than a C int: `10 * GRATE_WINDOW_SECOND` must not overflow.
fn with_width(line: &str) -> String {
    match line.strip_prefix("#define GRATE_WINDOW_").and_then(|rest| rest.split_once(' ')) {
        Some((name, value)) => format!("#define GRATE_WINDOW_{name} UINT64_C({value})"),
        None => line.to_owned(),
    }
}

/// Rust's "# Safety" sections say what every C caller takes for granted; the header does without them.
fn for_c(header: &str) -> String {
    let mut out = String::with_capacity(header.len());
    let mut inside = false;
    for line in header.lines() {
        inside = (inside || line.trim() == "# Safety") && line.trim() != "*/";
        if line.trim() == "*/" {
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        if !inside {
            out.push_str(&with_width(line));
            out.push('\n');
        }
    }
    out
}
