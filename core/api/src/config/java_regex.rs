//! Java's regular expressions as ours: translated where the meaning is the same, refused where it can't be.

use std::borrow::Cow;

use regex::Regex;

use super::ConfigValue;

/// An option that is a pattern in Java's syntax, which must match a whole text.
#[derive(Debug, Clone)]
pub struct WholeRegex(Regex);

impl WholeRegex {
    /// True where the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl ConfigValue for WholeRegex {
    fn parse(text: &str) -> Result<Self, String> {
        full_match(text).map(Self)
    }

    fn type_name() -> Cow<'static, str> {
        "regex".into()
    }
}

/// Compiles a Java pattern that must match a whole text (`Matcher.matches`).
pub fn full_match(pattern: &str) -> Result<Regex, String> {
    // Compiled alone first, so that a stray bracket can't close the group around it.
    compile(pattern)?;
    translate(pattern).and_then(|translated| built(&format!(r"\A(?:{translated})\z")))
}

/// Compiles a Java pattern that is searched for in a text (`Matcher.find`).
pub fn compile(pattern: &str) -> Result<Regex, String> {
    translate(pattern).and_then(|translated| built(&translated))
}

fn built(translated: &str) -> Result<Regex, String> {
    Regex::new(translated).map_err(|error| {
        // The message's last line says what is wrong; those before draw it.
        let message = error.to_string();
        let message = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("is no regular expression: {message}")
    })
}

fn translate(pattern: &str) -> Result<String, String> {
    let unsupported = |what: &str| Err(format!("uses {what}, which regular expressions here don't have"));
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    // How deep in [..] we are, and whether a quantifier just ended, which a `+` would make possessive.
    let (mut class, mut quantified) = (0, false);
    while let Some(c) = rest.chars().next() {
        let was_quantified = std::mem::take(&mut quantified);
        let after = &rest[c.len_utf8()..];
        if c == '\\' {
            let Some(escaped) = after.chars().next() else { return Err("ends with a lone backslash".to_owned()) };
            let tail = &after[escaped.len_utf8()..];
            rest = tail;
            match escaped {
                'Q' => {
                    let (quoted, beyond) = tail.split_once("\\E").unwrap_or((tail, ""));
                    out.push_str(&regex::escape(quoted));
                    rest = beyond;
                }
                // Java's are ASCII unless told otherwise.
                'd' => out.push_str(if class > 0 { "0-9" } else { "[0-9]" }),
                'w' => out.push_str(if class > 0 { "a-zA-Z0-9_" } else { "[a-zA-Z0-9_]" }),
                's' => out.push_str(if class > 0 { r" \t\n\x0B\f\r" } else { r"[ \t\n\x0B\f\r]" }),
                'h' => out.push_str(if class > 0 { r" \t\xA0" } else { r"[ \t\xA0]" }),
                'D' => out.push_str("[^0-9]"),
                'W' => out.push_str("[^a-zA-Z0-9_]"),
                'S' => out.push_str(r"[^ \t\n\x0B\f\r]"),
                'b' if class == 0 => out.push_str(r"(?-u:\b)"),
                'B' if class == 0 => out.push_str(r"(?-u:\B)"),
                'e' => out.push_str(r"\x1B"),
                'Z' => out.push_str(r"\n?\z"),
                '1'..='9' | 'k' => return unsupported("a back reference"),
                'G' => return unsupported("'\\G'"),
                'R' | 'X' | 'H' | 'V' | 'v' | 'c' | '0' | 'N' => return unsupported(&format!("'\\{escaped}'")),
                'p' | 'P' => {
                    let (name, beyond) = match tail.strip_prefix('{').and_then(|tail| tail.split_once('}')) {
                        Some((name, beyond)) => (name, beyond),
                        None => {
                            let end = tail.chars().next().map_or(0, char::len_utf8);
                            (&tail[..end], &tail[end..])
                        }
                    };
                    let posix = [
                        "Lower", "Upper", "ASCII", "Alpha", "Digit", "Alnum", "Punct", "Graph", "Print", "Blank",
                        "Cntrl", "XDigit", "Space",
                    ];
                    let negated = if escaped == 'P' { "^" } else { "" };
                    if posix.contains(&name) {
                        out.push_str(&format!("[{negated}[:{}:]]", name.to_lowercase()));
                    } else if name.starts_with("java") {
                        return unsupported(&format!("'\\{escaped}{{{name}}}'"));
                    } else {
                        out.push_str(&format!("\\{escaped}{{{}}}", name.strip_prefix("Is").unwrap_or(name)));
                    }
                    rest = beyond;
                }
                c if c.is_ascii_alphanumeric() => {
                    out.push('\\');
                    out.push(c);
                }
                // In Java an escaped sign is that sign; ours gives '<' and '>' a meaning.
                c => out.push_str(&regex::escape(&c.to_string())),
            }
            continue;
        }
        rest = after;
        match c {
            '[' => {
                class += 1;
                out.push('[');
                if let Some(beyond) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = beyond;
                }
            }
            ']' if class > 0 => {
                class -= 1;
                out.push(']');
            }
            // Signs that are operators in our classes only.
            '-' | '~' if class > 0 && after.starts_with(c) => {
                out.push('\\');
                out.push(c);
            }
            '(' if class == 0 => {
                out.push('(');
                for (sign, what) in [
                    ("?=", "a lookahead"),
                    ("?!", "a lookahead"),
                    ("?<=", "a lookbehind"),
                    ("?<!", "a lookbehind"),
                    ("?>", "an atomic group"),
                ] {
                    if after.starts_with(sign) {
                        return unsupported(what);
                    }
                }
                let flags = after.strip_prefix('?').map(|flags| flags.split([')', ':']).next().unwrap_or_default());
                if flags.is_some_and(|flags| !flags.starts_with('<') && flags.contains(['U', 'd'])) {
                    return unsupported("the flag 'U' or 'd'");
                }
            }
            '+' if class == 0 && was_quantified => return unsupported("a possessive quantifier"),
            '*' | '+' | '?' | '}' if class == 0 => {
                // `a*?` is reluctant; nothing can follow it.
                quantified = !was_quantified;
                out.push(c);
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        full_match(pattern).unwrap().is_match(text)
    }

    #[test]
    fn the_whole_text_must_match() {
        assert!(matches("a|ab", "ab"));
        assert!(matches("0a4e65e909bd.*", "0a4e65e909bd.pin"));
        assert!(!matches("0a4e65e909bd", "0a4e65e909bd.pin"));
    }

    #[test]
    fn what_java_writes_otherwise_is_translated() {
        assert!(matches(r"\Qa.b\E\d+", "a.b12"));
        assert!(!matches(r"\d", "٣"));
        assert!(matches(r"[\d\w--]+", "a_1-"));
        assert!(matches(r"\p{Alpha}+\p{Punct}\P{Digit}", "ab.c"));
        assert!(matches(r"\p{IsAlphabetic}\p{L}", "äß"));
        assert!(matches(r"(?<uid>[a-f0-9]{12})\.(pin|geo)", "0a4e65e909bd.geo"));
        assert!(matches(r"\<a\>\-\@", "<a>-@"));
        assert!(matches(r"a.*?b+?", "axxbb"));
        assert!(matches(r"[a-z&&[^b]]+", "ac") && !matches(r"[a-z&&[^b]]+", "ab"));
    }

    #[test]
    fn what_cannot_be_translated_is_refused_with_its_name() {
        for (pattern, what) in [
            ("(?!__).*", "a lookahead"),
            ("(?<=a)b", "a lookbehind"),
            ("(?>a)b", "an atomic group"),
            (r"(a)\1", "a back reference"),
            (r"(?<x>a)\k<x>", "a back reference"),
            ("a++", "a possessive quantifier"),
            ("a{2}+", "a possessive quantifier"),
            ("(?U)a", "the flag 'U' or 'd'"),
            (r"a\G", r"'\G'"),
        ] {
            let expected = format!("uses {what}, which regular expressions here don't have");
            assert_eq!(full_match(pattern).unwrap_err(), expected, "{pattern}");
        }
        assert_eq!(full_match("a(b").unwrap_err(), "is no regular expression: unclosed group");
        assert_eq!(full_match("a\\").unwrap_err(), "ends with a lone backslash");
    }
}
