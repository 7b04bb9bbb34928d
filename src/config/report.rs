//! What is wrong with a configuration, all of it, and how it is shown.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Everything that is wrong with a configuration; the relay does not start on it.
///
/// `Display` is one report after the other, each with the place in the file, and a closing
/// line with their number. Secrets are masked.
pub struct Problems {
    pub(super) file: Option<File>,
    /// Problems and, among them, warnings, in the order of their places.
    pub(super) reports: Vec<Report>,
}

/// The configuration file as it may be shown.
pub(super) struct File {
    pub(super) name: String,
    /// The file's text, byte for byte at its place, with secrets masked.
    pub(super) masked: String,
    /// Whether the syntax was wrong, so that more problems may be hidden.
    pub(super) broken: bool,
}

/// One problem or one warning.
pub(super) struct Report {
    pub(super) code: &'static str,
    pub(super) warning: bool,
    title: String,
    /// The first one is the place of the problem, the others belong to it.
    marks: Vec<(Place, String)>,
    help: Vec<String>,
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes of the file.
    Span(Range<usize>),
    /// A variable or a flag.
    Named(&'static str),
    /// Nowhere: a default.
    Nowhere,
}

impl Report {
    pub(super) fn problem(code: &'static str, title: impl Into<String>) -> Self {
        Self { code, warning: false, title: title.into(), marks: Vec::new(), help: Vec::new() }
    }

    pub(super) fn warning(code: &'static str, title: impl Into<String>) -> Self {
        Self { warning: true, ..Self::problem(code, title) }
    }

    pub(super) fn at(mut self, place: &Place, label: impl Into<String>) -> Self {
        if *place != Place::Nowhere {
            self.marks.push((place.clone(), label.into()));
        }
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// The bytes of the file this is about.
    pub(super) fn span(&self) -> Option<&Range<usize>> {
        self.marks.iter().find_map(|(place, _)| match place {
            Place::Span(span) => Some(span),
            Place::Named(_) | Place::Nowhere => None,
        })
    }

    fn group<'a>(&'a self, file: Option<&'a File>) -> Group<'a> {
        let level = if self.warning { Level::WARNING } else { Level::ERROR };
        let mut group = Group::with_title(level.primary_title(&*self.title).id(self.code));
        let mut annotations = Vec::new();
        let mut notes = Vec::new();
        for (place, label) in &self.marks {
            match place {
                Place::Span(span) => {
                    let kind = if annotations.is_empty() {
                        AnnotationKind::Primary
                    } else {
                        AnnotationKind::Context
                    };
                    annotations.push(kind.span(span.clone()).label(&**label));
                }
                Place::Named(_) | Place::Nowhere => notes.push(Level::NOTE.message(&**label)),
            }
        }
        if let Some(file) = file.filter(|_| !annotations.is_empty()) {
            let snippet = Snippet::source(&*file.masked).path(&*file.name);
            group = group.element(snippet.annotations(annotations));
        }
        let help = self.help.iter().map(|help| Level::HELP.message(&**help));
        group.elements(notes).elements(help)
    }

    /// The report in one line, for a log.
    pub(super) fn line(&self, file: Option<&File>) -> String {
        let mut line = String::new();
        if let (Some(file), Some(span)) = (file, self.span()) {
            let number = file.masked[..span.start].matches('\n').count() + 1;
            line = format!("{}:{number}: ", file.name);
        }
        line.push_str(&self.title);
        for text in self.marks.iter().map(|(_, label)| label).chain(&self.help) {
            line.push_str("; ");
            line.push_str(text);
        }
        line
    }
}

impl Problems {
    /// A single problem that has no place in a file.
    pub(super) fn one(report: Report) -> Self {
        Self { file: None, reports: vec![report] }
    }

    /// How many problems there are; warnings do not count.
    pub fn count(&self) -> usize {
        self.reports.iter().filter(|report| !report.warning).count()
    }

    /// The stable codes of the problems, in order.
    pub fn codes(&self) -> impl Iterator<Item = &'static str> {
        self.reports.iter().filter(|report| !report.warning).map(|report| report.code)
    }

    /// All reports as text; `colour` adds the escapes of a terminal.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for report in &self.reports {
            text.push_str(&renderer.render(&[report.group(self.file.as_ref())]));
            text.push_str("\n\n");
        }
        let count = self.count();
        let noun = if count == 1 { "problem" } else { "problems" };
        match &self.file {
            Some(file) => text.push_str(&format!("{count} {noun} in {}", file.name)),
            None => text.push_str(&format!("{count} {noun} in the configuration")),
        }
        if self.file.as_ref().is_some_and(|file| file.broken) {
            text.push_str("; there may be more once the syntax is right");
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// As `Display`: the text of the file, which this holds, must not get into a log.
impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Problems {}
