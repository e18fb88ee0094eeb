//! A fine-tuning as a user runs it: a file of conversations in, an adapter out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use dsv3_model::Checkpoint;
use dsv3_tokenizer::Tokenizer;
use dsv3_train::data::OnBadLine;
use dsv3_train::lora::{Finetune, FinetuneEnd, FinetuneOptions, Length, LoraConfig};
use dsv3_train::report::{StepReport, read_log};
use dsv3_train::{Observer, TrainError, TrainOptions};
use dsv3_weights::Adapter;

fn base() -> Checkpoint {
    let folder = "/../../fixtures/golden/fp8_ue8m0/model";
    Checkpoint::open(format!("{}{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A tokenizer that fits the golden checkpoints' vocabulary.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let texts = (0..200).map(|i| format!("colour number {i} is blue, {} is red", i * 7));
    let json = dsv3_tasks::train_tokenizer(texts, 290).unwrap();
    Tokenizer::from_bytes(json.as_bytes()).unwrap()
});

fn line(user: &str, assistant: &str) -> String {
    let messages = serde_json::json!([
        {"role": "user", "content": user},
        {"role": "assistant", "content": assistant},
    ]);
    serde_json::json!({ "messages": messages }).to_string() + "\n"
}

fn data(dir: &Path) -> PathBuf {
    let path = dir.join("train.jsonl");
    let lines: String = (0..40)
        .map(|i| line(&format!("colour {}?", i % 8), ["blue", "red"][i % 2]))
        .collect();
    std::fs::write(&path, lines).unwrap();
    path
}

fn options() -> FinetuneOptions {
    FinetuneOptions {
        lora: LoraConfig {
            r: 4,
            alpha: 8.0,
            ..LoraConfig::default()
        },
        train: TrainOptions::lora(),
        length: Length::Steps(12),
        learning_rate: 1e-2,
        tokens_per_batch: 64,
        batches_per_step: 2,
        context: 64,
        eval_fraction: 0.3,
        on_bad_line: OnBadLine::Refuse,
    }
}

/// Hears everything, and asks for a stop after a step.
struct Heard {
    stop_after: u64,
    stop: AtomicBool,
    notes: Vec<String>,
    steps: Vec<u64>,
}

impl Heard {
    fn new(stop_after: u64) -> Self {
        Heard {
            stop_after,
            stop: AtomicBool::new(false),
            notes: Vec::new(),
            steps: Vec::new(),
        }
    }
}

/// An observer whose stop flag the run can see beside it.
struct Listening<'a>(&'a mut Vec<String>, &'a mut Vec<u64>, u64, &'a AtomicBool);

impl Observer for Listening<'_> {
    fn step(&mut self, report: &StepReport) {
        self.1.push(report.step);
        self.3.store(report.step == self.2, Ordering::Relaxed);
    }

    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

fn go(
    data: &Path,
    out: &Path,
    options: &FinetuneOptions,
    heard: &mut Heard,
) -> Result<FinetuneEnd, TrainError> {
    let stop = &heard.stop;
    let mut observer = Listening(&mut heard.notes, &mut heard.steps, heard.stop_after, stop);
    let device = Device::flex();
    let ready = Finetune::prepare(
        &base(),
        &TOKENIZER,
        data,
        out,
        options,
        &device,
        &mut observer,
    )?;
    ready.run(stop, &mut observer)
}

fn refused(data: &Path, out: &Path, options: &FinetuneOptions) -> String {
    let error = go(data, out, options, &mut Heard::new(99)).unwrap_err();
    error.to_string()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let name = |e: std::fs::DirEntry| e.file_name().to_string_lossy().into_owned();
    entries.map(|e| name(e.unwrap())).collect()
}

/// Breaks with: a loss that does not fall, a held-out part that is measured in another way before
/// and after, an adapter that is not whole, a state that is left behind, a resumed run that ends
/// elsewhere.
#[test]
fn from_conversations_to_an_adapter_in_one_go_or_several() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, base) = (data(tmp.path()), base());
    let whole = tmp.path().join("whole");
    let mut heard = Heard::new(99);
    let end = go(&data, &whole, &options(), &mut heard).unwrap();
    let FinetuneEnd::Complete {
        before: Some(before),
        after: Some(after),
    } = end
    else {
        panic!("{end:?}");
    };
    assert!(after < 0.5 * before, "{before} → {after}");
    assert_eq!(heard.steps, (0..=12).collect::<Vec<u64>>());
    let files = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "curves.svg",
        "log.jsonl",
    ];
    assert_eq!(names(&whole), files.map(str::to_owned).into());
    assert_eq!(read_log(whole.join("log.jsonl")).unwrap().len(), 13);
    let adapter = Adapter::open(&whole, base.args()).unwrap();
    assert_eq!(
        adapter.config().base_model_name_or_path.as_deref(),
        Some(base.dir().to_str().unwrap())
    );

    let parts = tmp.path().join("parts");
    for stop in [2, 7] {
        let end = go(&data, &parts, &options(), &mut Heard::new(stop)).unwrap();
        assert_eq!(end, FinetuneEnd::Stopped);
        assert!(names(&parts).contains(".run"));
        assert!(Adapter::open(&parts, base.args()).is_err());
    }
    let again = go(&data, &parts, &options(), &mut Heard::new(99)).unwrap();
    assert_eq!(again, end);
    let read = |dir: &Path| std::fs::read(dir.join("adapter_model.safetensors")).unwrap();
    assert!(read(&whole) == read(&parts), "the factors differ");
    assert_eq!(names(&parts), names(&whole));
}

/// Asked for fewer steps than it has taken, a stopped run is finished as it stands.
///
/// Breaks with: a run that can't be ended early, or takes a step too many.
#[test]
fn a_stopped_run_can_be_ended_where_it_is() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, out) = (data(tmp.path()), tmp.path().join("out"));
    go(&data, &out, &options(), &mut Heard::new(5)).unwrap();
    let fewer = FinetuneOptions {
        length: Length::Steps(5),
        ..options()
    };
    let mut heard = Heard::new(99);
    let end = go(&data, &out, &fewer, &mut heard).unwrap();
    let measured = |end| matches!(end, FinetuneEnd::Complete { after: Some(_), .. });
    assert!(measured(end), "{end:?}");
    assert!(heard.steps.is_empty(), "{:?}", heard.steps);
    Adapter::open(&out, base().args()).unwrap();
}

/// Breaks with: somebody's files overwritten, a run gone on with under other flags or data.
#[test]
fn folders_that_hold_something_else_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let data = data(tmp.path());
    let out = tmp.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("thesis.txt"), "years of work").unwrap();
    let message = refused(&data, &out, &options());
    assert!(message.contains("something else"), "{message}");
    assert_eq!(names(&out), ["thesis.txt".to_owned()].into());
    let message = refused(&data, &data, &options());
    assert!(message.contains("no folder"), "{message}");

    let out = tmp.path().join("begun");
    go(&data, &out, &options(), &mut Heard::new(3)).unwrap();
    let mut others = vec![options(), options(), options(), options()];
    others[0].lora.r = 8;
    others[1].tokens_per_batch = 96;
    others[2].lora.seed = 2;
    others[3].eval_fraction = 0.1;
    for other in &others {
        let message = refused(&data, &out, other);
        assert!(
            message.contains("another recipe") || message.contains(".run"),
            "{message}"
        );
    }
    let more = std::fs::read_to_string(&data).unwrap() + &line("colour 9?", "blue");
    std::fs::write(&data, more).unwrap();
    let message = refused(&data, &out, &options());
    assert!(message.contains("another recipe"), "{message}");

    let lock = std::fs::File::create(out.join(".run/lock")).unwrap();
    lock.lock().unwrap();
    let message = refused(&data, &out, &options());
    assert!(message.contains("another process"), "{message}");

    let out = tmp.path().join("done");
    let short = FinetuneOptions {
        length: Length::Steps(1),
        ..options()
    };
    go(&data, &out, &short, &mut Heard::new(99)).unwrap();
    let message = refused(&data, &out, &short);
    assert!(message.contains("finished adapter"), "{message}");
}

/// Breaks with: a line that is passed over in silence, or ends a run that was to skip it.
#[test]
fn bad_lines_are_named_and_refused_or_skipped() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, out) = (data(tmp.path()), tmp.path().join("out"));
    let mut lines = std::fs::read_to_string(&data).unwrap();
    lines += "{\"messages\": [{\"role\": \"wizard\", \"content\": \"x\"}]}\n";
    lines += &line("long", &"blue ".repeat(100));
    std::fs::write(&data, lines).unwrap();
    let message = refused(&data, &out, &options());
    assert!(message.contains("train.jsonl:41: "), "{message}");
    assert!(!out.exists());

    let skip = FinetuneOptions {
        on_bad_line: OnBadLine::Skip,
        length: Length::Epochs(0.5),
        ..options()
    };
    let mut heard = Heard::new(99);
    go(&data, &out, &skip, &mut heard).unwrap();
    assert!(
        heard.notes[0].contains("train.jsonl:41: "),
        "{:?}",
        heard.notes
    );
    assert!(
        heard.notes[1].contains("train.jsonl:42: "),
        "{:?}",
        heard.notes
    );

    std::fs::write(&data, "\n\n").unwrap();
    let message = refused(&data, &tmp.path().join("empty"), &skip);
    assert!(message.contains("no conversation"), "{message}");
}

/// Breaks with: a flag that makes no training, found after hours of loading.
#[test]
fn options_that_contradict_themselves_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, out) = (data(tmp.path()), tmp.path().join("out"));
    let with = |change: fn(&mut FinetuneOptions)| {
        let mut options = options();
        change(&mut options);
        refused(&data, &out, &options)
    };
    for (change, part) in [
        (
            (|o| o.context = 4096) as fn(&mut FinetuneOptions),
            "max_position",
        ),
        (|o| o.context = 1, "context is 1"),
        (|o| o.tokens_per_batch = 32, "does not fit"),
        (|o| o.batches_per_step = 0, "0 batches"),
        (|o| o.learning_rate = 0.0, "learning rate"),
        (|o| o.learning_rate = f64::NAN, "learning rate"),
        (|o| o.length = Length::Steps(0), "0 steps"),
        (|o| o.length = Length::Epochs(-1.0), "-1 epochs"),
        (|o| o.length = Length::Epochs(f64::NAN), "NaN epochs"),
        (|o| o.eval_fraction = 1.0, "hold out"),
        (|o| o.eval_fraction = f64::NAN, "hold out"),
        (|o| o.lora.r = 0, "rank"),
        (|o| o.lora.targets.clear(), "no part"),
    ] {
        let message = with(change);
        assert!(message.contains(part), "{part}: {message}");
        assert!(!out.exists());
    }
}
