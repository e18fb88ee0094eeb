//! `dsv3 plan`

use dsv3_weights::{ModelArgs, Plan, PlanOptions, human_bytes};

use crate::cli::{Global, PlanArgs};
use crate::error::usage;
use crate::output::{grouped, say, say_json, table};

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
    let plan = Plan::new(&ModelArgs::from_file(&config)?, &options)?;
    if global.json {
        return say_json(&plan);
    }
    say(&components(&plan))?;
    say(&needs(&plan))?;
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
