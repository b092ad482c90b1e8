//! A Kafka broker of a test's own, which can be killed and started again on the same data.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::kafka::Kafka;
use crate::{free_port, temp_dir, wait};

/// The broker. It is killed when dropped.
#[derive(Debug)]
pub struct OwnBroker {
    port: u16,
    data: tempfile::TempDir,
    process: Option<Child>,
}

impl OwnBroker {
    /// Starts one on a free port, and waits until it answers.
    pub fn start() -> Self {
        let mut broker = Self { port: free_port(), data: temp_dir(), process: None };
        broker.start_again();
        broker
    }

    /// Starts it on the data that it left.
    pub fn start_again(&mut self) {
        let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("services/kafka");
        let mut command = Command::new(script);
        command.arg(self.port.to_string()).arg(self.data.path().join("broker"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("tests/services/kafka starts");
        let mut pipe = process.stdout.take().expect("stdout is a pipe");
        self.process = Some(process);
        let said = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&said);
        // It goes on reading for as long as the broker lives, which must never wait for its reader.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                into.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        wait::until("the broker", Duration::from_secs(90), || {
            let said = said.lock().expect("no reader panics");
            if said.contains("Kafka Server started") { Ok(()) } else { Err(said.clone()) }
        });
    }

    /// SIGKILL. The port refuses connections afterwards.
    pub fn kill_9(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// A client of it.
    pub fn kafka(&self) -> Kafka {
        Kafka::at(format!("127.0.0.1:{}", self.port))
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.kill_9();
    }
}
