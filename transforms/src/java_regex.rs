//! Java's regular expressions and replacements, as far as an engine of linear time goes.

use std::borrow::Cow;

use ottla_api::config::ConfigValue;
use regex::{Captures, Regex};

/// A pattern in Java's syntax that must match the whole text, as `Matcher.matches`.
#[derive(Debug, Clone)]
pub(crate) struct WholeRegex(Regex);

impl WholeRegex {
    /// True where the whole text matches.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl ConfigValue for WholeRegex {
    fn parse(text: &str) -> Result<Self, String> {
        // Compiled alone first, so that a stray bracket can't close the group around it.
        compile(text)?;
        compile(&format!(r"\A(?:{text})\z")).map(Self)
    }

    fn type_name() -> Cow<'static, str> {
        "regex".into()
    }
}

/// A pattern in Java's syntax.
#[derive(Debug, Clone)]
pub(crate) struct JavaRegex {
    whole: WholeRegex,
    first: Regex,
}

impl JavaRegex {
    /// Replaces as `Matcher.replaceFirst` where the whole text matches; nothing where not.
    pub(crate) fn replace_whole(&self, text: &str, replacement: &Replacement) -> Option<String> {
        if !self.whole.is_match(text) {
            return None;
        }
        // Java then searches from the start again and replaces what it finds first, which may be less than the whole.
        let captures = self.first.captures(text)?;
        let found = captures.get(0)?;
        let mut result = text[..found.start()].to_owned();
        replacement.expand(&captures, &mut result);
        result.push_str(&text[found.end()..]);
        Some(result)
    }
}

impl ConfigValue for JavaRegex {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { first: compile(text)?, whole: WholeRegex::parse(text)? })
    }

    fn type_name() -> Cow<'static, str> {
        "regex".into()
    }
}

/// The replacement of a match: text with `$1`, `${name}`, and `\` before a character that is meant as it is.
#[derive(Debug, Clone)]
pub(crate) struct Replacement(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Group(usize),
    Named(String),
}

impl Replacement {
    /// Reads a replacement for `regex`; a group that the pattern doesn't have is a mistake.
    pub(crate) fn parse(text: &str, regex: &JavaRegex) -> Result<Self, String> {
        let groups = regex.first.captures_len();
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => literal.push(chars.next().ok_or("ends in a backslash; write \\\\ for one")?),
                '$' => {
                    let part = if chars.next_if_eq(&'{').is_some() {
                        let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                        if !regex.first.capture_names().flatten().any(|known| known == name) {
                            return Err(format!("names the group {{{name}}}, which the regex doesn't have"));
                        }
                        Part::Named(name)
                    } else {
                        let digit = |c: &char| c.to_digit(10).map(|digit| digit as usize);
                        let mut group = chars.next().as_ref().and_then(digit).ok_or_else(|| {
                            format!("has a $ without a group's number in '{text}'; write \\$ for the sign")
                        })?;
                        if group >= groups {
                            return Err(format!("refers to group {group}, but the regex has {}", groups - 1));
                        }
                        // Java takes as many digits as still name a group.
                        while let Some(next) = chars.peek().and_then(digit).map(|digit| group * 10 + digit) {
                            if next >= groups {
                                break;
                            }
                            group = next;
                            chars.next();
                        }
                        Part::Group(group)
                    };
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(part);
                }
                c => literal.push(c),
            }
        }
        parts.push(Part::Text(literal));
        Ok(Self(parts))
    }

    fn expand(&self, captures: &Captures<'_>, out: &mut String) {
        for part in &self.0 {
            out.push_str(match part {
                Part::Text(text) => text,
                Part::Group(group) => captures.get(*group).map_or("", |group| group.as_str()),
                Part::Named(name) => captures.name(name).map_or("", |group| group.as_str()),
            });
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(&translate(pattern)).map_err(|error| {
        let text = error.to_string();
        if text.contains("look-around") || text.contains("backreferences") {
            let feature = if text.contains("look-around") { "lookahead or lookbehind" } else { "a backreference" };
            format!("uses {feature}, which regexes here can't do (they never take more than linear time): '{pattern}'")
        } else {
            // The last line says what is wrong; those before draw the place in several lines.
            let reason = text.lines().last().unwrap_or_default();
            format!("must be a regular expression, found '{pattern}': {}", reason.trim_start_matches("error: "))
        }
    })
}

/// Spells out what Java means by a class letter (ASCII only) and by `\Q..\E`.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[a-zA-Z0-9_]"),
            Some('W') => out.push_str("[^a-zA-Z0-9_]"),
            Some('s') => out.push_str(r"[ \t\n\x0B\f\r]"),
            Some('S') => out.push_str(r"[^ \t\n\x0B\f\r]"),
            Some('Q') => {
                let rest = chars.as_str();
                let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
                out.push_str(&regex::escape(quoted));
                chars = rest.chars();
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(regex: &str, replacement: &str, text: &str) -> Option<String> {
        let regex = JavaRegex::parse(regex).unwrap();
        regex.replace_whole(text, &Replacement::parse(replacement, &regex).unwrap())
    }

    #[test]
    fn the_whole_text_must_match_and_groups_are_filled_in() {
        assert_eq!(replaced("(.*)-(.*)", "$2_$1", "a-b").as_deref(), Some("b_a"));
        assert_eq!(replaced("a", "x", "ab"), None);
        assert_eq!(replaced("(?<name>.*)", r"${name}\$1", "t").as_deref(), Some("t$1"));
        assert_eq!(replaced("(.*)", "$12", "t").as_deref(), Some("t2"));
        assert_eq!(replaced("(a)|(b)", "[$2]", "a").as_deref(), Some("[]"));
    }

    #[test]
    fn java_searches_again_after_it_matched() {
        assert_eq!(replaced("a|ab", "x", "ab").as_deref(), Some("xb"));
    }

    #[test]
    fn classes_are_ascii_and_quoting_works() {
        assert_eq!(replaced(r"\d+", "n", "١٢"), None);
        assert_eq!(replaced(r"[\d.]+", "n", "1.2").as_deref(), Some("n"));
        assert_eq!(replaced(r"\Qa.b\E", "n", "a.b").as_deref(), Some("n"));
        assert_eq!(replaced(r"\Qa.b\E", "n", "axb"), None);
    }

    #[test]
    fn what_the_engine_cannot_do_is_said_so() {
        assert_eq!(
            WholeRegex::parse("(?!x).*").unwrap_err(),
            "uses lookahead or lookbehind, which regexes here can't do (they never take more than linear time): '(?!x).*'"
        );
        assert_eq!(
            WholeRegex::parse(r"(a)\1").unwrap_err(),
            r"uses a backreference, which regexes here can't do (they never take more than linear time): '(a)\1'"
        );
        assert_eq!(WholeRegex::parse("(a").unwrap_err(), "must be a regular expression, found '(a': unclosed group");
        let regex = JavaRegex::parse("(a)").unwrap();
        assert_eq!(Replacement::parse("$2", &regex).unwrap_err(), "refers to group 2, but the regex has 1");
    }
}
