//! The files of a new crate: templates that are a crate called `my-plugin` already, with the name put in.

use std::path::Path;

/// Path and text of each file.
pub(crate) type Files = &'static [(&'static str, &'static str)];

/// A crate of one kind.
#[derive(Debug)]
pub(crate) struct Template {
    /// The kind in a word.
    pub(crate) what: &'static str,
    /// The file in which its author begins.
    pub(crate) begin: &'static str,
    /// Lines of `[dependencies]`.
    dependencies: &'static str,
    /// Lines of `[dev-dependencies]`.
    dev_dependencies: &'static str,
    files: Files,
}

impl Template {
    /// The files of a crate of this name, which compiles against the SDK at this place.
    pub(crate) fn crate_of(&self, name: &str, sdk: &Path) -> Vec<(&'static str, String)> {
        let text = |text: &str| {
            let text = text.replace("{{dependencies}}", self.dependencies);
            fill(&text.replace("{{dev-dependencies}}", self.dev_dependencies), name, sdk)
        };
        COMMON.iter().chain(self.files).map(|(path, template)| (*path, text(template))).collect()
    }
}

/// The files of one template; those of `common` are of every kind.
macro_rules! files {
    ($($path:literal = $template:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../templates/", $template)))),*]
    };
}

/// What every crate has.
const COMMON: Files = files! {
    "Cargo.toml" = "common/Cargo.toml.template",
    ".gitignore" = "common/gitignore.template",
    ".rustfmt.toml" = "common/rustfmt.toml",
    ".github/workflows/ci.yml" = "common/ci.yml",
};

pub(crate) const SINK: Template = Template {
    what: "sink",
    begin: "src/line.rs",
    dependencies: r#"async-trait = "0.1"
ottla-api = { path = "{{sdk}}/core/api", features = ["plugin"] }
tokio = { version = "1", features = ["fs", "io-util"] }"#,
    dev_dependencies: r#"ottla-testkit = { path = "{{sdk}}/core/testkit" }
tempfile = "3"
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }"#,
    files: files! {
        "README.md" = "sink/README.md",
        "src/lib.rs" = "sink/src/lib.rs",
        "src/config.rs" = "sink/src/config.rs",
        "src/line.rs" = "sink/src/line.rs",
        "src/sink.rs" = "sink/src/sink.rs",
        "src/folder.rs" = "sink/src/folder.rs",
        "tests/conformance.rs" = "sink/tests/conformance.rs",
        "conformance.toml" = "sink/conformance.toml",
        "example.toml" = "sink/example.toml",
        "example/records.jsonl" = "sink/example/records.jsonl",
    },
};

pub(crate) const SOURCE: Template = Template {
    what: "source",
    begin: "src/record.rs",
    dependencies: r#"async-trait = "0.1"
ottla-api = { path = "{{sdk}}/core/api", features = ["plugin"] }
tokio = { version = "1", features = ["fs", "time"] }"#,
    dev_dependencies: r#"ottla-testkit = { path = "{{sdk}}/core/testkit" }
tempfile = "3"
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }"#,
    files: files! {
        "README.md" = "source/README.md",
        "src/lib.rs" = "source/src/lib.rs",
        "src/config.rs" = "source/src/config.rs",
        "src/record.rs" = "source/src/record.rs",
        "src/source.rs" = "source/src/source.rs",
        "src/folder.rs" = "source/src/folder.rs",
        "tests/conformance.rs" = "source/tests/conformance.rs",
        "conformance.toml" = "source/conformance.toml",
        "example.toml" = "source/example.toml",
        "example/inbox/1.jsonl" = "source/example/inbox/1.jsonl",
    },
};

pub(crate) const TRANSFORM: Template = Template {
    what: "transformation",
    begin: "src/transform.rs",
    dependencies: r#"ottla-api = { path = "{{sdk}}/core/api", features = ["plugin"] }"#,
    dev_dependencies: r#"ottla-testkit = { path = "{{sdk}}/core/testkit" }"#,
    files: files! {
        "README.md" = "transform/README.md",
        "src/lib.rs" = "transform/src/lib.rs",
        "src/config.rs" = "transform/src/config.rs",
        "src/transform.rs" = "transform/src/transform.rs",
        "tests/conformance.rs" = "transform/tests/conformance.rs",
        "conformance.toml" = "transform/conformance.toml",
        "example.toml" = "transform/example.toml",
        "example/records.jsonl" = "transform/example/records.jsonl",
    },
};

/// A text of a template with the crate's name in every form it takes, and the SDK's place.
fn fill(text: &str, name: &str, sdk: &Path) -> String {
    // The longest forms first would matter if one held another; these three don't.
    text.replace("my-plugin", name)
        .replace("my_plugin", &name.replace('-', "_"))
        .replace("MyPlugin", &camel_case(name))
        .replace("{{sdk}}", &sdk.display().to_string())
}

/// `my-sink` as a type: `MySink`.
fn camel_case(name: &str) -> String {
    let part = |part: &str| part[..1].to_uppercase() + &part[1..];
    name.split('-').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_takes_each_of_its_forms() {
        let text = "my-plugin libmy_plugin.so MyPluginConfig {{sdk}}/core/api";
        let filled = fill(text, "my-2nd-sink", Path::new("ottla-sdk"));
        assert_eq!(filled, "my-2nd-sink libmy_2nd_sink.so My2ndSinkConfig ottla-sdk/core/api");
    }

    /// A file that lies among the templates and is in no list would be missing in every new crate.
    #[test]
    fn every_template_is_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let mut found = Vec::new();
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(std::fs::read_to_string(path).unwrap()) }
            }
        }
        let mut listed: Vec<&str> =
            [COMMON, SINK.files, SOURCE.files, TRANSFORM.files].concat().iter().map(|(_, text)| *text).collect();
        listed.sort_unstable();
        found.sort_unstable();
        assert!(listed == found, "{} files are listed, {} are there", listed.len(), found.len());
    }
}
