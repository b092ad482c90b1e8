//! The state folder: full, gone, or somebody else's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::Posts;
use ottla_tests::store::folder_objects;
use ottla_tests::temp_dir;
use ottla_tests::wait::SOON;
use ottla_tests::worker::Ottla;

const RUN: Duration = Duration::from_secs(120);

fn pipeline(folder: &Path, state: &Path, rounds: usize, flush_size: usize) -> PathBuf {
    let store = format!("file:{}", folder.join("lake").display());
    let text = config::worker("embedded", state)
        + &config::posts("demo", rounds)
        + &config::sink("s3", &config::posts_regex("demo"), &store, "posts", flush_size);
    config::write(folder, "pipeline.toml", text)
}

#[test]
fn a_second_worker_on_the_same_folder_is_refused() {
    let folder = temp_dir();
    let state = folder.path().join("state");
    let file = pipeline(folder.path(), &state, 5, 1);
    let mut first = Ottla::run([&file]).start();
    first.wait_until("the first worker's objects", SOON, |_| {
        let count = folder_objects(&folder.path().join("lake/posts")).len();
        if count == 15 { Ok(()) } else { Err(format!("{count} objects")) }
    });
    let second = Ottla::run([&file]).finish(RUN);
    println!("{}", second.report());
    assert!(second.code.is_some_and(|code| code != 0), "{}", second.report());
    let second = second.says(&state.display().to_string());
    assert!(second.stderr.contains("in use") || second.stderr.contains("another"), "{}", second.report());
    // The first one goes on, and a third may start when it is gone.
    assert!(first.is_running());
    first.stop().exits_with(0);
    Ottla::run([&file]).until_caught_up().finish(RUN).exits_with(0);
}

#[test]
fn a_killed_worker_leaves_no_lock_behind() {
    let folder = temp_dir();
    let file = pipeline(folder.path(), &folder.path().join("state"), 5, 1);
    let mut first = Ottla::run([&file]).start();
    first.wait_until("an object", SOON, |_| {
        if folder_objects(&folder.path().join("lake/posts")).is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });
    first.kill_9();
    Ottla::run([&file]).until_caught_up().finish(RUN).exits_with(0);
}

#[test]
fn objects_of_other_records_stop_the_task_when_the_state_was_deleted() {
    let folder = temp_dir();
    let state = folder.path().join("state");
    let file = pipeline(folder.path(), &state, 20, 7);
    Ottla::run([&file]).until_caught_up().finish(RUN).exits_with(0);
    let before = folder_objects(&folder.path().join("lake/posts"));
    std::fs::remove_dir_all(&state).expect("the state folder is there");

    // The topics begin anew with other posts, while the objects of the old ones stay.
    let run = Ottla::run([&file]).set("connectors.posts.emulate.seed", 7).until_caught_up();
    let finished = run.finish(RUN).exits_with(1);
    println!("{}", finished.report());
    let object = format!("+0+{:010}.json", 0);
    assert!(finished.stdout.contains(&object), "the object is not named; {}", finished.report());
    // Nothing was skipped, nothing was touched.
    assert_eq!(folder_objects(&folder.path().join("lake/posts")), before);
}

#[test]
fn objects_of_the_same_records_are_adopted_when_the_state_was_deleted() {
    let folder = temp_dir();
    let state = folder.path().join("state");
    let file = pipeline(folder.path(), &state, 20, 7);
    Ottla::run([&file]).until_caught_up().finish(RUN).exits_with(0);
    std::fs::remove_dir_all(&state).expect("the state folder is there");

    // The same posts once more, and some new ones.
    let finished =
        Ottla::run([&file]).set("connectors.posts.emulate.rounds", 33).until_caught_up().finish(RUN).exits_with(0);
    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", 33);
    oracle.assert(&folder_objects(&folder.path().join("lake/posts")), &finished.report());
}

/// A file system in memory of a size that a test can fill; unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// None where this user or this machine can't mount; the reason is printed.
    fn mount(path: PathBuf, size: &str, test: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).expect("a folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { path }),
            Ok(output) => {
                eprintln!("SKIPPED {test}: mount is refused: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED {test}: no mount command: {error}");
                None
            }
        }
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let resized = Command::new("mount").args(["-o", &options]).arg(&self.path).status();
        assert!(resized.is_ok_and(|status| status.success()), "the file system can grow");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

#[test]
fn a_full_disk_pauses_the_source_until_there_is_room() {
    const ROUNDS: usize = 20_000;
    let folder = temp_dir();
    let Some(disk) =
        SmallDisk::mount(folder.path().join("disk"), "16m", "a_full_disk_pauses_the_source_until_there_is_room")
    else {
        return;
    };
    let file = pipeline(folder.path(), &disk.path.join("state"), ROUNDS, 500);
    let mut running = Ottla::run([file]).start();
    let full = format!("the disk of state folder {} is full", disk.path.join("state").display());
    let line = running.wait_for_log("a word about the full disk", RUN, |line| {
        line.level() == "WARN" && line.field("operation") == "produce" && line.field("error").starts_with(&full)
    });
    assert!(line.field("error").ends_with("make room"), "{}", line.0);
    println!("{}", line.0);
    let before = folder_objects(&folder.path().join("lake/posts"));
    assert!(running.is_running(), "{}", running.report());

    disk.resize("400m");
    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", ROUNDS);
    running.wait_until("all posts, now that there is room", RUN, |running| {
        oracle
            .check(&folder_objects(&folder.path().join("lake/posts")))
            .map_err(|mistakes| format!("{mistakes}; {}", running.report()))
    });
    let after = folder_objects(&folder.path().join("lake/posts"));
    assert!(before.iter().all(|object| after.contains(object)), "an object changed");
    let finished = running.stop().exits_with(0);
    println!("{}", finished.report());
}
