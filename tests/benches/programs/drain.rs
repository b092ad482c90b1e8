//! The floor: a bare librdkafka consumer that reads a topic and does nothing with it, or joins the values into lines.
//!
//! What a program that moves records costs beyond this is its own doing; less than this it can't cost by these means.

#![expect(clippy::print_stdout, reason = "the driver reads what a program prints")]

use std::error::Error;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

/// Reads a topic from its beginning, all partitions, until so many records have come.
#[derive(Debug, Parser)]
struct Args {
    /// The broker, as host:port.
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    records: u64,
    /// How records are taken from librdkafka.
    #[arg(long, default_value = "poll")]
    by: By,
    /// Sets a key of librdkafka: --set fetch.queue.backoff.ms=1
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,
    /// Copies the values, a line each, into one buffer of 8 MiB per partition, which starts anew when it is full.
    #[arg(long)]
    join: bool,
    /// Counts the different integers after the first `"FIELD":` of the values, and says how many records the topic holds.
    #[arg(long, value_name = "FIELD")]
    distinct: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    /// One call for each record, `rd_kafka_consumer_poll`.
    Poll,
    /// One call for up to 4,096 records, `rd_kafka_consume_batch_queue`.
    Batch,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let consumer = consumer(&args)?;
    let mut taken = Taken::new(&args);
    match args.by {
        By::Poll => poll(&consumer, args.records, &mut taken)?,
        By::Batch => batches::drain(&consumer, args.records, &mut taken)?,
    }
    let held = args.distinct.is_some().then(|| held(&consumer)).transpose()?;
    println!(
        "{}",
        serde_json::json!({
            "records": taken.records,
            "bytes": taken.bytes,
            "distinct": taken.distinct.as_ref().map(|seen| seen.count),
            "held": held,
        })
    );
    // The program's work is done; to close the consumer in order would measure librdkafka's manners, not its speed.
    std::process::exit(0);
}

/// A consumer of all partitions of the topic, from their first records, outside of any group.
fn consumer(args: &Args) -> Result<BaseConsumer, Box<dyn Error>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &args.bootstrap).set("group.id", "bench-drain").set("enable.auto.commit", "false");
    for (key, value) in &args.settings {
        config.set(key, value);
    }
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(&args.topic), Duration::from_secs(30))?;
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        all.add_partition_offset(&args.topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    Ok(consumer)
}

/// How many records the topic holds.
fn held(consumer: &BaseConsumer) -> Result<i64, Box<dyn Error>> {
    let mut held = 0;
    for partition in consumer.assignment()?.elements() {
        let (low, high) = consumer.fetch_watermarks(partition.topic(), partition.partition(), PATIENCE)?;
        held += high - low;
    }
    Ok(held)
}

fn poll(consumer: &BaseConsumer, records: u64, taken: &mut Taken) -> Result<(), Box<dyn Error>> {
    while taken.records < records {
        match consumer.poll(PATIENCE) {
            Some(message) => {
                let message = message?;
                taken.take(message.partition(), message.payload().unwrap_or_default());
            }
            None => return Err(too_few(taken.records, records)),
        }
    }
    Ok(())
}

/// How long no record may come before the topic counts as too short.
const PATIENCE: Duration = Duration::from_secs(20);

fn too_few(taken: u64, wanted: u64) -> Box<dyn Error> {
    format!("only {taken} of {wanted} records came, and none for {} s", PATIENCE.as_secs()).into()
}

/// What has been read.
struct Taken {
    records: u64,
    bytes: u64,
    lines: Option<Vec<Vec<u8>>>,
    distinct: Option<Seen>,
}

impl Taken {
    fn new(args: &Args) -> Self {
        let lines = args.join.then(Vec::new);
        let distinct = args.distinct.as_ref().map(|field| Seen::new(field));
        Self { records: 0, bytes: 0, lines, distinct }
    }

    #[inline]
    fn take(&mut self, partition: i32, value: &[u8]) {
        self.records += 1;
        self.bytes += value.len() as u64;
        if let Some(lines) = &mut self.lines {
            join(lines, partition, value);
        }
        if let Some(seen) = &mut self.distinct {
            seen.look(value);
        }
    }
}

fn join(lines: &mut Vec<Vec<u8>>, partition: i32, value: &[u8]) {
    const CAPACITY: usize = 8 << 20;
    let partition = partition as usize;
    if lines.len() <= partition {
        lines.resize_with(partition + 1, || Vec::with_capacity(CAPACITY));
    }
    let buffer = &mut lines[partition];
    if buffer.len() + value.len() + 1 > CAPACITY {
        buffer.clear();
    }
    buffer.extend_from_slice(value);
    buffer.push(b'\n');
}

/// Which numbers have been seen in a field.
struct Seen {
    marker: Vec<u8>,
    bits: Vec<u64>,
    count: u64,
}

impl Seen {
    fn new(field: &str) -> Self {
        Self { marker: format!("\"{field}\":").into_bytes(), bits: Vec::new(), count: 0 }
    }

    fn look(&mut self, value: &[u8]) {
        let Some(at) = value.windows(self.marker.len()).position(|window| window == self.marker) else { return };
        let digits = value[at + self.marker.len()..].iter().skip_while(|byte| **byte == b' ');
        let number =
            digits.take_while(|byte| byte.is_ascii_digit()).fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.count += u64::from(self.bits[word] & bit == 0);
        self.bits[word] |= bit;
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has no '='")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Many records a call: rdkafka offers no such call, librdkafka does.
#[expect(unsafe_code, reason = "rdkafka wraps only the call for one record, and the floor is what the library can do")]
mod batches {
    use std::error::Error;
    use std::slice;
    use std::time::{Duration, Instant};

    use rdkafka::bindings::{
        rd_kafka_consume_batch_queue, rd_kafka_message_destroy, rd_kafka_message_t, rd_kafka_queue_destroy,
        rd_kafka_queue_get_consumer,
    };
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

    use super::{PATIENCE, Taken, too_few};

    const AT_ONCE: usize = 4096;

    /// How long a call waits for a batch to become full; what has come by then is the batch.
    const WAIT: Duration = Duration::from_millis(5);

    pub(super) fn drain(consumer: &BaseConsumer, records: u64, taken: &mut Taken) -> Result<(), Box<dyn Error>> {
        // SAFETY: the handle belongs to `consumer`, which outlives this function.
        let queue = unsafe { rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        if queue.is_null() {
            return Err("the consumer has no queue".into());
        }
        let mut messages: Vec<*mut rd_kafka_message_t> = vec![std::ptr::null_mut(); AT_ONCE];
        let mut outcome = Ok(());
        let mut last = Instant::now();
        while taken.records < records {
            // SAFETY: the queue is not null, and `messages` has room for as many pointers as are asked for.
            let count =
                unsafe { rd_kafka_consume_batch_queue(queue, WAIT.as_millis() as i32, messages.as_mut_ptr(), AT_ONCE) };
            match count {
                1.. => last = Instant::now(),
                0 if last.elapsed() < PATIENCE => continue,
                _ => {
                    outcome = Err(too_few(taken.records, records));
                    break;
                }
            }
            for &message in &messages[..count as usize] {
                // SAFETY: librdkafka has filled the first `count` places with messages, which are ours until destroyed.
                let read = unsafe { &*message };
                if read.err == RD_KAFKA_RESP_ERR_NO_ERROR {
                    // SAFETY: payload and length belong together; a record without a value has neither.
                    let value = match read.payload.is_null() {
                        true => &[][..],
                        false => unsafe { slice::from_raw_parts(read.payload.cast::<u8>(), read.len) },
                    };
                    taken.take(read.partition, value);
                }
                // SAFETY: each message is given back once, and not looked at again.
                unsafe { rd_kafka_message_destroy(message) };
            }
        }
        // SAFETY: this reference to the queue is ours, and not used again.
        unsafe { rd_kafka_queue_destroy(queue) };
        outcome
    }
}
