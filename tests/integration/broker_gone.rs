//! The broker goes away for half a minute: the worker waits, says so, and goes on by itself.

use std::time::{Duration, Instant};

use ottla_tests::broker::OwnBroker;
use ottla_tests::oracle::Oracle;
use ottla_tests::store::folder_objects;
use ottla_tests::wait::SOON;
use ottla_tests::worker::{Ottla, http_get};
use ottla_tests::{config, free_port, temp_dir};

/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(30);
/// How long after its return everything must have arrived.
const RECOVERED: Duration = Duration::from_secs(60);

#[test]
fn a_broker_that_goes_away_for_30_s_costs_nothing() {
    let mut broker = OwnBroker::start();
    let kafka = broker.kafka();
    kafka.make_topic("posts", 2);
    let folder = temp_dir();
    let lake = folder.path().join("lake");
    let metrics = format!("127.0.0.1:{}", free_port());
    let text = config::worker(kafka.servers(), &folder.path().join("state"))
        + &format!("metrics.listener = \"{metrics}\"\n")
        + &config::sink("s3", "posts", &format!("file:{}", lake.display()), "posts", 10);
    let file = config::write(folder.path(), "gone.toml", text);

    let producer = kafka.producer();
    let mut oracle = Oracle::new();
    let mut produce = |from: i64, to: i64| {
        for number in from..to {
            for partition in 0..2 {
                let line = format!("{{\"ind\":{number},\"partition\":{partition}}}");
                producer.send("posts", partition, None, line.as_bytes());
                oracle.issue("posts", partition, number, line);
            }
        }
    };
    produce(0, 100);
    let mut running = Ottla::run([file]).start();
    let count = || folder_objects(&lake.join("posts")).len();
    running.wait_until("20 objects", SOON, |_| if count() == 20 { Ok(()) } else { Err(format!("{}", count())) });

    broker.kill_9();
    let gone = Instant::now();
    // A batch that the broker has to fetch while it is not there.
    produce(100, 200);
    // The time itself is the fault here; meanwhile the worker stays alive and answers.
    let mut seen = String::new();
    while gone.elapsed() < AWAY {
        let (status, health) = http_get(&metrics, "/health").expect("the worker answers while its broker is away");
        assert_eq!(status, 200, "{health}; {}", running.report());
        seen = health;
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(running.is_running(), "{}", running.report());
    assert!(
        seen.contains("retrying consume") && seen.contains(&format!("Kafka at {} can't be reached", kafka.servers())),
        "{seen}{}",
        running.report()
    );
    println!("health while the broker was away: {seen}\n{}", running.report());
    broker.start_again();

    running.wait_until(
        "all 40 objects",
        RECOVERED,
        |_| if count() == 40 { Ok(()) } else { Err(format!("{}", count())) },
    );
    producer.flush();
    let finished = running.stop().exits_with(0);
    let seen = oracle.assert(&folder_objects(&lake.join("posts")), &finished.report());
    assert_eq!((seen.objects, seen.records), (40, 400));
    assert_eq!(kafka.committed("connect-s3", "posts", 2), [(0, 200), (1, 200)].into());
    // Somebody who reads the log afterwards sees what happened.
    let broker_named = finished.log().into_iter().filter(|line| line.level() == "WARN" || line.level() == "ERROR");
    let broker_named = broker_named.filter(|line| line.0.to_string().contains(kafka.servers())).count();
    assert!(broker_named > 0, "no log line names the broker that was away; {}", finished.report());
    assert!(broker_named < 100, "{broker_named} log lines about one absence");
}
