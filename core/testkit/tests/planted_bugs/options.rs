//! Options, right or with one bug.

use std::fmt;

use ottla_api::config::Reader;
use ottla_api::prelude::*;
use ottla_testkit::config_suite::OptionsSuite;

use crate::{Planted, every_bug_is_found};

/// Options without a mistake.
#[derive(Debug, Config)]
pub(crate) struct Right {
    /// Where the database is.
    #[config(name = "url", aliases = "old.url")]
    _url: String,
    /// Its password.
    #[config(name = "password")]
    password: Option<Secret>,
    /// How many there are at most.
    #[config(name = "n", default = "5", min = 1)]
    _n: usize,
}

/// Two options of one name.
#[derive(Debug, Config)]
struct SameName {
    /// Where the database is.
    #[config(name = "url")]
    _url: String,
    /// Where the other one is.
    #[config(name = "other", aliases = "url")]
    _other: Option<String>,
}

/// An option that nobody explains.
#[derive(Debug, Config)]
struct NotExplained {
    /// url
    #[config(name = "url")]
    _url: String,
}

/// A default out of bounds.
#[derive(Debug, Config)]
struct WrongDefault {
    /// Where the database is.
    #[config(name = "url")]
    _url: String,
    /// How many there are at most.
    #[config(name = "n", default = "0", min = 1)]
    _n: usize,
}

/// A secret that is none.
#[derive(Debug, Config)]
struct OpenPassword {
    /// Where the database is.
    #[config(name = "url")]
    _url: String,
    /// The password of the database.
    #[config(name = "db.password")]
    _password: Option<String>,
}

/// Options whose definition or form does not say what their reader does.
struct Differs<const BUG: u8>(Right);

const REQUIRED: u8 = 1;
const TYPED: u8 = 2;
const SHOWN: u8 = 3;
const DEFAULT: u8 = 4;

impl<const BUG: u8> Config for Differs<BUG> {
    fn definition() -> ConfigDef {
        let mut definition = Right::definition();
        for option in &mut definition.keys {
            match (BUG, option.display_name().as_str()) {
                (REQUIRED, "password") => option.required = true,
                (TYPED, "url") => option.type_name = "int".into(),
                (DEFAULT, "n") => option.default = Some("6".into()),
                _ => {}
            }
        }
        definition
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Right::read(reader).map(Self)
    }
}

impl<const BUG: u8> fmt::Debug for Differs<BUG> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.0.password.as_ref().map(Secret::expose);
        if BUG == SHOWN { write!(f, "{password:?}") } else { write!(f, "{:?}", self.0) }
    }
}

fn check<C: Config + fmt::Debug>(rule: &str) {
    OptionsSuite::<C>::new(Properties::from_iter([("url", "x")])).check(rule);
}

fn check_with_a_misspelt_key(rule: &str) {
    OptionsSuite::<Right>::new(Properties::from_iter([("url", "x"), ("pasword", "y")])).check(rule);
}

type Check = fn(&str);

const BUGS: &[Planted<Check>] = &[
    ("names_are_unique", check::<SameName>, "two options are called url"),
    ("every_option_is_documented", check::<NotExplained>, "url: its documentation is no sentence"),
    ("the_example_is_valid", check_with_a_misspelt_key, "the example sets pasword, which is no option"),
    ("defaults_are_what_leaving_out_means", check::<WrongDefault>, "n: must be at least 1, found 0"),
    (
        "defaults_are_what_leaving_out_means",
        check::<Differs<DEFAULT>>,
        "n: its default is not what leaving it out means",
    ),
    ("required_options_are_asked_for", check::<Differs<REQUIRED>>, "password is required, but may be left out"),
    ("secrets_are_hidden", check::<OpenPassword>, "db.password sounds like a secret, but would be shown"),
    ("secrets_are_hidden", check::<Differs<SHOWN>>, "password is a secret, but it is shown"),
    ("mistakes_are_named", check::<Differs<TYPED>>, "url takes any text"),
];

#[tokio::test]
async fn every_rule_for_options_finds_its_bug() {
    let rules = OptionsSuite::<Right>::RULES;
    every_bug_is_found(rules, BUGS, check::<Right> as Check, async |check, rule| check(rule)).await;
}
