//! A checkpoint for benchmarks, with random weights; the work is `dsv3_weights::bench_model`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use dsv3_weights::bench_model::{self, BenchModelOptions, BenchModelReport};
use dsv3_weights::{ModelArgs, Quantization, human_bytes};

use crate::step::root;
use crate::watch::Watch;

/// Write a checkpoint for benchmarks: the published layout with random weights.
///
/// The same choice and seed give the same bytes on any machine. What it computes means nothing;
/// how fast it does is what a checkpoint of these shapes would give.
///
/// Streams, so that memory stays small whatever the size. Works in DIR.partial and renames it to
/// DIR when all is done. Ctrl-C stops after the piece in hand; the same command goes on from the
/// last finished file.
#[derive(Args)]
pub(crate) struct BenchModel {
    /// The folder to write; must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number format of the projections and experts: fp8 with power-of-two scales, or bf16
    #[arg(long)]
    format: Format,
    #[command(flatten)]
    size: Size,
    /// Another seed gives other weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Size {
    /// 1,695 million parameters, which other engines run too: hidden 2048, 8 layers, 64 experts,
    /// vocabulary 32768
    #[arg(long)]
    small: bool,
    /// DeepSeek-V3.1's real shapes, with N of its 61 layers and E of its 256 routed experts (8 are
    /// chosen for a token, so at least 8)
    #[arg(long, value_name = "layers=N,experts=E", value_parser = Slice::parse)]
    slice: Option<Slice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Fp8,
    Bf16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    layers: usize,
    experts: usize,
}

impl Slice {
    fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write layers=N,experts=E, for example layers=4,experts=32";
        let (mut layers, mut experts) = (None, None);
        for part in text.split(',') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} has no value; {FORM}"))?;
            let number = value
                .parse::<usize>()
                .map_err(|_| format!("{key} is {value:?}, no whole number; {FORM}"))?;
            let field = match key {
                "layers" => &mut layers,
                "experts" => &mut experts,
                _ => return Err(format!("there is no {key:?}; {FORM}")),
            };
            if field.replace(number).is_some() {
                return Err(format!("{key} is given twice; {FORM}"));
            }
        }
        match (layers, experts) {
            (Some(layers), Some(experts)) => Ok(Self { layers, experts }),
            (None, _) => Err(format!("layers are missing; {FORM}")),
            (_, None) => Err(format!("experts are missing; {FORM}")),
        }
    }
}

impl BenchModel {
    pub(crate) fn run(self) -> Result<()> {
        let args = self.model_args()?;
        let options = BenchModelOptions {
            seed: self.seed,
            tokenizer: self.tokenizer(),
            ..BenchModelOptions::default()
        };
        let watch = Watch::new()?;
        let outcome = bench_model::write(&args, &self.out, &options, &mut |p| watch.show(&p));
        watch.finish();
        report(&outcome?, self.seed, self.size.small);
        Ok(())
    }

    fn model_args(&self) -> Result<ModelArgs> {
        let mut args = match self.size.slice {
            Some(Slice { layers, experts }) => bench_model::slice(layers, experts)?,
            None => bench_model::small()?,
        };
        args.quantization = match self.format {
            Format::Fp8 => Some(Quantization::V3_1),
            Format::Bf16 => None,
        };
        Ok(args)
    }

    /// V3.1's own, for a slice: the vocabulary of the small model has no room for it.
    fn tokenizer(&self) -> Option<PathBuf> {
        let file = root().join("fixtures/tokenizer/tokenizer.json");
        (self.size.slice.is_some() && file.is_file()).then_some(file)
    }
}

fn report(report: &BenchModelReport, seed: u64, small: bool) {
    println!(
        "{}: {} tensors in {} {}, {}, {} million parameters, seed {seed}",
        report.out_dir.display(),
        report.tensors,
        report.shards,
        if report.shards == 1 { "file" } else { "files" },
        human_bytes(report.bytes),
        (report.parameters + 500_000) / 1_000_000,
    );
    println!("  beside them: {}", report.side_files.join(", "));
    if !report.side_files.contains(&"tokenizer.json") {
        let why = match small {
            true => "V3.1's has more tokens than this vocabulary",
            false => "fixtures/tokenizer/tokenizer.json is not here",
        };
        println!("  no tokenizer: {why}; give token ids (dsv3 generate --input-ids 0,1,2)");
    }
    if report.shards_kept > 0 {
        println!(
            "  {} files were kept from an earlier run",
            report.shards_kept
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench_model: BenchModel,
    }

    fn line(line: &str) -> Result<BenchModel, clap::Error> {
        let words = "x --out DIR --format fp8 ".split_whitespace();
        let parsed = Line::try_parse_from(words.chain(line.split_whitespace()));
        parsed.map(|l| l.bench_model)
    }

    /// Breaks with: a slice whose layers and experts are exchanged, or a format without effect.
    #[test]
    fn the_line_says_what_is_written() {
        let chosen = line("--slice experts=32,layers=5").unwrap();
        let args = chosen.model_args().unwrap();
        assert_eq!((args.num_hidden_layers, args.n_routed_experts), (5, 32));
        assert_eq!(args.quantization, Some(Quantization::V3_1));
        let chosen = BenchModel {
            format: Format::Bf16,
            ..line("--small").unwrap()
        };
        let args = chosen.model_args().unwrap();
        assert_eq!((args.hidden_size, args.quantization), (2048, None));
    }

    /// Breaks with: a size that is taken for another one, or an error that does not say the form.
    #[test]
    fn sizes_are_one_of_two() {
        assert!(line("").is_err());
        assert!(line("--small --slice layers=4,experts=32").is_err());
        for slice in [
            "4",
            "layers=4",
            "experts=8",
            "layers=4,experts=8,layers=5",
            "layers=-1,experts=8",
            "layers=4,expert=8",
        ] {
            let error = line(&format!("--slice {slice}")).err().unwrap();
            assert!(error.to_string().contains("layers=N,experts=E"), "{error}");
        }
        assert!(
            line("--slice layers=0,experts=8")
                .unwrap()
                .model_args()
                .is_err()
        );
    }

    /// Breaks with: a tokenizer beside a vocabulary that has no row for its last token.
    #[test]
    fn a_slice_gets_the_tokenizer() {
        assert!(
            line("--slice layers=4,experts=32")
                .unwrap()
                .tokenizer()
                .is_some()
        );
        assert_eq!(line("--small").unwrap().tokenizer(), None);
    }
}
