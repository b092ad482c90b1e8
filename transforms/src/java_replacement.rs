//! Java's replacement of what a regular expression matches.

use std::borrow::Cow;

use ottla_api::config::ConfigValue;
use ottla_api::config::java_regex::{WholeRegex, compile};
use regex::{Captures, Regex};

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
    fn a_replacement_of_a_group_that_the_regex_lacks_is_refused() {
        let regex = JavaRegex::parse("(a)").unwrap();
        assert_eq!(Replacement::parse("$2", &regex).unwrap_err(), "refers to group 2, but the regex has 1");
    }
}
