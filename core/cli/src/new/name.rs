//! Which names a new plugin may have.

use ottla_api::{Error, Result};
use ottla_runtime::plugins::Registry;

/// Names that a crate can't have, or that would hide a crate it needs.
const TAKEN: &[&str] = &["alloc", "async-trait", "core", "proc-macro", "std", "tempfile", "test", "tokio"];

/// Words of the language: a crate's name is an identifier in `use`.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Says what is wrong with a name.
///
/// # Errors
///
/// The name, the reason, and what would do.
pub(crate) fn check(name: &str, registry: &Registry) -> Result<()> {
    let bad = |why: String| Err(Error::config(format!("the name '{name}' {why}")));
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !name.split('-').all(word) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        let suggestion = suggest(name).map_or_else(String::new, |name| format!(", such as '{name}'"));
        return bad(format!(
            "must be small letters and digits in words with '-' between them, beginning with a letter{suggestion}"
        ));
    }
    if name.len() > 64 {
        return bad("is longer than 64 letters".to_owned());
    }
    if KEYWORDS.contains(&name) {
        return bad(format!("is a word of the language: take '{name}-plugin', say"));
    }
    if TAKEN.contains(&name) || name.starts_with("ottla-") {
        return bad(format!("belongs to another crate: take 'my-{name}', say"));
    }
    if let Ok(plugin) = registry.find_any(name) {
        return bad(format!(
            "means a plugin that is built in, the {} {}: take 'my-{name}', say",
            plugin.kind(),
            plugin.name
        ));
    }
    Ok(())
}

/// The name that was probably meant.
fn suggest(name: &str) -> Option<String> {
    let mut suggestion = String::new();
    for (index, letter) in name.char_indices() {
        let new_word =
            letter.is_ascii_uppercase() && name[..index].ends_with(|before: char| before.is_ascii_lowercase());
        if (new_word || !letter.is_ascii_alphanumeric()) && !suggestion.is_empty() && !suggestion.ends_with('-') {
            suggestion.push('-');
        }
        if letter.is_ascii_alphanumeric() && !(suggestion.is_empty() && letter.is_ascii_digit()) {
            suggestion.push(letter.to_ascii_lowercase());
        }
    }
    let suggestion = suggestion.trim_end_matches('-');
    (!suggestion.is_empty()).then(|| suggestion.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_is_refused_with_the_reason_and_a_way_out() {
        let registry = Registry::new(ottla_connector_file::PLUGINS.to_vec());
        let message = |name: &str| check(name, &registry).err().map(|error| error.to_string());
        let form = "must be small letters and digits in words with '-' between them, beginning with a letter";
        let cases = [
            ("MySink", format!("{form}, such as 'my-sink'")),
            ("my_sink", format!("{form}, such as 'my-sink'")),
            ("../x", format!("{form}, such as 'x'")),
            ("-", form.to_owned()),
            ("", form.to_owned()),
            ("2nd", format!("{form}, such as 'nd'")),
            ("a--b", format!("{form}, such as 'a-b'")),
            ("match", "is a word of the language: take 'match-plugin', say".to_owned()),
            ("tokio", "belongs to another crate: take 'my-tokio', say".to_owned()),
            ("ottla-x", "belongs to another crate: take 'my-ottla-x', say".to_owned()),
            ("file-sink", "means a plugin that is built in, the sink file-sink: take 'my-file-sink', say".to_owned()),
        ];
        for (name, why) in cases {
            assert_eq!(message(name), Some(format!("the name '{name}' {why}")));
        }
        for name in ["my-sink", "kudu", "s3-to-ftp2"] {
            assert_eq!(message(name), None);
        }
    }
}
