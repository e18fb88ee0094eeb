//! `dsv3 inspect`

use std::path::PathBuf;

use dsv3_weights::{Checkpoint, Inventory, ModelArgs, Plan, PlanOptions, human_bytes};
use serde_json::json;

use crate::cli::{Global, InspectArgs};
use crate::output::{Usage, grouped, say, say_json, table};

/// Print what lies in the folder, or what a bare configuration asks for.
pub(crate) fn run(global: &Global, args: InspectArgs) -> anyhow::Result<()> {
    let path = args.path.or_else(|| global.model.clone()).ok_or_else(|| {
        Usage("name what to inspect: a checkpoint's folder, or a config.json".into())
    })?;
    let has_weights = ["model.safetensors", "model.safetensors.index.json"];
    let is_checkpoint = has_weights.iter().any(|file| path.join(file).exists());
    match path.is_dir() && !is_checkpoint && path.join("config.json").exists() {
        true => configuration(global, path.join("config.json")),
        false if path.is_file() => configuration(global, path),
        false => checkpoint(global, path, args.tensors),
    }
}

fn checkpoint(global: &Global, path: PathBuf, tensors: bool) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&path)?;
    let warnings = checkpoint.verify()?;
    let inventory = Inventory::of(&checkpoint);
    if global.json {
        let mut value = serde_json::to_value(&inventory)?;
        value["warnings"] = serde_json::to_value(&warnings)?;
        if tensors {
            let list = checkpoint.tensors().map(|t| {
                json!({ "name": t.name(), "dtype": t.dtype().name(), "shape": t.shape(),
                    "bytes": t.byte_len(), "file": t.file() })
            });
            value["tensors"] = list.collect();
        }
        return say_json(&value);
    }
    if tensors {
        let rows = checkpoint.tensors().map(|t| {
            let bytes = grouped(t.byte_len());
            vec![
                t.name().to_owned(),
                t.dtype().name().to_owned(),
                format!("{:?}", t.shape()),
                bytes,
            ]
        });
        say(&table(&rows.collect::<Vec<_>>()))?;
        say("\n")?;
    }
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
    for (name, i) in components.chain([("all", &inventory.total)]) {
        let dtypes: Vec<&str> = i.dtypes.keys().copied().collect();
        rows.push(vec![
            name.to_owned(),
            grouped(i.tensors),
            grouped(i.parameters),
            grouped(i.bytes),
            grouped(i.scale_bytes),
            dtypes.join(" "),
        ]);
    }
    say(&table(&rows))?;
    let (files, bytes) = (inventory.files, human_bytes(inventory.total.bytes));
    say(&format!("\n{bytes} of tensors in {files} files\n"))?;
    for warning in warnings {
        say(&format!("note: {warning}\n"))?;
    }
    Ok(())
}

fn configuration(global: &Global, path: PathBuf) -> anyhow::Result<()> {
    let args = ModelArgs::from_file(&path)?;
    let plan = Plan::new(&args, &PlanOptions::default())?;
    match global.json {
        true => say_json(&plan),
        false => say(&super::plan::components(&plan)),
    }
}
