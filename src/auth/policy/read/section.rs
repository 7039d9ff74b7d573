//! Reads the values of one table and notes what is wrong with them, and where.

use std::cell::RefCell;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::super::{Mistake, Mistakes};
use crate::spelling;

/// What is wrong with a file.
pub(super) struct Notes<'t> {
    text: &'t str,
    found: RefCell<Vec<Mistake>>,
}

impl<'t> Notes<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, found: RefCell::default() }
    }

    /// Something is wrong at that byte of the file.
    pub(super) fn mistake(&self, at: usize, what: impl Into<String>, remedy: impl Into<String>) {
        let line = Some(self.line(at));
        self.found.borrow_mut().push(Mistake { line, what: what.into(), remedy: remedy.into() });
    }

    /// Something is wrong with the whole of it.
    pub(super) fn mistake_of_all(&self, what: &str, remedy: &str) {
        let (what, remedy) = (what.to_owned(), remedy.to_owned());
        self.found.borrow_mut().push(Mistake { line: None, what, remedy });
    }

    /// Whether nothing is wrong so far.
    pub(super) fn none(&self) -> bool {
        self.found.borrow().is_empty()
    }

    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    /// The value, unless there was a mistake.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Mistakes> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|mistake| mistake.line);
        match value {
            Some(value) if found.is_empty() => Ok(value),
            _ => Err(Mistakes(found)),
        }
    }
}

/// One table of the file.
pub(super) struct Section<'a> {
    pub(super) notes: &'a Notes<'a>,
    /// Where it begins.
    pub(super) at: usize,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The table that begins at that byte and may have these keys.
    pub(super) fn new(
        notes: &'a Notes<'a>,
        at: usize,
        table: &'a DeTable<'a>,
        known: &'static [&'static str],
    ) -> Self {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let suggestion = spelling::suggestion(key.get_ref(), known);
            let what = format!("there is no key {}", quoted(key.get_ref()));
            notes.mistake(
                key.span().start,
                what,
                format!("{suggestion}the keys here are {}", known.join(", ")),
            );
        }
        Self { notes, at, table }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// The tables of `[[key]]`, each with where it begins.
    pub(super) fn tables(&self, key: &str) -> Vec<(usize, &'a DeTable<'a>)> {
        let items = self.list(key, "tables", &format!("begin each with [[{key}]]"));
        items.into_iter().filter_map(|item| self.table_in(item)).collect()
    }

    /// The table `[key]`, with where it begins.
    pub(super) fn table(&self, key: &str) -> Option<(usize, &'a DeTable<'a>)> {
        self.table_in(self.get(key)?)
    }

    pub(super) fn table_in(&self, value: &'a Spanned<DeValue<'a>>) -> Option<(usize, &'a DeTable<'a>)> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_kind(value, "a table", "write its keys in braces, or below a heading in brackets");
        }
        table.map(|table| (value.span().start, table))
    }

    /// The items of a list; none where there is none.
    pub(super) fn list(&self, key: &str, of: &str, remedy: &str) -> Vec<&'a Spanned<DeValue<'a>>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => {
                self.wrong_kind(value, &format!("a list of {of}"), remedy);
                Vec::new()
            }
        }
    }

    /// A text that is not empty, with where it stands.
    pub(super) fn text(&self, key: &str) -> Option<(usize, &'a str)> {
        self.text_in(self.get(key)?)
    }

    pub(super) fn text_in(&self, value: &'a Spanned<DeValue<'a>>) -> Option<(usize, &'a str)> {
        let at = value.span().start;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_kind(value, "a text", "write it in quotation marks");
            return None;
        };
        if text.trim().is_empty() || text.trim() != text || text.chars().any(char::is_control) {
            let what = format!("{} is empty, or has spaces around it or control characters", quoted(text));
            self.notes.mistake(at, what, "write a word or a line, without spaces around it");
            return None;
        }
        Some((at, text))
    }

    pub(super) fn truth(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong_kind(value, "true or false", "write it without quotation marks");
        }
        truth
    }

    pub(super) fn wrong_kind(&self, value: &Spanned<DeValue<'_>>, wanted: &str, remedy: &str) {
        let what = format!("{} stands where {wanted} belongs", kind(value.get_ref()));
        self.notes.mistake(value.span().start, what, remedy);
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What was given, cut short.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}
