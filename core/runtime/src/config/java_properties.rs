//! The syntax of `.properties` files, as `java.util.Properties` reads it (but always as UTF-8).

/// A key and its value, with the line where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// What a file holds, and what about it is wrong or suspicious (line and message).
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) properties: Vec<Property>,
    pub(crate) errors: Vec<(usize, String)>,
    pub(crate) warnings: Vec<(usize, String)>,
}

/// Reads a file. Comments begin with `#` or `!`; `=`, `:` or a blank ends a key; a backslash at the end continues the line.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    // A lone carriage return ends a line too.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.split('\n').zip(1..);
    while let Some((first, line)) = lines.next() {
        let first = first.trim_start_matches(BLANKS);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((next, _)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANKS));
        }
        let (key, value) = split(&logical);
        let mistakes = parsed.errors.len();
        let property =
            Property { key: unescape(key, line, &mut parsed), value: unescape(value, line, &mut parsed), line };
        if parsed.errors.len() == mistakes {
            parsed.properties.push(property);
        }
    }
    parsed
}

const BLANKS: [char; 3] = [' ', '\t', '\x0c'];

/// True where an odd number of backslashes ends the line.
fn continues(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

/// The key and the value, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (BLANKS.contains(&c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some(end) = end else { return (line, "") };
    let rest = line[end..].trim_start_matches(BLANKS);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(BLANKS))
}

fn unescape(text: &str, line: usize, parsed: &mut Parsed) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut units = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escape = if c == '\\' { chars.next() } else { None };
        if escape == Some('u') {
            let digits = chars.as_str().get(..4).unwrap_or_default();
            match u16::from_str_radix(digits, 16) {
                Ok(unit) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    units.push(unit);
                    chars = chars.as_str()[4..].chars();
                }
                _ => parsed.errors.push((line, "malformed \\uxxxx: four hexadecimal digits must follow".to_owned())),
            }
            continue;
        }
        // Escapes are UTF-16: two of them in a row may be one character.
        flush(&mut units, &mut plain);
        plain.push(match (c, escape) {
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('f')) => '\x0c',
            ('\\', Some(other)) => {
                if !"\\=:#! \"'".contains(other) {
                    parsed.warnings.push((
                        line,
                        format!("'\\{other}' is read as '{other}'; write '\\\\{other}' to keep the backslash"),
                    ));
                }
                other
            }
            (c, _) => c,
        });
    }
    flush(&mut units, &mut plain);
    plain
}

fn flush(units: &mut Vec<u16>, plain: &mut String) {
    plain.push_str(&String::from_utf16_lossy(units));
    units.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, usize)> {
        parse(text).properties.into_iter().map(|found| (found.key, found.value, found.line)).collect()
    }

    fn one(key: &str, value: &str, line: usize) -> Vec<(String, String, usize)> {
        vec![(key.to_owned(), value.to_owned(), line)]
    }

    #[test]
    fn equals_colon_and_blank_end_a_key() {
        for text in ["a=b", "a:b", "a b", "  a  =  b", "a\t:\tb", "a=b\r\n", "a=b\r# c"] {
            assert_eq!(read(text), one("a", "b", 1), "{text:?}");
        }
        assert_eq!(read("a==b"), one("a", "=b", 1));
        assert_eq!(read("a = b : c "), one("a", "b : c ", 1));
        assert_eq!(read("a"), one("a", "", 1));
    }

    #[test]
    fn comments_and_empty_lines_do_not_count_and_a_comment_never_continues() {
        assert_eq!(read("# c \\\n! d\n\n   \n a=b"), one("a", "b", 5));
    }

    #[test]
    fn a_backslash_at_the_end_continues_the_line() {
        assert_eq!(
            read("topics=a,\\\n       b,\\\n  # c\nd=e"),
            [("topics".to_owned(), "a,b,# c".to_owned(), 1), ("d".to_owned(), "e".to_owned(), 4)]
        );
        assert_eq!(read("a=b\\\\\nc=d")[0].1, "b\\");
        assert_eq!(read("a=b\\"), one("a", "b", 1));
    }

    #[test]
    fn escapes_are_those_of_java() {
        assert_eq!(read(r"a\ b\:\=c=\t\u0041\uD83D\uDE00\\.\q"), one("a b:=c", "\tA😀\\.q", 1));
        assert_eq!(
            parse("a=\\u00g1").errors,
            [(1, "malformed \\uxxxx: four hexadecimal digits must follow".to_owned())]
        );
        assert_eq!(
            parse("\n\na=x\\.y").warnings,
            [(3, r"'\.' is read as '.'; write '\\.' to keep the backslash".to_owned())]
        );
    }
}
