//! The pages that a search may find.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::Deserialize;

use super::bm25::Bm25;
use super::passages;
use crate::input::file_text;

/// What is read at most; the index takes a few times as much memory.
const MAX_BYTES: u64 = 64 << 20;
const MAX_FILES: usize = 10_000;
/// Folders in folders.
const MAX_DEPTH: usize = 16;

/// What a search finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) text: String,
}

/// A line of a .jsonl file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    title: String,
    text: String,
}

/// Pages and their index.
#[derive(Debug)]
pub(crate) struct Library {
    origin: PathBuf,
    pages: Vec<Page>,
    index: Bm25,
}

impl Library {
    /// Read a folder of .md, .txt and .jsonl files, or one file. Folders in it count; hidden files
    /// and symbolic links in it do not.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let mut files = Vec::new();
        let mut bytes = 0;
        let kind = fs::metadata(path).with_context(|| format!("cannot search in {name}"))?;
        match kind.is_dir() {
            true => list(path, 0, &mut files, &mut bytes)?,
            false => {
                files.push(path.to_owned());
                bytes = kind.len();
            }
        }
        if bytes > MAX_BYTES {
            return Err(anyhow!(
                "{name} holds {} MiB of text, and the search takes {} MiB at most: give a part of it",
                bytes >> 20,
                MAX_BYTES >> 20
            ));
        }
        files.sort();
        let mut pages = Vec::new();
        for file in &files {
            pages.extend(read(file)?);
        }
        if pages.is_empty() {
            return Err(anyhow!(
                "{name} holds nothing to search in: give a folder with .md, .txt or .jsonl files, \
                 or one such file"
            ));
        }
        let texts = pages
            .iter()
            .map(|page| format!("{} {}", page.title, page.text));
        let texts: Vec<String> = texts.collect();
        Ok(Library {
            origin: path.to_owned(),
            index: Bm25::new(texts.iter().map(String::as_str)),
            pages,
        })
    }

    /// The pages that fit best, at most so many.
    pub(crate) fn find(&self, query: &str, most: usize) -> Vec<&Page> {
        let found = self.index.find(query, most).into_iter();
        found.filter_map(|number| self.pages.get(number)).collect()
    }

    /// Where it was read and how much it is, for people.
    pub(crate) fn described(&self) -> String {
        let count = self.pages.len();
        let pages = if count == 1 { "page" } else { "pages" };
        format!("{} ({count} {pages})", self.origin.display())
    }
}

/// The files of a folder.
fn list(dir: &Path, depth: usize, files: &mut Vec<PathBuf>, bytes: &mut u64) -> anyhow::Result<()> {
    let name = dir.display();
    if depth > MAX_DEPTH {
        return Err(anyhow!(
            "{name}: folders lie more than {MAX_DEPTH} deep; give one further down"
        ));
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {name}"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {name}"))?;
        let path = entry.path();
        let kind = entry
            .file_type()
            .with_context(|| path.display().to_string())?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            list(&path, depth + 1, files, bytes)?;
        } else if kind.is_file() && is_text(&path) {
            let size = entry
                .metadata()
                .with_context(|| path.display().to_string())?;
            *bytes = bytes.saturating_add(size.len());
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(anyhow!(
                "more than {MAX_FILES} files lie under {name}; give a folder with fewer"
            ));
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    let endings = ["md", "markdown", "txt", "jsonl"];
    endings.iter().any(|ending| has_ending(path, ending))
}

fn has_ending(path: &Path, ending: &str) -> bool {
    let found = path.extension().and_then(|e| e.to_str());
    found.is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// The pages of a file.
fn read(path: &Path) -> anyhow::Result<Vec<Page>> {
    let text = file_text(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !has_ending(path, "jsonl") {
        return Ok(passages::of_text(&name, &text));
    }
    let mut pages = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(line).with_context(|| {
            format!(
                "{}:{}: a line must be {{\"title\": \"…\", \"text\": \"…\"}}",
                path.display(),
                number + 1
            )
        })?;
        pages.extend(passages::of_page(&line.title, &line.text));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    fn refused(path: &Path) -> String {
        let error = Library::open(path).map(|l| l.described()).unwrap_err();
        crate::error::paragraph(&error)
    }

    /// Breaks with: a file passed over, a hidden or other one taken, a title that is not searched.
    #[test]
    fn all_kinds_of_files_are_read() {
        let dir = folder(&[
            ("a.md", b"# Tea\nHot.\n# Milk\nCold."),
            ("b/c.txt", b"A bus goes."),
            (
                "d.JSONL",
                b"{\"title\": \"Cup\", \"text\": \"Mia won.\"}\n\n",
            ),
            (".hidden.md", b"secret"),
            ("e.png", b"\xff\xfe"),
        ]);
        let library = Library::open(dir.path()).unwrap();
        let mut titles: Vec<&str> = library.pages.iter().map(|p| p.title.as_str()).collect();
        titles.sort_unstable();
        assert_eq!(titles, ["Cup", "Milk", "Tea", "c.txt"]);
        assert!(library.described().ends_with("(4 pages)"));
        let found = library.find("cup", 3);
        assert_eq!(found[0].text, "Mia won.");
        assert!(library.find("secret", 3).is_empty());
        let one = Library::open(&dir.path().join("b/c.txt")).unwrap();
        assert_eq!(one.find("bus", 3).len(), 1);
    }

    /// Breaks with: a folder that can't be searched and doesn't say so, or not what to do.
    #[test]
    fn what_can_not_be_searched_is_named() {
        let dir = folder(&[
            ("empty/x.png", b""),
            ("blank/x.md", b" \n"),
            ("latin1/x.md", b"caf\xe9"),
            (
                "json/x.jsonl",
                b"{\"title\": \"a\", \"text\": \"b\"}\n{\"title\": 3}",
            ),
        ]);
        for (name, parts) in [
            ("missing", ["missing", "cannot search in"]),
            ("empty", ["empty", "nothing to search"]),
            ("blank", ["blank", ".jsonl"]),
            ("latin1", ["x.md", "UTF-8"]),
            ("json", ["x.jsonl:2", "title"]),
        ] {
            let message = refused(&dir.path().join(name));
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        let large = dir.path().join("large.txt");
        let file = fs::File::create(&large).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert!(refused(&large).contains("64 MiB at most"));
    }

    /// Breaks with: the page that tells the answer not among those that the small model reads.
    #[test]
    fn the_small_models_queries_find_their_pages() {
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/search");
        let library = Library::open(Path::new(pages)).unwrap();
        for (query, title) in [
            ("2030 Northfield Cup winner", "Northfield Cup 2030"),
            ("Northmouth Cup money", "Prizes of the Northmouth Cup"),
            ("coffee price Marlow", "Prices in Marlow: coffee"),
            ("mayor Brookbury name", "The mayor of Brookbury"),
            ("castle Marlow opening time", "Marlow Castle"),
            ("zoo Brookbury opening time", "Brookbury Zoo"),
            ("Marlow Woodwell score", "Yesterday's matches: Marlow"),
            ("castle Northfield ticket", "Northfield Castle: tickets"),
            ("bus 53 Lakeport", "Buses in Lakeport"),
            ("Marlow people 2028", "Marlow in numbers"),
            ("new car Ashfield Works date", "New cars"),
            ("head of Marlow Works 2039", "Marlow Works"),
            ("Blue Stars 5 October concert", "Concerts in October"),
        ] {
            let found = library.find(query, 3);
            assert!(found.iter().any(|p| p.title == title), "{query}: {found:?}");
        }
    }
}
