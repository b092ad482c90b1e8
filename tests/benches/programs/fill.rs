//! Makes the data of the measurements: a topic or a file of JSON records, the same ones for the same seed.

#![expect(clippy::print_stdout, reason = "the driver reads what a program prints")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

/// Fills a topic, or a file, with JSON records. Record number i goes to partition i modulo the number of partitions, without a key.
#[derive(Debug, Parser)]
struct Args {
    /// The broker, as host:port.
    #[arg(long)]
    bootstrap: String,
    /// The topic. It is made; one that is there already is an error.
    #[arg(long)]
    topic: String,
    #[arg(long)]
    records: u64,
    #[arg(long, default_value_t = 16)]
    partitions: i32,
    #[arg(long)]
    shape: Shape,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the records to this file, a line each, and nothing to the topic.
    #[arg(long)]
    lines: Option<PathBuf>,
}

/// What a record looks like.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shape {
    /// About 70 bytes, four fields: `{"id":..,"name":"user-..","amount":..,"ts":..}`
    Small,
    /// About 140 bytes, six fields; columns of a table.
    Row,
    /// About 736 bytes, the twelve fields of a post, with the blanks that Python's json puts between them.
    Pin,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let began = Instant::now();
    let bytes = match &args.lines {
        Some(file) => write(&args, file)?,
        None => {
            make_topic(&args)?;
            produce(&args)?
        }
    };
    println!(
        "{}",
        serde_json::json!({
            "records": args.records,
            "mean_bytes": bytes as f64 / args.records as f64,
            "seconds": began.elapsed().as_secs_f64(),
        })
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn make_topic(args: &Args) -> Result<(), Box<dyn Error>> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &args.bootstrap).create()?;
    let topic = NewTopic::new(&args.topic, args.partitions, TopicReplication::Fixed(1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
        made.map_err(|(name, code)| format!("topic {name} could not be made: {code}"))?;
    }
    Ok(())
}

/// Sends all records, waits until the broker has them, and says how many bytes the values had together.
fn produce(args: &Args) -> Result<u64, Box<dyn Error>> {
    let producer: ThreadedProducer<EndOnFailure> = ClientConfig::new()
        .set("bootstrap.servers", &args.bootstrap)
        // Keeps the order where a first request comes too early for a new topic and is sent once more.
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "500000")
        .create_with_context(EndOnFailure)?;
    let bytes = each_record(args, |number, value| {
        let partition = (number % args.partitions as u64) as i32;
        let mut record: BaseRecord<'_, (), str> = BaseRecord::to(&args.topic).partition(partition).payload(value);
        while let Err((error, back)) = producer.send(record) {
            let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            if !full {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
        Ok(())
    })?;
    producer.flush(Duration::from_secs(300))?;
    Ok(bytes)
}

/// Writes all records as lines, and says how many bytes they had without their ends.
fn write(args: &Args, file: &Path) -> Result<u64, Box<dyn Error>> {
    let mut file = BufWriter::new(File::create(file)?);
    let bytes = each_record(args, |_, value| Ok(writeln!(file, "{value}")?))?;
    file.flush()?;
    Ok(bytes)
}

/// Makes the records, one after the other, and adds up their bytes.
fn each_record(
    args: &Args,
    mut take: impl FnMut(u64, &str) -> Result<(), Box<dyn Error>>,
) -> Result<u64, Box<dyn Error>> {
    let mut random = StdRng::seed_from_u64(args.seed);
    let mut value = String::new();
    let mut bytes = 0;
    for number in 0..args.records {
        value.clear();
        match args.shape {
            Shape::Small => small(&mut value, number, &mut random),
            Shape::Row => row(&mut value, number, &mut random),
            Shape::Pin => pin(&mut value, number, &mut random),
        }
        bytes += value.len() as u64;
        take(number, &value)?;
    }
    Ok(bytes)
}

/// Data with a hole measures nothing, so the first record that the broker does not take ends the program.
struct EndOnFailure;

impl ClientContext for EndOnFailure {}

impl ProducerContext for EndOnFailure {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            eprintln!("bench-fill: the broker did not take a record: {error}");
            std::process::exit(1);
        }
    }
}

// --- The records. `write!` into a String can't fail, and formatting is most of the work; so texts are put together by hand.

fn small(to: &mut String, number: u64, random: &mut StdRng) {
    let user: u32 = random.random_range(0..1_000_000);
    let cents: u32 = random.random_range(0..1_000_000);
    let at = FIRST_MILLIS + number;
    to.push_str(&format!(
        r#"{{"id":{number},"name":"user-{user}","amount":{}.{:02},"ts":{at}}}"#,
        cents / 100,
        cents % 100
    ));
}

fn row(to: &mut String, number: u64, random: &mut StdRng) {
    let user: u32 = random.random_range(0..1_000_000);
    let cents: u32 = random.random_range(0..1_000_000);
    let category = one_of(&CATEGORIES, random);
    let at = FIRST_MILLIS + number;
    to.push_str(&format!(
        r#"{{"id":{number},"name":"user-{user}","category":"{category}","amount":{}.{:02},"ts":{at},"note":""#,
        cents / 100,
        cents % 100
    ));
    words(to, 7, random);
    to.push_str("\"}");
}

/// A post in the shape of the real ones, every text invented. Some say that they say nothing, as the real ones do.
fn pin(to: &mut String, number: u64, random: &mut StdRng) {
    let blank = random.random_ratio(1, 12);
    let category = one_of(&CATEGORIES, random);
    to.push_str(&format!(r#"{{"index": {number}, "unique_id": "{}", "title": ""#, uuid(random)));
    match blank {
        true => to.push_str("No Title Data Available"),
        false => words(to, random.random_range(6..18), random),
    }
    to.push_str(r#"", "description": ""#);
    match blank {
        true => to.push_str("No description available Story format"),
        false => {
            words(to, random.random_range(14..33), random);
            to.push('…');
        }
    }
    to.push_str(r#"", "poster_name": ""#);
    match blank {
        true => to.push_str("User Info Error"),
        false => words(to, random.random_range(2..4), random),
    }
    let followers: u32 = random.random_range(1..1000);
    let unit = one_of(&["", "k", "k", "M"], random);
    match blank {
        true => to.push_str(r#"", "follower_count": "User Info Error", "tag_list": ""#),
        false => to.push_str(&format!(r#"", "follower_count": "{followers}{unit}", "tag_list": ""#)),
    }
    match blank {
        true => to.push_str("N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"),
        false => {
            for tag in 0..8 {
                if tag > 0 {
                    to.push(',');
                }
                words(to, random.random_range(2..4), random);
            }
        }
    }
    let kind = if random.random_ratio(1, 10) { "video" } else { "image" };
    let image: u128 = random.random();
    to.push_str(&format!(
        r#"", "is_image_or_video": "{kind}", "image_src": "https://images.example.org/originals/{:02x}/{:02x}/{image:032x}.jpg", "downloaded": 1, "save_location": "Local save in /data/{category}", "category": "{category}"}}"#,
        image >> 120,
        (image >> 112) as u8,
    ));
}

/// A moment in September 2021, in milliseconds.
const FIRST_MILLIS: u64 = 1_632_685_763_000;

const CATEGORIES: [&str; 9] =
    ["art", "beauty", "christmas", "education", "finance", "quotes", "tattoos", "travel", "vehicles"];

const WORDS: [&str; 16] = [
    "bright", "wide", "slow", "paper", "garden", "linen", "quiet", "walnut", "copper", "window", "harbour", "lantern",
    "morning", "pocket", "thread", "winter",
];

fn one_of<'a>(choices: &[&'a str], random: &mut StdRng) -> &'a str {
    choices[random.random_range(0..choices.len())]
}

fn words(to: &mut String, count: usize, random: &mut StdRng) {
    for position in 0..count {
        if position > 0 {
            to.push(' ');
        }
        to.push_str(one_of(&WORDS, random));
    }
}

fn uuid(random: &mut StdRng) -> String {
    let bits: u128 = random.random();
    let hex = format!("{bits:032x}");
    format!("{}-{}-4{}-a{}-{}", &hex[0..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}
