//! What starts the batch leg every day, as it lies in `examples/pinterest/airflow`: Airflow's DAG, cron's line, systemd's units.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ottla_tests::config;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::Posts;
use ottla_tests::store::{S3, folder_objects};
use ottla_tests::worker::Ottla;
use ottla_tests::{services, temp_dir, unique};

/// The day of the run, which names the folder of its answers.
const DAY: &str = "2026-01-01";
const UID: &str = "0a4e65e909bd";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An Airflow of its own for one test: home, database and the DAG, with pauses between tries that a test can wait for.
struct Airflow {
    program: PathBuf,
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Airflow {
    /// None, after saying so, where this machine's Python can't run Airflow.
    fn new(test: &str) -> Option<Self> {
        let program = services::airflow(test)?;
        let folder = temp_dir();
        let dags = folder.path().join("dags");
        std::fs::create_dir(&dags).expect("a folder for the DAG");
        let dag = read(&example("airflow/pinterest_batch.py"));
        let quick = dag.replace("datetime.timedelta(minutes=2)", "datetime.timedelta(seconds=1)");
        assert_ne!(quick, dag, "the DAG waits two minutes between tries");
        config::write(&dags, "pinterest_batch.py", quick);
        let airflow = Self { program, folder, variables: Vec::new() };
        let airflow = airflow.variable("bin", services::binary()).variable("home", example(""));
        let migrated = airflow.command(&["db", "migrate"]);
        assert!(migrated.status.success(), "{}", said(&migrated));
        Some(airflow)
    }

    /// A Variable of the DAG, `ottla_<name>`.
    fn variable(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let name = format!("AIRFLOW_VAR_OTTLA_{}", name.to_uppercase());
        self.variables.push((name, value.as_ref().display().to_string()));
        self
    }

    /// `airflow ARGS`. Everything it writes lies in its folder.
    fn command(&self, args: &[&str]) -> Output {
        let (key, secret) = services::s3_credentials();
        Command::new(&self.program)
            .args(args)
            .stdin(Stdio::null())
            .env("AIRFLOW_HOME", self.folder.path())
            .env("AIRFLOW__CORE__DAGS_FOLDER", self.folder.path().join("dags"))
            .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("AWS_ACCESS_KEY_ID", key)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }

    /// Runs the whole DAG for [`DAY`], with its tries.
    fn run(&self) -> Output {
        self.command(&["dags", "test", "pinterest_batch", DAY])
    }

    /// The folder of state, lake and answers.
    fn work(&self) -> PathBuf {
        self.folder.path().join("ottla")
    }
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Files of a folder with their content.
fn files(folder: &Path) -> Vec<(String, String)> {
    let objects = folder_objects(folder);
    objects.iter().map(|object| (object.key.clone(), object.text().to_owned())).collect()
}

/// The answers as they come when a person asks for them.
fn asked_by_hand(work: &Path) -> Vec<(String, String)> {
    let mut questions: Vec<PathBuf> = std::fs::read_dir(example("questions"))
        .expect("the questions lie beside the DAG")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()))
        .filter(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"0")))
        .collect();
    questions.sort();
    let ask = |question: &PathBuf| {
        let mut query = Ottla::new(["query"]).in_dir(work);
        for table in ["pin", "geo", "user"] {
            query = query.arg("--table").arg(format!("{table}=ottla-lake/posts/cleaned/{UID}.{table}"));
        }
        for file in [&example("questions/0-tables.sql"), question] {
            query = query.arg("-f").arg(file.display().to_string());
        }
        let query = query.arg("--format").arg("csv");
        let name = question.file_stem().expect("a name").to_string_lossy();
        (format!("{name}.csv"), query.finish(ottla_tests::wait::SOON).exits_with(0).stdout)
    };
    questions.iter().map(ask).collect()
}

#[test]
fn the_dag_runs_the_batch_leg_and_then_asks_the_ten_questions() {
    let Some(airflow) = Airflow::new("the_dag_runs_the_batch_leg_and_then_asks_the_ten_questions") else { return };
    let first = airflow.run();
    assert!(first.status.success(), "{}", said(&first));

    let work = airflow.work();
    let mut oracle = Oracle::in_dir("topics");
    Posts::emulated().issue(&mut oracle, UID, 1000);
    oracle.assert(&folder_objects(&work.join("ottla-lake/posts")), &said(&first));
    let answers = files(&work.join("answers").join(DAY));
    assert!(answers.len() >= 10, "ten questions have {} answers; {}", answers.len(), said(&first));
    assert_eq!(answers, asked_by_hand(&work));

    // Once more, as after a task was cleared: nothing moves, and the answers are the same.
    let lake = files(&work.join("ottla-lake"));
    let second = airflow.run();
    assert!(second.status.success(), "{}", said(&second));
    assert_eq!(files(&work.join("ottla-lake")), lake);
    assert_eq!(files(&work.join("answers").join(DAY)), answers);
    let left = std::fs::read_dir(work.join("answers")).expect("answers").count();
    assert_eq!(left, 1, "nothing half done lies beside the answers of the day");
}

#[test]
fn a_batch_that_fails_is_tried_again_and_fails_the_dag_until_its_cause_is_gone() {
    let test = "a_batch_that_fails_is_tried_again_and_fails_the_dag_until_its_cause_is_gone";
    let Some(airflow) = Airflow::new(test) else { return };
    let bucket = unique("not-made-yet");
    let text = read(&example("batch.toml"))
        .replace("\"file:./ottla-lake\"", &format!("\"{}\"", services::s3()))
        .replace("s3.bucket.name = \"posts\"", &format!("s3.bucket.name = \"{bucket}\""));
    let pipeline = config::write(airflow.folder.path(), "batch.toml", text);
    config::write(airflow.folder.path(), "cleaning.toml", read(&example("cleaning.toml")));
    // The program, behind a script that notes every start of it.
    let starts = airflow.folder.path().join("starts");
    let counting =
        format!("#!/bin/sh\necho start >> '{}'\nexec '{}' \"$@\"\n", starts.display(), services::binary().display());
    let counting = config::write(airflow.folder.path(), "counting", counting);
    std::fs::set_permissions(&counting, std::fs::Permissions::from_mode(0o755))
        .expect("the script can be made a program");
    let airflow = airflow.variable("pipeline", pipeline).variable("bin", counting);

    let failed = airflow.run();
    let log = said(&failed);
    assert!(!failed.status.success(), "{log}");
    let told = format!("bucket '{bucket}' does not exist");
    assert!(log.contains(&told), "{log}");
    assert_eq!(read(&starts), "start\n".repeat(4), "a first try and three more; {log}");
    assert!(!airflow.work().join("answers").join(DAY).exists(), "no answers without a batch");

    // The bucket is made, and the same day is run again.
    let s3 = S3::connect();
    s3.make_bucket(&bucket);
    let mended = airflow.command(&["tasks", "test", "pinterest_batch", "batch", DAY]);
    assert!(mended.status.success(), "{}", said(&mended));
    let mut oracle = Oracle::in_dir("topics");
    Posts::emulated().issue(&mut oracle, UID, 1000);
    oracle.assert(&s3.objects(&bucket), &said(&mended));
}

/// The one command of the crontab, with the settings above it.
fn cron_line() -> (Vec<(String, String)>, String) {
    let text = read(&example("airflow/crontab"));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (commands, settings): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let [command] = commands[..] else { panic!("one command, not {commands:?}") };
    // Five fields say when; the rest is the command, up to a `%`, which cron would take for the end of it.
    assert!(!command.contains('%'), "{command}");
    let command = command.splitn(6, ' ').nth(5).unwrap_or_else(|| panic!("five fields before a command: {command}"));
    let settings = settings.iter().map(|line| line.split_once('=').expect("NAME=VALUE"));
    (settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), command.trim().to_owned())
}

/// Starts the line as cron does: with `/bin/sh`, and with next to nothing in its environment.
fn as_cron_runs_it(work: &Path, pipeline: &Path) -> Command {
    let (settings, line) = cron_line();
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", work).current_dir("/");
    command.envs(settings).env("OTTLA", services::binary()).env("PIPELINE", pipeline).env("WORK", work);
    command.stdin(Stdio::null());
    command
}

#[test]
fn the_line_for_cron_runs_the_batch_leg_in_silence() {
    let folder = temp_dir();
    let ended = as_cron_runs_it(folder.path(), &example("batch.toml")).output().expect("sh starts");
    // What it prints, cron would mail.
    assert_eq!(
        (ended.status.code(), said(&ended).as_str()),
        (Some(0), "\n"),
        "{}",
        read(&folder.path().join("batch.log"))
    );
    let mut oracle = Oracle::in_dir("topics");
    Posts::emulated().issue(&mut oracle, UID, 1000);
    oracle.assert(&folder_objects(&folder.path().join("ottla-lake/posts")), &read(&folder.path().join("batch.log")));
}

#[test]
fn the_line_for_cron_prints_the_end_of_the_log_when_the_run_fails() {
    let folder = temp_dir();
    let missing = folder.path().join("missing.toml");
    let ended = as_cron_runs_it(folder.path(), &missing).output().expect("sh starts");
    assert_eq!(ended.status.code(), Some(2), "{}", said(&ended));
    assert!(
        said(&ended).contains("missing.toml") && said(&ended).contains("ottla ended with exit code 2"),
        "{}",
        said(&ended)
    );
}

#[test]
fn the_line_for_cron_leaves_a_run_alone_that_is_still_going() {
    let folder = temp_dir();
    // Somebody holds the lock, as a run of yesterday would.
    let lock = std::fs::File::create(folder.path().join("batch.lock")).expect("a lock file");
    lock.lock().expect("the lock is free");
    let ended = as_cron_runs_it(folder.path(), &example("batch.toml")).output().expect("sh starts");
    assert_eq!((ended.status.code(), said(&ended).as_str()), (Some(0), "\n"));
    assert!(!folder.path().join("ottla-lake").exists(), "nothing ran");
}

#[test]
fn systemd_accepts_the_units() {
    let present = Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success());
    if !present {
        eprintln!("SKIPPED systemd_accepts_the_units: there is no systemd-analyze here");
        return;
    }
    let folder = temp_dir();
    for name in ["ottla-batch.service", "ottla-batch.timer", "ottla-streaming.service"] {
        // The program must be there, so that the rest is looked at.
        let unit = read(&example("airflow").join(name));
        let installed = unit.replace("/usr/local/bin/ottla", &services::binary().display().to_string());
        config::write(folder.path(), name, installed);
    }
    for name in ["ottla-batch.service", "ottla-batch.timer", "ottla-streaming.service"] {
        let verified = Command::new("systemd-analyze").arg("verify").arg(folder.path().join(name)).output();
        let verified = verified.expect("systemd-analyze starts");
        let about_ours: Vec<String> =
            said(&verified).lines().filter(|line| line.contains("ottla")).map(str::to_owned).collect();
        assert_eq!((verified.status.code(), about_ours), (Some(0), vec![]), "{name}: {}", said(&verified));
    }
}
