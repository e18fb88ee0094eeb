//! Long texts cut into pages: a model reads what fits, so results are passages, not books.

use super::library::Page;

/// Characters of a page at most.
const LONGEST: usize = 1200;

/// Cut a text or Markdown file into pages. A heading begins a page and is its title; the pages
/// before the first have the file's name.
pub(super) fn of_text(name: &str, text: &str) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut title = name.to_owned();
    let mut page = String::new();
    for paragraph in paragraphs(text) {
        let heading = heading(&paragraph);
        let length = page.chars().count() + paragraph.chars().count();
        if heading.is_some() || length > LONGEST {
            add(&mut pages, &title, &mut page);
        }
        if let Some(heading) = heading {
            title = heading.to_owned();
        }
        if !page.is_empty() {
            page.push_str("\n\n");
        }
        page.push_str(&paragraph);
    }
    add(&mut pages, &title, &mut page);
    pages
}

/// Cut one titled text into pages.
pub(super) fn of_page(title: &str, text: &str) -> Vec<Page> {
    let mut pages = Vec::new();
    add(&mut pages, title, &mut text.to_owned());
    pages
}

/// Add what there is as one page, or as several where it is too long for one.
fn add(pages: &mut Vec<Page>, title: &str, text: &mut String) {
    let whole = std::mem::take(text);
    let mut rest = whole.trim();
    while !rest.is_empty() {
        let (part, after) = rest.split_at(cut(rest));
        pages.push(Page {
            title: title.to_owned(),
            text: part.trim_end().to_owned(),
        });
        rest = after.trim_start();
    }
}

/// Where to cut a text: behind the last sentence that fits, else behind the last word, else
/// where it gets too long.
fn cut(text: &str) -> usize {
    let Some((limit, _)) = text.char_indices().nth(LONGEST) else {
        return text.len();
    };
    let head = text.get(..limit).unwrap_or_default();
    let sentence =
        [". ", "! ", "? ", ".\n", "\n"].map(|end| head.rfind(end).map(|at| at + end.len()));
    let sentence = sentence.into_iter().flatten().max();
    let word = head.rfind(char::is_whitespace);
    // A cut near the beginning would make many small pages.
    sentence
        .filter(|at| *at > limit / 2)
        .or(word.filter(|at| *at > 0))
        .unwrap_or(limit)
}

/// Texts between empty lines. A heading is a paragraph of its own.
fn paragraphs(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let blank = line.trim().is_empty();
        let heads = heading(line).is_some();
        match found.last_mut().filter(|_| open && !heads) {
            _ if blank => {}
            Some(last) => {
                last.push('\n');
                last.push_str(line);
            }
            None => found.push(line.to_owned()),
        }
        open = !blank && !heads;
    }
    found
}

/// The text of a Markdown heading.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let marks = line.len() - text.len();
    let titled = (1..=6).contains(&marks) && text.starts_with(' ');
    titled.then(|| text.trim()).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pages: &[Page]) -> Vec<(&str, &str)> {
        let shown = pages.iter();
        shown.map(|p| (p.title.as_str(), p.text.as_str())).collect()
    }

    /// Breaks with: a passage under another title, or a paragraph torn or lost.
    #[test]
    fn headings_are_titles() {
        let text = "first\nline\n\nsecond\n# Tea\nIt is hot.\n\n#hashtag\n## Milk\r\n\r\nCold.\n";
        assert_eq!(
            shown(&of_text("a.md", text)),
            [
                ("a.md", "first\nline\n\nsecond"),
                ("Tea", "# Tea\n\nIt is hot.\n\n#hashtag"),
                ("Milk", "## Milk\n\nCold."),
            ]
        );
        assert!(of_text("a.md", " \n\n").is_empty());
    }

    /// Breaks with: a page longer than the limit, a character cut in half, words lost at a cut.
    #[test]
    fn long_texts_become_several_pages() {
        let sentence = "Märchen für Kinder sind schön und lang. ";
        let texts = [
            sentence.repeat(100),
            "word ".repeat(900),
            "ö".repeat(3000),
            [sentence.repeat(20), "x".repeat(1500)].concat(),
        ];
        for text in texts {
            let pages = of_page("t", &text);
            assert!(pages.len() > 1);
            assert!(pages.iter().all(|p| p.text.chars().count() <= LONGEST));
            let solid = |s: &str| s.split_whitespace().collect::<String>();
            let joined: String = pages.iter().map(|p| solid(&p.text)).collect();
            assert_eq!(joined, solid(&text));
        }
        let pages = of_page("t", &sentence.repeat(100));
        assert!(pages.iter().all(|p| p.text.ends_with("lang.")));
    }
}
