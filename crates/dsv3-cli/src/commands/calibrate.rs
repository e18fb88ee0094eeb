//! Reading a text with a model, to see which columns of its weights matter.

use std::path::Path;

use dsv3_model::{Calibration, ForwardBatch};
use dsv3_weights::Importance;

use super::report;
use crate::cli::{Global, LoadArgs};
use crate::interrupt::Listening;
use crate::model;
use crate::output::progress_bar;

/// Tokens that are read together.
const WINDOW: usize = 512;
/// Tokens of a cache block.
const BLOCK: usize = 16;

/// What the inputs of the model's weights are like over the text of `file`; none after Ctrl-C.
pub(super) fn importance(
    global: &Global,
    file: &Path,
    listening: &Listening,
) -> anyhow::Result<Option<Importance>> {
    let opened = model::open(global)?;
    let windows = report::windows(file, &opened, WINDOW)?;
    let mut model = opened.load_model(global, &LoadArgs::default())?;
    let calibration = Calibration::watch(&mut model);
    let blocks = WINDOW.div_ceil(BLOCK);
    let mut cache = model.new_cache(blocks, BLOCK);
    let bar = progress_bar(
        windows.len() as u64,
        "calibrating {bar:30} {pos}/{len}, {eta} left",
    );
    for window in &windows {
        if listening.pressed() {
            bar.finish_and_clear();
            return Ok(None);
        }
        let mut batch = ForwardBatch::default();
        batch.push(&window.ids, 0, (0..blocks as u32).collect());
        model.forward(&batch, &mut cache)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let squares = calibration.mean_squares();
    tracing::info!(
        weights = squares.len(),
        unreached = calibration.unreached(),
        "calibrated"
    );
    Ok(Some(Importance::new(squares)?))
}
