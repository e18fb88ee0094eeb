//! The model that is taken where --model names none: the small one of this repository.

use std::path::{Path, PathBuf};

/// Where it lies in the repository.
const FOLDER: &str = "fixtures/dsv3-tiny";

/// Find it: in the repository around the current directory, else in the one that this program
/// was built from.
pub(crate) fn find() -> Option<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    find_from(&here, built_from)
}

fn find_from(here: &Path, built_from: &Path) -> Option<PathBuf> {
    let roots = here.ancestors().chain([built_from]);
    let dir = roots
        .map(|root| root.join(FOLDER))
        .find(|dir| has_weights(dir))?;
    // Shorter to read, and the same folder.
    let short = dir.strip_prefix(here).map(Path::to_owned);
    Some(short.unwrap_or(dir))
}

/// A clone without the weights has the configuration alone, which answers nothing.
fn has_weights(dir: &Path) -> bool {
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    dir.join("config.json").is_file() && weights.iter().any(|file| dir.join(file).is_file())
}

/// Whether a folder is this model, under whatever path.
pub(crate) fn is(dir: &Path) -> bool {
    let found = find().and_then(|found| found.canonicalize().ok());
    found.is_some() && dir.canonicalize().ok() == found
}

/// The pages that lie beside it to be searched.
pub(crate) fn pages(model: &Path) -> Option<PathBuf> {
    let pages = model.parent()?.join("search");
    pages.is_dir().then_some(pages)
}

/// What to do where there is none.
pub(crate) const MISSING: &str = "no checkpoint is named, and the small model of dsv3's repository \
    (fixtures/dsv3-tiny) is not found from here: give a checkpoint's folder (the one with \
    config.json and the .safetensors files) with --model DIR, or run dsv3 inside a clone of its \
    repository";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn add_model(root: &Path) {
        let dir = root.join(FOLDER);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), "{}").unwrap();
        fs::write(dir.join("model.safetensors"), "").unwrap();
    }

    /// Breaks with: a model that is only found from the repository's root, or one without weights
    /// that hides one with them.
    #[test]
    fn the_nearest_with_weights_is_found() {
        let clone = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (clone, other) = (clone.path(), other.path());
        let deep = clone.join("a/b");
        fs::create_dir_all(deep.join(FOLDER)).unwrap();
        fs::write(deep.join(FOLDER).join("config.json"), "{}").unwrap();

        assert_eq!(find_from(&deep, other), None);
        add_model(other);
        assert_eq!(find_from(&deep, other), Some(other.join(FOLDER)));
        add_model(clone);
        assert_eq!(find_from(&deep, other), Some(clone.join(FOLDER)));
        assert_eq!(find_from(clone, other), Some(PathBuf::from(FOLDER)));
    }

    /// Breaks with: an error that leaves out one of the two ways on.
    #[test]
    fn both_ways_out_are_named() {
        for part in ["--model DIR", "clone", FOLDER] {
            assert!(MISSING.contains(part), "{part}");
        }
    }
}
