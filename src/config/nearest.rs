//! What somebody probably meant.

/// How alike two names must be; below, a suggestion confuses more than it helps.
const ALIKE: f64 = 0.8;

/// The candidate most like a mistyped name, if any is.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name, candidate), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_way_and_other_words_do_not() {
        let keys = ["project", "max_bytes", "endpoint", "access_key_secret"];
        for (given, meant) in [
            ("projet", Some("project")),
            ("Project", Some("project")),
            ("max-bytes", Some("max_bytes")),
            ("end_point", Some("endpoint")),
            ("acess_key_secert", Some("access_key_secret")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, keys), meant, "{given}");
        }
    }
}
