//! The nearest known name of a misspelt one.

/// The candidate that `name` was probably meant to be, if one is near enough.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let scored = candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate));
    // The first of equals wins, so that an answer does not depend on how many names there are.
    let best = scored.fold(None, |best: Option<(f64, &str)>, (score, candidate)| match best {
        Some((best_score, _)) if best_score >= score => best,
        _ => Some((score, candidate)),
    });
    best.filter(|(score, _)| *score >= 0.7).map(|(_, candidate)| candidate)
}

/// `; did you mean 'x'?`, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |candidate| format!("; did you mean '{candidate}'?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_does_not() {
        let names = ["s3.bucket.name", "s3.region", "flush.size"];
        assert_eq!(nearest("s3.bucket.nme", names), Some("s3.bucket.name"));
        assert_eq!(nearest("flush.sise", names), Some("flush.size"));
        assert_eq!(nearest("colour", names), None);
    }
}
