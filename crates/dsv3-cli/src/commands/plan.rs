//! `dsv3 plan`

use std::path::PathBuf;

use clap::Args;
use dsv3_weights::{
    CacheDtype, DeviceMemory, ModelArgs, Plan, PlanFormat, PlanOptions, human_bytes,
};

use crate::cli::Global;
use crate::error::usage;
use crate::output::{grouped, say, say_json, table};

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 plan --config config.json --context 32768 --devices 80GiB×8\n\
    Sizes say what they mean: GiB is 2^30 bytes, GB is 10^9."
)]
pub(crate) struct PlanArgs {
    /// The config.json [default: the one in --model]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Format of the weights: published, bf16, f16, f32, fp8, int8, int4
    #[arg(long, default_value = "published")]
    pub(crate) format: PlanFormat,
    /// Tokens of one sequence that the cache holds
    #[arg(long, value_name = "N", default_value = "4096")]
    pub(crate) context: u64,
    /// Sequences that the cache holds at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) sequences: u64,
    /// Format of the cache: bf16, f16, f32, fp8
    #[arg(long, default_value = "bf16")]
    pub(crate) cache_dtype: CacheDtype,
    /// Tokens of one forward pass
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) batch_tokens: u64,
    /// Leave the MTP module out
    #[arg(long)]
    pub(crate) no_mtp: bool,
    /// Devices and their memory: 80GiB×8, 24GB, …
    #[arg(long, num_args = 1.., value_name = "SIZE[×N]")]
    pub(crate) devices: Vec<DeviceMemory>,
}

/// Count what the model needs; no weights are looked at.
pub(crate) fn run(global: &Global, args: PlanArgs) -> anyhow::Result<()> {
    let config = args
        .config
        .or_else(|| global.model.as_ref().map(|dir| dir.join("config.json")))
        .ok_or_else(|| {
            usage("no configuration is named: give a config.json with --config FILE, or a folder that has one with --model DIR")
        })?;
    let options = PlanOptions {
        format: args.format,
        context: args.context,
        sequences: args.sequences,
        cache_dtype: args.cache_dtype,
        batch_tokens: args.batch_tokens,
        mtp_weights: !args.no_mtp,
        mtp_cache: false,
        devices: args.devices,
    };
    let args = ModelArgs::from_file(&config)?;
    let plan = Plan::new(&args, &options)?;
    if global.json {
        return say_json(&plan);
    }
    say(&components(&plan))?;
    say(&needs(&plan))?;
    if plan.options.context > args.max_position_embeddings as u64 {
        say(&format!(
            "note: the model has positions for {} tokens (max_position_embeddings), fewer than --context\n\n",
            grouped(args.max_position_embeddings as u64)
        ))?;
    }
    say(&fit(&plan))
}

/// The weights by component.
pub(crate) fn components(plan: &Plan) -> String {
    let header = [
        "component",
        "tensors",
        "parameters",
        "bytes",
        "of which scales",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let parts = plan.components.iter().map(|(c, p)| (c.name(), *p));
    let main = [("main model", plan.main), ("MTP", plan.mtp)];
    for (name, p) in parts.chain(main) {
        rows.push(vec![
            name.to_owned(),
            grouped(p.tensors),
            grouped(p.parameters),
            grouped(p.bytes),
            grouped(p.scale_bytes),
        ]);
    }
    rows.push(vec![
        "all".into(),
        grouped(plan.total_tensors),
        grouped(plan.total_parameters),
        grouped(plan.total_bytes),
        grouped(plan.total_scale_bytes),
    ]);
    table(&rows)
}

fn needs(plan: &Plan) -> String {
    let cache = &plan.cache;
    let rows = [
        ("weights", plan.total_bytes, String::new()),
        (
            "latent cache",
            cache.bytes,
            format!(
                "{} tokens × {} B",
                grouped(cache.tokens),
                grouped(cache.bytes_per_token)
            ),
        ),
        ("activations", plan.activation_bytes, String::new()),
        ("needed", plan.required_bytes, String::new()),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, bytes, note)| vec![name.into(), grouped(bytes), human_bytes(bytes), note])
        .collect();
    let per_token = &plan.per_token;
    format!(
        "\n{}\none token activates {} parameters and reads {} of weights\n",
        table(&rows),
        grouped(per_token.activated_parameters),
        human_bytes(per_token.weight_bytes_read),
    )
}

fn fit(plan: &Plan) -> String {
    let Some(fit) = &plan.fit else {
        return String::new();
    };
    let mut rows = vec![
        ["device", "memory", "layers", "weights", "cache", "left"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (i, device) in fit.devices.iter().enumerate() {
        let layers = match device.layers {
            Some((first, end)) => format!("{first} to {}", end.saturating_sub(1)),
            None => "none".into(),
        };
        rows.push(vec![
            i.to_string(),
            human_bytes(device.bytes),
            layers,
            human_bytes(device.weight_bytes),
            human_bytes(device.cache_bytes),
            human_bytes(device.remaining_bytes),
        ]);
    }
    let verdict = match (fit.fits, &fit.first_missing) {
        (true, _) => "it fits".to_owned(),
        (false, Some(part)) => format!(
            "it does not fit: {} ({} bytes) are missing, from {part} on",
            human_bytes(fit.missing_bytes),
            grouped(fit.missing_bytes)
        ),
        (false, None) => format!(
            "it does not fit: {} are missing",
            human_bytes(fit.missing_bytes)
        ),
    };
    format!("\n{}\n{verdict}\n", table(&rows))
}
