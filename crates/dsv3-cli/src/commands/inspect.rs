//! `dsv3 inspect`

use std::path::{Path, PathBuf};

use anyhow::Context;
use dsv3_weights::{
    Checkpoint, Component, Inventory, Layout, ModelArgs, Plan, PlanOptions, TensorView, human_bytes,
};
use serde_json::{Value, json};

use crate::cli::{Global, InspectArgs};
use crate::error::{one_line, usage};
use crate::output::{grouped, say, say_json, table};

/// Print what lies in the folder, or what a bare configuration asks for.
pub(crate) fn run(global: &Global, args: InspectArgs) -> anyhow::Result<()> {
    let path = args.path.or_else(|| global.model.clone()).ok_or_else(|| {
        usage("nothing to inspect is named: give a checkpoint's folder, or a config.json")
    })?;
    match bare_configuration(&path) {
        Some(file) if args.tensors => Err(usage(format!(
            "--tensors lists the tensors of files, and beside {} there are none",
            file.display()
        ))),
        Some(file) => configuration(global, &file),
        None => checkpoint(global, &path, args.tensors),
    }
}

/// The configuration, if there are no weights beside it.
fn bare_configuration(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned());
    }
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    let config = path.join("config.json");
    let bare = config.exists() && !weights.iter().any(|file| path.join(file).exists());
    bare.then_some(config)
}

fn checkpoint(global: &Global, path: &Path, tensors: bool) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    let inventory = Inventory::of(&checkpoint);
    let layout = Layout::new(checkpoint.args());
    // The lists are printed before what is wrong with them, so that they help to find it.
    let checked = checkpoint.verify();
    let component = |t: &TensorView<'_>| layout.component_of(t.name());
    if global.json {
        let mut value = serde_json::to_value(&inventory).context("cannot write JSON")?;
        value["config"] = json!(checkpoint.args());
        value["rounding"] = rounding(&checkpoint).unwrap_or_default();
        value["warnings"] = json!(checked.as_ref().ok());
        value["problem"] = json!(checked.as_ref().err().map(|e| one_line(&e.to_string())));
        if tensors {
            let list = checkpoint.tensors().map(|t| {
                let mut entry = json!({ "name": t.name(), "dtype": t.dtype(), "shape": t.shape(),
                    "component": component(&t), "bytes": t.byte_len(), "file": t.file() });
                if let Some(packed) = checkpoint.packed(t.name()) {
                    entry["packed"] = json!({ "format": packed.format, "shape": packed.shape });
                }
                entry
            });
            value["tensors"] = list.collect();
        }
        say_json(&value)?;
    } else {
        if tensors {
            say(&(tensor_table(&checkpoint, &component) + "\n"))?;
        }
        say(&summary(&checkpoint, &inventory))?;
        if let Some(note) = rounding(&checkpoint) {
            say(&rounding_text(&note))?;
        }
    }
    for warning in checked? {
        eprintln!("note: {}", one_line(&warning.to_string()));
    }
    Ok(())
}

/// What rounding cost, as the conversion wrote it down.
fn rounding(checkpoint: &Checkpoint) -> Option<Value> {
    serde_json::from_str(checkpoint.rounding()?).ok()
}

/// The same for people. The numbers are the file's own word.
fn rounding_text(note: &Value) -> String {
    let number = |name: &str| note["divergence"][name].as_f64();
    let (Some(mean), Some(p99)) = (number("kl_mean"), number("kl_p99")) else {
        return "rounding: a report of another version\n".to_owned();
    };
    let mut text = format!(
        "rounding cost, by the converter's own report: KL divergence {mean:.2e} mean, {p99:.2e} 99th percentile"
    );
    if let Some(rate) = note["divergence"]["top_1"]["rate"].as_f64() {
        text += &format!(", same most probable token {:.2}%", 100.0 * rate);
    }
    if let Some(tokens) = note["divergence"]["tokens"].as_u64() {
        text += &format!(" ({} tokens)", grouped(tokens));
    }
    text + "\n"
}

fn tensor_table(
    checkpoint: &Checkpoint,
    component: &dyn Fn(&TensorView<'_>) -> Component,
) -> String {
    let header = ["tensor", "component", "dtype", "shape", "bytes"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let packed = |t: &TensorView<'_>| checkpoint.packed(t.name());
    rows.extend(checkpoint.tensors().map(|t| {
        vec![
            one_line(t.name()), // names come from the file
            component(&t).name().to_owned(),
            packed(&t).map_or(t.dtype().to_string(), |p| p.format.to_string()),
            format!("{:?}", packed(&t).map_or(t.shape(), |p| &p.shape)),
            grouped(t.byte_len()),
        ]
    }));
    table(&rows)
}

fn summary(checkpoint: &Checkpoint, inventory: &Inventory) -> String {
    let header = [
        "component",
        "tensors",
        "parameters",
        "bytes",
        "of which scales",
        "dtypes",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let components = inventory.components.iter().map(|(c, i)| (c.name(), i));
    for (name, i) in components.chain([("main model", &inventory.main), ("all", &inventory.total)])
    {
        let dtypes = i.dtypes.iter().map(|(name, n)| format!("{name}×{n}"));
        rows.push(vec![
            name.to_owned(),
            grouped(i.tensors),
            grouped(i.parameters),
            grouped(i.bytes),
            grouped(i.scale_bytes),
            dtypes.collect::<Vec<_>>().join(" "),
        ]);
    }
    let scales = match checkpoint.scale_census() {
        Ok(census) if census.power_of_two + census.any_value > 0 => format!(
            "fp8 weights: {} with power-of-two scales, {} with others\n",
            grouped(census.power_of_two),
            grouped(census.any_value)
        ),
        Ok(_) => String::new(),
        Err(error) => format!("fp8 weights: {}\n", one_line(&error.to_string())),
    };
    let packed = inventory.packed.iter().map(|(format, counts)| {
        format!(
            "{format}: {} weights in {} tensors, {:.2} bits each with scales and padding\n",
            grouped(counts.parameters),
            grouped(counts.tensors),
            counts.bits_per_weight()
        )
    });
    let packed: String = packed.collect();
    format!(
        "{}\n{} of tensors in {} files\n{scales}{packed}",
        table(&rows),
        human_bytes(inventory.total.bytes),
        inventory.files
    )
}

fn configuration(global: &Global, file: &Path) -> anyhow::Result<()> {
    let args = ModelArgs::from_file(file)?;
    let plan = Plan::new(&args, &PlanOptions::default())?;
    if global.json {
        return say_json(&plan);
    }
    say(&format!(
        "No weights here. As {} describes them:\n\n{}",
        file.display(),
        super::plan::components(&plan)
    ))
}
