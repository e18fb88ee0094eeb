//! Pictures of how evenly the experts are used.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// An expert that got nothing.
const IDLE: char = '·';
/// Characters for one layer: more experts share one, which shows the busiest of them.
const WIDTH: usize = 32;
/// Lines at most: of deeper models the least even layers are shown.
const LINES: usize = 6;

/// The busiest expert's load over the mean, 1 where all are alike. `None` without load.
pub(crate) fn max_over_mean(layer: &[f32]) -> Option<f32> {
    let mean = mean(layer)?;
    let max = layer.iter().copied().fold(0.0, f32::max);
    Some(max / mean)
}

/// The largest [`max_over_mean`] of all layers.
pub(crate) fn worst(load: &[Vec<f32>]) -> Option<f32> {
    let layers = load.iter().filter_map(|layer| max_over_mean(layer));
    layers.reduce(f32::max)
}

/// A line for each layer: its number among the MoE layers, the experts, max over mean.
pub(crate) fn picture(load: &[Vec<f32>]) -> Vec<String> {
    let mut layers: Vec<(usize, f32, &[f32])> = load
        .iter()
        .enumerate()
        .filter_map(|(at, layer)| Some((at, max_over_mean(layer)?, layer.as_slice())))
        .collect();
    let mut hidden = String::new();
    if layers.len() > LINES {
        layers.sort_by(|a, b| b.1.total_cmp(&a.1));
        if let Some((_, next, _)) = layers.get(LINES) {
            let others = layers.len() - LINES;
            hidden = format!("{others} other layers up to {next:.2}x");
        }
        layers.truncate(LINES);
        layers.sort_by_key(|(at, ..)| *at);
    }
    let mut lines: Vec<String> = layers
        .into_iter()
        .map(|(at, ratio, layer)| format!("MoE {at:>2} {} {ratio:.2}x", blocks(layer)))
        .collect();
    if !hidden.is_empty() {
        lines.push(hidden);
    }
    lines
}

/// One character an expert, or for a few of them: half a block is the mean, a full one twice that
/// or more.
fn blocks(layer: &[f32]) -> String {
    let Some(mean) = mean(layer) else {
        return String::new();
    };
    let block = |share: f32| match share > 0.0 {
        // The mean is the fourth of the eight.
        true => {
            let level = (share / mean * 4.0).ceil() as usize;
            BLOCKS[level.clamp(1, BLOCKS.len()) - 1]
        }
        false => IDLE,
    };
    layer
        .chunks(layer.len().div_ceil(WIDTH).max(1))
        .map(|experts| block(experts.iter().copied().fold(0.0, f32::max)))
        .collect()
}

fn mean(layer: &[f32]) -> Option<f32> {
    let mean = layer.iter().sum::<f32>() / layer.len() as f32;
    (mean > 0.0 && mean.is_finite()).then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks with: a picture in which even and uneven look alike, or a dead expert looks alive.
    #[test]
    fn even_uneven_and_dead() {
        assert_eq!(blocks(&[0.25; 4]), "▄▄▄▄");
        assert_eq!(blocks(&[0.5, 0.25, 0.25, 0.0]), "█▄▄·");
        assert_eq!(blocks(&[0.97, 0.01, 0.01, 0.01]), "█▁▁▁");
        assert_eq!(max_over_mean(&[0.25; 4]), Some(1.0));
        assert_eq!(max_over_mean(&[0.5, 0.25, 0.25, 0.0]), Some(2.0));
        assert_eq!(worst(&[vec![0.5, 0.5], vec![1.0, 0.0]]), Some(2.0));
        assert_eq!(picture(&[vec![0.5, 0.5]]), ["MoE  0 ▄▄ 1.00x"]);
    }

    // Breaks with: a terminal filled by the 58 layers of 256 experts of the real model, or its
    // busiest expert lost among neighbours.
    #[test]
    fn a_large_model_stays_compact() {
        let mut load = vec![vec![1.0 / 256.0; 256]; 58];
        load[40][100] = 0.1;
        let lines = picture(&load);
        assert_eq!(lines.len(), LINES + 1);
        let worst = lines
            .iter()
            .find(|line| line.starts_with("MoE 40"))
            .unwrap();
        assert!(worst.contains('█'));
        assert!(
            lines.iter().all(|line| line.chars().count() <= 48),
            "{lines:?}"
        );
        assert_eq!(lines[LINES], "52 other layers up to 1.00x");
    }

    // Breaks with: a division by zero or NaN that reaches a picture.
    #[test]
    fn no_load_is_no_picture() {
        for load in [
            vec![],
            vec![vec![]],
            vec![vec![0.0; 4]],
            vec![vec![f32::NAN; 4]],
        ] {
            assert!(picture(&load).is_empty(), "{load:?}");
            assert_eq!(worst(&load), None);
        }
    }
}
