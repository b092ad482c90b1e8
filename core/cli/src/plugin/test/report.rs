//! What a test says: a line for each rule as it ends, and a summary.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use ottla_testkit::rule::{Rule, kept};
use serde_json::{Value, json};

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What there is to say of how it was checked; mostly nothing.
    Kept(String),
    /// The words of the check that failed.
    Broken(String),
    /// Why it was not checked, and what to write to have it checked.
    LeftOut(String),
}

/// One rule, done.
#[derive(Debug)]
struct Line {
    plugin: String,
    rule: &'static str,
    promise: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// All rules so far. Prints each as it ends.
#[derive(Debug)]
pub(super) struct Report {
    lines: Vec<Line>,
    /// Parts of the names of the rules that are wanted; none: all are.
    only: Vec<String>,
    /// Whose rules come now.
    plugin: String,
    plugins: usize,
    /// Rules that are left out for one reason, not printed yet.
    left_out: Vec<String>,
    json: bool,
    began: Instant,
}

impl Report {
    pub(super) fn new(only: Vec<String>, json: bool) -> Self {
        Self {
            lines: Vec::new(),
            only,
            plugin: String::new(),
            plugins: 0,
            left_out: Vec::new(),
            json,
            began: Instant::now(),
        }
    }

    /// The rules of another plugin come.
    pub(super) fn begin(&mut self, plugin: &str, about: &str) {
        self.print_left_out();
        self.plugin = plugin.to_owned();
        self.plugins += 1;
        let gap = if self.plugins > 1 { "\n" } else { "" };
        self.print(&format!("{gap}{plugin} ({about})\n"));
    }

    /// Runs a check, and goes on whatever becomes of it.
    pub(super) async fn check(&mut self, rule: &Rule, check: impl Future<Output = ()>) {
        self.check_with(rule, check, String::new).await;
    }

    /// The same, with something to add to the words of a failure.
    pub(super) async fn check_with(
        &mut self,
        rule: &Rule,
        check: impl Future<Output = ()>,
        add: impl FnOnce() -> String,
    ) {
        let check = async {
            check.await;
            String::new()
        };
        self.run(rule, check, add).await;
    }

    /// The same, for a check that tells how it was done.
    pub(super) async fn check_telling(&mut self, rule: &Rule, check: impl Future<Output = String>) {
        self.run(rule, check, String::new).await;
    }

    async fn run(&mut self, rule: &Rule, check: impl Future<Output = String>, add: impl FnOnce() -> String) {
        if !self.wants(rule) {
            return;
        }
        let began = Instant::now();
        let how = std::cell::RefCell::default();
        let check = async {
            let told = check.await;
            *how.borrow_mut() = told;
        };
        let outcome = match kept(check).await {
            Ok(()) => Outcome::Kept(how.take()),
            Err(words) => Outcome::Broken(words + &add()),
        };
        self.add(rule, outcome, began.elapsed());
    }

    /// Says that a rule is not checked, and why.
    pub(super) fn leave_out(&mut self, rule: &Rule, why: &str) {
        if self.wants(rule) {
            self.add(rule, Outcome::LeftOut(why.to_owned()), Duration::ZERO);
        }
    }

    pub(super) fn wants(&self, rule: &Rule) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| rule.name.contains(part.as_str()))
    }

    fn add(&mut self, rule: &Rule, outcome: Outcome, took: Duration) {
        let time = format!("{:.1} s", took.as_secs_f64());
        let name = rule.name.replace('_', " ");
        let text = match &outcome {
            Outcome::Kept(how) if how.is_empty() => format!("  ok       {time:>8}  {name}\n"),
            Outcome::Kept(how) => format!("  ok       {time:>8}  {name}: {how}\n"),
            Outcome::Broken(words) => {
                let words = words.trim_end().replace('\n', "\n                      ");
                format!("  FAILED   {time:>8}  {name}: {}\n                      {words}\n", rule.promise)
            }
            Outcome::LeftOut(_) => String::new(),
        };
        let last = self.lines.last().filter(|last| last.plugin == self.plugin).map(|last| &last.outcome);
        if last != Some(&outcome) {
            self.print_left_out();
        }
        match outcome {
            Outcome::LeftOut(_) => self.left_out.push(name),
            _ => self.print(&text),
        }
        let (rule, promise) = (rule.name, rule.promise);
        self.lines.push(Line { plugin: self.plugin.clone(), rule, promise, outcome, took });
    }

    /// Prints in one line the rules that were left out for the same reason, the last ones that there are.
    fn print_left_out(&mut self) {
        let names = std::mem::take(&mut self.left_out);
        if let Some(Line { outcome: Outcome::LeftOut(why), .. }) = self.lines.last().filter(|_| !names.is_empty()) {
            self.print(&format!("  left out           {}: {why}\n", names.join(", ")));
        }
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.lines.iter().filter(|line| is(&line.outcome)).count()
    }

    /// True where no rule was broken.
    pub(super) fn is_good(&self) -> bool {
        self.count(|outcome| matches!(outcome, Outcome::Broken(_))) == 0
    }

    /// True where no rule was wanted.
    pub(super) fn knows_no_rule(&self) -> bool {
        self.lines.is_empty()
    }

    /// True where nothing was checked.
    pub(super) fn is_empty(&self) -> bool {
        self.count(|outcome| !matches!(outcome, Outcome::LeftOut(_))) == 0
    }

    /// Prints the end.
    pub(super) fn end(&mut self) {
        self.print_left_out();
        let failed = self.count(|outcome| matches!(outcome, Outcome::Broken(_)));
        let kept = self.count(|outcome| matches!(outcome, Outcome::Kept(_)));
        let left_out = self.lines.len() - failed - kept;
        let took = self.began.elapsed().as_secs_f64();
        if !self.json {
            let plugins = if self.plugins == 1 { "plugin" } else { "plugins" };
            self.print(&format!(
                "\n{} {plugins}: {kept} rules ok, {failed} failed, {left_out} left out, in {took:.1} s\n",
                self.plugins
            ));
            return;
        }
        let rules = self.lines.iter().map(|line| {
            let (outcome, words) = match &line.outcome {
                Outcome::Kept(how) => ("ok", Some(how).filter(|how| !how.is_empty())),
                Outcome::Broken(words) => ("failed", Some(words)),
                Outcome::LeftOut(why) => ("left out", Some(why)),
            };
            json!({
                "plugin": line.plugin, "rule": line.rule, "promise": line.promise, "outcome": outcome,
                "words": words, "seconds": line.took.as_secs_f64(),
            })
        });
        let whole = json!({
            "rules": rules.collect::<Vec<Value>>(), "ok": kept, "failed": failed, "left_out": left_out, "seconds": took,
        });
        let _ = writeln!(std::io::stdout().lock(), "{whole:#}");
    }

    /// A reader that has seen enough (`| head`) is no failure.
    fn print(&self, text: &str) {
        if self.json {
            return;
        }
        let mut out = std::io::stdout().lock();
        let red = out.is_terminal() && text.starts_with("  FAILED");
        let _ = if red { write!(out, "\x1b[31m{text}\x1b[0m") } else { write!(out, "{text}") };
        let _ = out.flush();
    }
}
