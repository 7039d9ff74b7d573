//! What was probably meant by a word that nobody knows.

/// `did you mean …? ` with the known word that is most like `word`, or nothing where none is much like it.
#[must_use]
pub fn suggestion<T: AsRef<str>>(word: &str, known: &[T]) -> String {
    let alike = |known: &&T| strsim::jaro_winkler(&word.to_lowercase(), known.as_ref());
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|known| alike(known) > 0.8);
    best.map(|known| format!("did you mean {}? ", known.as_ref())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_most_like_it_is_suggested_and_none_that_is_not_like_it() {
        assert_eq!(suggestion("Unblok", &["unblock", "bulk"]), "did you mean unblock? ");
        assert_eq!(suggestion("root", &["unblock", "bulk"]), "");
    }
}
