//! The suites for a machine that has a GPU and no Rust: built here, carried there, run there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::step::{Step, root};

/// Build the device suites, carry them to a machine with a GPU, and run them there.
///
/// Here:   cargo xtask gpu-check --build gpu-check
/// Carry:  gpu-check.tar.xz, and a clone of the repository (for fixtures/)
/// There:  tar -xf gpu-check.tar.xz && gpu-check/xtask gpu-check --run gpu-check
///
/// The build needs no GPU and no CUDA. The other machine needs no Rust: for CUDA the driver, NVRTC
/// (libnvrtc.so) and the headers in CUDA_PATH or /usr/local/cuda; for wgpu a Vulkan driver.
///
/// What runs there: the operations against their oracles (with fp8 packed_linear), the golden
/// suite, `dsv3 doctor`, and the greedy continuation of a golden prompt through `dsv3 generate`.
#[derive(Args)]
#[command(verbatim_doc_comment)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// Build, strip and pack into this folder and DIR.tar.xz
    #[arg(long, value_name = "DIR")]
    build: Option<PathBuf>,
    /// Run what lies in this folder, from the root of a clone
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct GpuCheck {
    #[command(flatten)]
    what: What,
    /// The device feature to build with: cuda or wgpu
    #[arg(long, default_value = "cuda", requires = "build")]
    features: String,
}

const MANIFEST: &str = "manifest.json";

impl GpuCheck {
    pub(crate) fn run(self) -> Result<()> {
        match (self.what.build, self.what.run) {
            (Some(dir), _) => build(&dir, &self.features),
            (None, Some(dir)) => run(&dir),
            (None, None) => bail!("give --build DIR or --run DIR"),
        }
    }
}

/// Stripped release builds of the suites, the command line and this program.
fn build(dir: &Path, feature: &str) -> Result<()> {
    ensure!(
        ["cuda", "wgpu"].contains(&feature),
        "--features is {feature:?}: the device features are cuda and wgpu"
    );
    let dir = std::path::absolute(dir)?;
    if dir.exists() {
        bail!("{} exists: remove it or name another folder", dir.display());
    }
    let release = |line: &str| {
        Step::cargo(line)
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            // Its own folder: another feature set would rebuild the everyday one each time.
            .env("CARGO_TARGET_DIR", format!("target/gpu-check-{feature}"))
    };
    let suites = release(&format!(
        "test --release --no-run --message-format=json -p dsv3-kernels -p dsv3-model --features {feature}"
    ));
    let programs = release(&format!(
        "build --release --message-format=json -p dsv3-cli -p xtask --features dsv3-cli/{feature}"
    ));

    println!("{}", suites.line());
    let suites = executables(&suites.output()?)?;
    println!("{}", programs.line());
    let programs = executables(&programs.output()?)?;
    ensure!(!suites.is_empty(), "cargo built no test programs");

    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut names = Vec::new();
    for (path, is_suite) in suites
        .iter()
        .map(|p| (p, true))
        .chain(programs.iter().map(|p| (p, false)))
    {
        let name = path
            .file_name()
            .ok_or_else(|| anyhow!("{} is no file", path.display()))?;
        fs::copy(path, dir.join(name))
            .with_context(|| format!("cannot copy {}", path.display()))?;
        if is_suite {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    // The suites look for fixtures/ where they were built: the other machine has to know where.
    let manifest = json!({ "root": root(), "feature": feature, "suites": names });
    fs::write(dir.join(MANIFEST), format!("{manifest:#}\n"))?;

    // xz, since the programs share most of their code and its window reaches from one to the next.
    let archive = dir.with_extension("tar.xz");
    let (parent, name) = (dir.parent(), dir.file_name());
    let (Some(parent), Some(name)) = (parent, name) else {
        bail!(
            "{} cannot be packed: name a folder inside another",
            dir.display()
        );
    };
    let pack = Step::program("tar", "-cJf")
        .arg(&archive)
        .arg("-C")
        .arg(parent)
        .arg(name);
    pack.env("XZ_OPT", "-9 -T1").run()?;
    println!(
        "packed: {} ({} bytes)",
        archive.display(),
        fs::metadata(&archive)?.len()
    );
    Ok(())
}

/// The programs that cargo's JSON messages name.
fn executables(messages: &[u8]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in messages
        .split(|&byte| byte == b'\n')
        .filter(|line| line.starts_with(b"{"))
    {
        let message: Value = serde_json::from_slice(line).context("cargo's messages")?;
        if let Some(path) = message["executable"].as_str() {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

fn run(dir: &Path) -> Result<()> {
    let dir = fs::canonicalize(dir).with_context(|| format!("there is no {}", dir.display()))?;
    let path = dir.join(MANIFEST);
    let manifest = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    let text = |key: &str| {
        let value = manifest[key].as_str();
        value.ok_or_else(|| anyhow!("{} has no {key:?}", path.display()))
    };
    let (root, feature) = (PathBuf::from(text("root")?), text("feature")?);
    let suites = manifest["suites"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(!suites.is_empty(), "{} names no suites", path.display());
    provide_fixtures(&root)?;
    machine(feature);

    let mut failures = Vec::new();
    for name in suites.iter().filter_map(Value::as_str) {
        let outcome = suite(&dir.join(name), &root);
        if let Err(error) = outcome {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    let device = if feature == "cuda" {
        "cuda:0"
    } else {
        "wgpu:0"
    };
    let dsv3 = dir.join("dsv3");
    if let Err(error) = Step::program(&dsv3, &format!("doctor --device {device}")).run() {
        failures.push(format!("{error:#}"));
    }
    if let Err(error) = continuation(&dsv3, device, &root) {
        failures.push(format!("dsv3 generate: {error:#}"));
    }
    if failures.is_empty() {
        println!("gpu-check: all passed on {device}");
        return Ok(());
    }
    bail!("gpu-check on {device}:\n  {}", failures.join("\n  "))
}

/// The suites open `fixtures/` under the folder in which they were built. Where this machine has no
/// such folder, a link to the clone that we stand in takes its place.
fn provide_fixtures(root: &Path) -> Result<()> {
    if root.join("fixtures").is_dir() {
        return Ok(());
    }
    let here = std::env::current_dir()?;
    ensure!(
        here.join("fixtures").is_dir(),
        "there is no fixtures/ here: run this from the root of a clone"
    );
    ensure!(
        !root.exists(),
        "{} exists without fixtures/: the suites look for them there, copy them",
        root.display()
    );
    println!("linking {} to {}", root.display(), here.display());
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent)?;
    }
    #[cfg(unix)]
    return std::os::unix::fs::symlink(&here, root)
        .with_context(|| format!("cannot link {}", root.display()));
    #[cfg(not(unix))]
    bail!("copy fixtures/ to {}", root.display());
}

/// What a report should say of the machine; none of it is needed to go on.
fn machine(feature: &str) {
    if feature != "cuda" {
        return;
    }
    if Step::program(
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total --format=csv",
    )
    .run()
    .is_err()
    {
        println!("nvidia-smi does not run: is there a driver?");
    }
    let cuda = std::env::var("CUDA_PATH").unwrap_or_else(|_| "/usr/local/cuda".to_owned());
    for file in [
        "include/cuda_fp8.h",
        "include/cuda_bf16.h",
        "lib64/libnvrtc.so",
    ] {
        let path = Path::new(&cuda).join(file);
        println!(
            "{}: {}",
            path.display(),
            if path.exists() { "there" } else { "missing" }
        );
    }
}

/// Runs one test program, its output passed on; a test that skips its device is a failure here.
fn suite(program: &Path, root: &Path) -> Result<()> {
    println!("== {}", program.display());
    let mut child = Command::new(program)
        // One after the other: the tests would share the one GPU anyway.
        .args(["--nocapture", "--test-threads=1"])
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start")?;
    let mut skipped = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            if line.contains("skipped: no ") {
                skipped.get_or_insert(line);
            }
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "failed ({status})");
    match skipped {
        Some(line) => bail!("{line}"),
        None => Ok(()),
    }
}

/// The golden prompt of `base` through the command line, in f32: 32 tokens that must be equal.
fn continuation(dsv3: &Path, device: &str, root: &Path) -> Result<()> {
    let golden = root.join("fixtures/golden/base");
    let expected: Value = serde_json::from_slice(&fs::read(golden.join("golden.json"))?)?;
    let prompt = expected["prompt"].as_array().map_or(&[][..], Vec::as_slice);
    let prompt: Vec<String> = prompt.iter().map(Value::to_string).collect();
    let line = "generate --temperature 0 --max-new-tokens 32 --dtype f32 --json --device";
    let step = Step::program(dsv3, line)
        .arg(device)
        .arg("--input-ids")
        .arg(prompt.join(","))
        .arg("--model")
        .arg(golden.join("model"));
    println!("{}", step.line());
    let got: Value = serde_json::from_slice(&step.output()?).context("its JSON")?;
    ensure!(
        got["tokens"] == expected["greedy_f32"],
        "tokens {} where the reference has {}",
        got["tokens"],
        expected["greedy_f32"]
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks when a suite is left out of the parcel, or cargo's other messages are taken for one.
    #[test]
    fn programs_are_found_in_cargos_messages() {
        let messages = br#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/golden-1"}
   Compiling something
{"reason":"build-finished","success":true}
{"reason":"compiler-artifact","executable":"/t/oracle_pairs-2"}
"#;
        let want = [
            PathBuf::from("/t/golden-1"),
            PathBuf::from("/t/oracle_pairs-2"),
        ];
        assert_eq!(executables(messages).unwrap(), want);
    }

    // Breaks when a suite that could not open its device counts as passed.
    #[cfg(unix)]
    #[test]
    fn a_skipped_device_is_a_failure() {
        let dir = std::env::temp_dir().join(format!("dsv3-xtask-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // Another process writes them: a file that this one has open for writing is, in a child
        // that another test forks meanwhile, still open when it is started ("text file busy").
        let program = |name: &str, body: &str| {
            let path = dir.join(name);
            let written = Command::new("sh")
                .args([
                    "-c",
                    r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod +x "$2""#,
                ])
                .args(["sh", body])
                .arg(&path)
                .status();
            assert!(written.unwrap().success());
            path
        };
        let good = suite(&program("good", "echo ok"), &dir);
        let skips = suite(
            &program("skips", "echo 'skipped: no cuda device (none)'"),
            &dir,
        );
        let fails = suite(&program("fails", "exit 101"), &dir);
        fs::remove_dir_all(&dir).unwrap();
        assert!(good.is_ok());
        assert_eq!(
            skips.unwrap_err().to_string(),
            "skipped: no cuda device (none)"
        );
        assert!(fails.unwrap_err().to_string().starts_with("failed"));
    }
}
