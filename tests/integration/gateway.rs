//! The HTTP gateway as its callers meet it: Python's `requests` as people write it, every mistake that they make, limits, guards,
//! authentication, consumers on both brokers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ottla_tests::draws::draws;
use ottla_tests::kafka::Kafka;
use ottla_tests::posts::{Posts, parse};
use ottla_tests::stream::Kinesis;
use ottla_tests::wait::SOON;
use ottla_tests::worker::{Ottla, Running, http_get, topic_values};
use ottla_tests::{config, free_port, services, temp_dir, unique};
use rustix::process::Signal;
use serde_json::{Value, json};

const JSON_V2: &str = "application/vnd.kafka.json.v2+json";
const BINARY_V2: &str = "application/vnd.kafka.binary.v2+json";
const UID: &str = "0a4e65e909bd";

/// A worker with a gateway.
struct Gateway {
    running: Running,
    address: String,
    state: PathBuf,
    metrics: String,
    kinesis: String,
}

impl Gateway {
    /// Starts one on embedded topics and an embedded Kinesis, with more lines of the `[gateway]` table.
    fn start(folder: &Path, more: &str) -> Self {
        Self::on("embedded", folder, more)
    }

    fn on(servers: &str, folder: &Path, more: &str) -> Self {
        let [address, metrics, kinesis] = std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()));
        let state = folder.join("state");
        let text = config::worker(servers, &state)
            + &format!("metrics.listener = \"{metrics}\"\nkinesis.listener = \"{kinesis}\"\n")
            + &format!("\n[gateway]\nlistener = \"{address}\"\nkinesis.endpoint = \"embedded\"\n{more}\n");
        let mut running = Ottla::run([config::write(folder, "gateway.toml", text)]).start();
        running.wait_until("the gateway to listen", SOON, |_| {
            TcpStream::connect(&address).map(drop).map_err(|error| error.to_string())
        });
        Self { running, address, state, metrics, kinesis }
    }

    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        call(&self.address, method, path, headers, body)
    }

    /// Posts values, one record each, in one request.
    fn post(&self, topic: &str, values: &[&str]) -> Answered {
        let records = values.iter().map(|value| format!("{{\"value\":{value}}}")).collect::<Vec<_>>().join(",");
        let body = format!("{{\"records\":[{records}]}}");
        self.call("POST", &format!("/topics/{topic}"), &[("Content-Type", JSON_V2)], &body)
    }
}

/// An answer: status, head, body.
#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        parse(&self.body)
    }

    #[track_caller]
    fn is(&self, status: u16, body: Value) {
        assert_eq!((self.status, self.json()), (status, body), "{}", self.head);
    }

    #[track_caller]
    fn says(&self, status: u16, text: &str) {
        let body = self.json();
        let message = body["message"].as_str().unwrap_or_default();
        assert!(self.status == status && message.contains(text), "'{text}' with {status}, found {self:?}");
    }
}

/// One request on a connection of its own.
fn call(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let host = headers.iter().any(|(name, _)| *name == "Host");
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !host {
        head += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    // A server that has heard enough may close before everything is written.
    let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
    answer_of(stream)
}

fn answer_of(mut stream: TcpStream) -> Answered {
    stream.set_read_timeout(Some(SOON)).expect("a time limit");
    let mut text = Vec::new();
    if let Err(error) = stream.read_to_end(&mut text) {
        assert!(!text.is_empty(), "no answer: {error}");
    }
    let text = String::from_utf8(text).expect("answers are text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: '{text}'"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answered { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// A Python that can import `requests`.
fn python() -> PathBuf {
    let set = std::env::var_os("OTTLA_TEST_PYTHON").filter(|path| !path.is_empty());
    let python = set.map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let imported = Command::new(&python).args(["-c", "import requests"]).output();
    assert!(
        imported.is_ok_and(|imported| imported.status.success()),
        "{} can't import requests: start with tests/run, which installs it, or set OTTLA_TEST_PYTHON",
        python.display()
    );
    python
}

/// Runs a Python program; its standard output.
fn run_python(program: &str, args: &[&str]) -> String {
    let mut child = Command::new(python())
        .arg("-")
        .args(args)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    child.stdin.take().expect("a pipe").write_all(program.as_bytes()).expect("Python reads");
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("Python prints text")
}

/// The script of the examples, which is what people wrote for a REST proxy and an API gateway.
fn post_py(args: &[&str]) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/post.py");
    Command::new(python()).arg(script).args(args).env("PYTHONDONTWRITEBYTECODE", "1").output().expect("Python starts")
}

#[test]
fn what_python_posts_lies_in_topics_and_streams_whole() {
    const ROUNDS: usize = 60;
    let folder = temp_dir();
    let gateway = Gateway::start(folder.path(), "");
    let posts = Posts::emulated();
    let tables = [("pin", &posts.pin), ("geo", &posts.geo), ("user", &posts.user)];
    for (table, rows) in tables {
        let lines: String = rows.values().map(|row| format!("{row}\n")).collect();
        config::write(folder.path(), &format!("{table}.jsonl"), lines);
    }
    for table in ["pin", "geo", "user"] {
        let made = gateway.call("POST", &format!("/streams/streaming-{UID}-{table}"), &[], "{\"ShardCount\": 1}");
        made.is(200, json!({}));
    }
    let base = format!("http://{}/test", gateway.address);
    let rows = folder.path().display().to_string();
    let posted = post_py(&[&base, "--leg", "both", "--rounds", "60", "--pace", "none", "--rows", &rows]);
    assert!(posted.status.success(), "{}\n{}", String::from_utf8_lossy(&posted.stderr), gateway.running.report());

    let kinesis = Kinesis::connect(&format!("http://{}", gateway.kinesis));
    for (table, rows) in tables {
        let expected: Vec<String> = draws(ROUNDS).iter().map(|draw| rows[draw].clone()).collect();
        let stream = kinesis.read(&format!("streaming-{UID}-{table}"));
        let put = expected.iter().map(|row| ("partition-1".to_owned(), row.clone())).collect();
        assert_eq!(stream, BTreeMap::from([("shardId-000000000000".to_owned(), put)]), "stream {table}");
        let topic = topic_values(&gateway.state, &format!("{UID}.{table}"), None);
        assert_eq!(topic, expected, "topic {table}");
    }
    let page = http_get(&gateway.metrics, "/metrics").expect("metrics").1;
    for line in [
        "ottla_gateway_requests_total{route=\"/topics/{topic}\",status=\"200\"} 180",
        "ottla_gateway_requests_total{route=\"/streams/{stream}/record\",status=\"200\"} 180",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    gateway.running.stop().exits_with(0);
}

#[test]
fn the_example_carries_both_legs_into_the_same_cleaned_rows() {
    let folder = temp_dir();
    let address = format!("127.0.0.1:{}", free_port());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/gateway.toml");
    let mut running = Ottla::run([example]).in_dir(folder.path()).set("gateway.listener", &address).start();
    // The source makes the streams; until then a post is told that its stream is not there.
    running.wait_until("the streams", SOON, |_| {
        let streams = http_get(&address, "/streams").map(|(_, body)| body)?;
        let named = |table: &str| streams.contains(&format!("streaming-{UID}-{table}"));
        if ["pin", "geo", "user"].into_iter().all(named) { Ok(()) } else { Err(streams) }
    });
    let base = format!("http://{address}");
    let posted = post_py(&[&base, "--leg", "both", "--rounds", "30", "--pace", "none"]);
    assert!(posted.status.success(), "{}\n{}", String::from_utf8_lossy(&posted.stderr), running.report());
    let rows = |topic: String| -> Vec<String> {
        let objects = ottla_tests::store::folder_objects(&folder.path().join("ottla-lake/posts"));
        let prefix = format!("cleaned/{topic}/");
        let of_it = objects.iter().filter(|object| object.key.starts_with(&prefix));
        of_it.flat_map(|object| object.text().lines()).map(str::to_owned).collect()
    };
    for table in ["pin", "geo", "user"] {
        let both = running.wait_until(&format!("30 cleaned rows of {table} by each leg"), SOON, |_| {
            let both = [rows(format!("{UID}.{table}")), rows(format!("streamed.{table}"))];
            if both.iter().all(|rows| rows.len() == 30) { Ok(both) } else { Err(format!("{both:?}")) }
        });
        assert_eq!(both[0], both[1], "{table}");
        let numbers: Vec<u64> = both[0].iter().filter_map(|row| parse(row)["ind"].as_u64()).collect();
        assert_eq!(numbers, draws(30).into_iter().map(u64::from).collect::<Vec<_>>(), "{table}");
    }
    running.stop().exits_with(0);
}

/// Every mistake, as somebody makes it with `requests`: prints what each gets, a line each.
const MISTAKES: &str = r#"
import datetime, json, sys, requests

base = sys.argv[1]
row = {"ind": 7528, "timestamp": datetime.datetime(2020, 8, 28, 3, 52, 47), "country": "Albania"}
plain = {**row, "timestamp": row["timestamp"].isoformat()}
kafka = {"Content-Type": "application/vnd.kafka.json.v2+json"}
kinesis = {"Content-Type": "application/json"}

def show(name, call):
    try:
        answer = call()
        print(json.dumps([name, answer.status_code, answer.json()]))
    except Exception as error:
        print(json.dumps([name, 0, type(error).__name__]))

wrapped = json.dumps({"records": [{"value": plain}]})
record = json.dumps({"StreamName": "s", "Data": plain, "PartitionKey": "pin"})
show("https", lambda: requests.post(base.replace("http:", "https:") + "/topics/t", data=wrapped, headers=kafka))
show("not wrapped", lambda: requests.post(base + "/topics/t", data=json.dumps(plain), headers=kafka))
show("no value", lambda: requests.post(base + "/topics/t", data=json.dumps({"records": [plain]}), headers=kafka))
show("not a list", lambda: requests.post(base + "/topics/t", data=json.dumps({"records": {"value": plain}}), headers=kafka))
show("no records", lambda: requests.post(base + "/topics/t", data=json.dumps({"records": []}), headers=kafka))
show("datetime", lambda: requests.post(base + "/topics/t", data=json.dumps({"records": [{"value": row}]}), headers=kafka))
show("datetime shown", lambda: requests.post(base + "/topics/t", data=str({"records": [{"value": row}]}), headers=kafka))
show("str", lambda: requests.post(base + "/topics/t", data=str({"records": [{"value": plain}]}), headers=kafka))
show("form", lambda: requests.post(base + "/topics/t", data=plain, headers=kafka))
show("JSON twice", lambda: requests.post(base + "/topics/t", json=wrapped, headers=kafka))
show("json", lambda: requests.post(base + "/topics/t", json={"records": [{"value": plain}]}))
show("no type", lambda: requests.post(base + "/topics/t", data=wrapped))
show("path", lambda: requests.post(base + "/topic/t", data=wrapped, headers=kafka))
show("no topic", lambda: requests.post(base + "/topics", data=wrapped, headers=kafka))
show("verb", lambda: requests.put(base + "/topics/t", data=wrapped, headers=kafka))
show("name", lambda: requests.post(base + "/topics/my topic", data=wrapped, headers=kafka))
show("partition", lambda: requests.post(base + "/topics/t", data=json.dumps({"records": [{"value": 1, "partition": 9}, {"value": 2}]}), headers=kafka))
show("stream", lambda: requests.put(base + "/streams/s/record", data=record, headers=kinesis))
show("stream path", lambda: requests.put(base + "/stream/s/record", data=record, headers=kinesis))
show("stream verb", lambda: requests.get(base + "/streams/s/record"))
show("stream row", lambda: requests.put(base + "/streams/s/record", data=json.dumps(plain), headers=kinesis))
show("stream no key", lambda: requests.put(base + "/streams/s/record", data=json.dumps({"Data": plain}), headers=kinesis))
show("stream form", lambda: requests.put(base + "/streams/s/record", data=plain))
show("stream str", lambda: requests.put(base + "/streams/s/record", data=str({"Data": row}), headers=kinesis))
show("stream records", lambda: requests.put(base + "/streams/s/records", data=record, headers=kinesis))
show("iterator", lambda: requests.get(base + "/streams/s/records"))
"#;

#[test]
fn every_mistake_gets_an_answer_that_says_what_to_do() {
    let folder = temp_dir();
    let gateway = Gateway::start(folder.path(), "");
    let routes = gateway.call("GET", "/", &[], "").json()["routes"].clone();
    assert_eq!(routes.as_array().map(Vec::len), Some(30));
    let base = format!("http://{}/test", gateway.address);
    let printed = run_python(MISTAKES, &[&base]);
    let found: Vec<Value> = printed.lines().map(parse).collect();

    let wrapped = json!({"records": [{"key": "optional", "value": {"field": "of the row"}}]});
    let kafka = |code: u32, message: &str| json!({"error_code": code, "message": message, "expected": wrapped});
    let one = json!({"StreamName": "s", "Data": {"field": "of the row"}, "PartitionKey": "partition-1"});
    let kinesis = |kind: &str, message: &str| json!({"__type": kind, "message": message, "expected": one});
    let types = "Content-Type must be application/vnd.kafka.json.v2+json (values as JSON) or \
                 application/vnd.kafka.binary.v2+json (values in base64)";
    let missing = "(an API gateway says Missing Authentication Token here)";
    let twice =
        "the body must not be a string: it is JSON twice; pass json=payload or data=json.dumps(payload), not both";
    let expected = [
        json!(["https", 0, "SSLError"]),
        json!(["not wrapped", 422, kafka(422, "Unrecognized field: ind; a row goes into records, as value")]),
        json!(["no value", 422, kafka(422, "Unrecognized field: ind in records[0]; a row goes into value")]),
        json!(["not a list", 422, kafka(422, "records must be an array, found an object")]),
        json!(["no records", 422, kafka(422, "records must hold at least one record")]),
        json!(["datetime", 0, "TypeError"]),
        json!([
            "datetime shown",
            400,
            kafka(
                400,
                "the body is not JSON at line 1, column 2: a datetime was written as Python \
            shows it; serialise it, as in json.dumps(payload, default=str) or value.isoformat()"
            )
        ]),
        json!([
            "str",
            400,
            kafka(
                400,
                "the body is not JSON at line 1, column 2: this is a Python dict as str() writes it; pass \
            json=payload or data=json.dumps(payload)"
            )
        ]),
        json!([
            "form",
            400,
            kafka(
                400,
                "the body is not JSON at line 1, column 1: this is a form; a dict passed as data= is \
            sent so: pass data=json.dumps(payload)"
            )
        ]),
        json!(["JSON twice", 422, kafka(422, twice)]),
        json!(["json", 415, {"error_code": 415, "message": format!("{types}, found application/json")}]),
        json!(["no type", 415, {"error_code": 415, "message": format!("{types}, there is none")}]),
        json!(["path", 404, {"error_code": 404, "message": format!("there is no route POST /test/topic/t; did you mean POST \
            /topics/{{topic}}? {missing}"), "routes": routes}]),
        json!(["no topic", 405, {"error_code": 405, "message": "POST is no verb of /test/topics; it takes GET", "routes": routes}]),
        json!(["verb", 405, {"error_code": 405, "message": "PUT is no verb of /test/topics/t; it takes POST, GET", "routes": routes}]),
        json!(["name", 422, {"error_code": 422, "message": "a topic's name must have 1 to 249 characters, only a to z, A to Z, \
            digits, '.', '_' and '-', and not be '.' or '..', as a topic's name, found 'my topic'"}]),
        json!(["partition", 200, {"offsets": [
            {"partition": null, "offset": null, "error_code": 50002,
             "error": "topic 't' has 1 partitions, so there is none with number 9"},
            {"partition": 0, "offset": 0, "error_code": null, "error": null},
        ], "key_schema_id": null, "value_schema_id": null}]),
        json!(["stream", 400, {"__type": "ResourceNotFoundException", "message": "Stream s under account 000000000000 not found. \
            (GET /streams lists those that exist, POST /streams/{stream} makes one)"}]),
        json!(["stream path", 404, {"__type": "UnknownOperationException", "message": format!("there is no route PUT \
            /test/stream/s/record; did you mean PUT /streams/{{stream}}/record? {missing}"), "routes": routes}]),
        json!(["stream verb", 405, {"__type": "MethodNotAllowedException", "message": "GET is no verb of \
            /test/streams/s/record; it takes PUT, POST", "routes": routes}]),
        json!([
            "stream row",
            422,
            kinesis("ValidationException", "Unrecognized field: ind in the body; a row goes into Data")
        ]),
        json!(["stream no key", 422, kinesis("ValidationException", "PartitionKey is missing in the body")]),
        json!(["stream form", 415, {"__type": "UnsupportedMediaTypeException", "message": "Content-Type must be \
            application/json, found application/x-www-form-urlencoded"}]),
        json!([
            "stream str",
            400,
            kinesis(
                "SerializationException",
                "the body is not JSON at line 1, column 2: a datetime was \
            written as Python shows it; serialise it, as in json.dumps(payload, default=str) or value.isoformat()"
            )
        ]),
        json!(["stream records", 422, {"__type": "ValidationException", "message": "Unrecognized field: Data; one record goes to \
            PUT /streams/s/record, a row goes into data", "expected": {"records": [{"data": {"field": "of the row"},
            "partition-key": "partition-1"}]}}]),
        json!(["iterator", 400, {"__type": "ValidationException", "message": "header 'Shard-Iterator' is missing; GET \
            /streams/{stream}/sharditerator?shard-id=.. answers one"}]),
    ];
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    // What went wrong wrote nothing: the one record is the good half of "partition".
    assert_eq!(topic_values(&gateway.state, "t", None), ["2"]);
}

#[test]
fn a_caller_that_speaks_tls_is_told_in_plain_text() {
    let folder = temp_dir();
    let mut gateway = Gateway::start(folder.path(), "");
    let mut stream = TcpStream::connect(&gateway.address).expect("a connection");
    stream.write_all(&[0x16, 0x03, 0x01, 0x00, 0x05, 1, 0, 0, 1, 0]).expect("sent");
    let message = "this listener speaks http, not https; write http:// in the URL";
    answer_of(stream).is(400, json!({"error_code": 400, "message": message}));
    let told = |line: &ottla_tests::worker::LogLine| line.message().starts_with("a caller speaks https to the gateway");
    let line = gateway.running.wait_for_log("the warning", SOON, told);
    assert_eq!(line.level(), "WARN");
}

#[test]
fn values_keep_their_order_and_digits_and_every_part_of_a_record_arrives() {
    let folder = temp_dir();
    let gateway = Gateway::start(folder.path(), "");
    let text = r#"{"z":1.50,"a":12345678901234567890123,"b":[1e5,-0.0],"c":"\u00e9 é","d":null}"#;
    let posted = gateway.post("plain", &[&format!(" {text} "), "null", "\"text\""]);
    posted.is(
        200,
        json!({"offsets": (0..3).map(|offset| json!({"partition": 0, "offset": offset, "error_code": null, "error": null}))
            .collect::<Vec<_>>(), "key_schema_id": null, "value_schema_id": null}),
    );
    assert!(posted.head.contains("content-type: application/vnd.kafka.v2+json"), "{}", posted.head);
    for header in
        ["cache-control: no-store", "x-content-type-options: nosniff", "content-security-policy: default-src 'none'"]
    {
        assert!(posted.head.contains(header), "{header} is missing in {}", posted.head);
    }
    let values = topic_values(&gateway.state, "plain", None);
    assert_eq!(values[0], text.replace("\\u00e9", "é"));
    assert_eq!(values[2], "\"text\"");

    let body = r#"{"records":[{"key":"a2V5","value":"AP8=","timestamp":1600000000000},{"key":null,"value":null}]}"#;
    let posted = gateway.call("POST", "/prod/topics/binary/partitions/0", &[("Content-Type", BINARY_V2)], body);
    assert_eq!((posted.status, &posted.json()["offsets"][1]["offset"]), (200, &json!(1)), "{posted:?}");
    gateway.call("GET", "/topics", &[], "").is(200, json!(["binary", "plain"]));
    gateway
        .call("GET", "/topics/plain/partitions", &[], "")
        .is(200, json!([{"partition": 0, "leader": null, "replicas": []}]));
    let offsets = gateway.call("GET", "/topics/plain/partitions/0/offsets", &[], "");
    offsets.is(200, json!({"beginning_offset": 0, "end_offset": 3}));
    gateway.call("GET", "/topics/absent", &[], "").says(404, "Topic 'absent' not found");
    gateway.call("GET", "/topics/plain/partitions/7", &[], "").says(404, "Partition 7 not found");
}

#[test]
fn streams_are_made_described_written_read_and_removed() {
    let folder = temp_dir();
    let gateway = Gateway::start(folder.path(), "");
    gateway.call("POST", "/test/streams/posts", &[], "{\"ShardCount\":\"1\"}").is(200, json!({}));
    gateway.call("GET", "/streams", &[], "").is(200, json!({"HasMoreStreams": false, "StreamNames": ["posts"]}));
    let described = gateway.call("GET", "/streams/posts", &[], "").json();
    let description = &described["StreamDescription"];
    assert_eq!(
        (
            &description["StreamName"],
            &description["Shards"][0]["ShardId"],
            description["Shards"].as_array().map(Vec::len)
        ),
        (&json!("posts"), &json!("shardId-000000000000"), Some(1)),
        "{described}"
    );
    Kinesis::connect(&format!("http://{}", gateway.kinesis)).open_shards("posts");

    let json = [("Content-Type", "application/json")];
    let one = gateway.call(
        "PUT",
        "/streams/posts/record",
        &json,
        r#"{"Data": {"b": 1.50, "a": [1, 2]}, "PartitionKey": "k"}"#,
    );
    assert_eq!((one.status, &one.json()["ShardId"]), (200, &json!("shardId-000000000000")), "{one:?}");
    assert!(one.json()["SequenceNumber"].as_str().is_some_and(|number| !number.is_empty()), "{one:?}");
    for body in [
        r#"{"records":[{"data":{"n":1},"partition-key":"x"},{"data":"text","partition-key":"y"}]}"#,
        r#"{"Records":[{"Data":{"n":2},"PartitionKey":"x"}]}"#,
    ] {
        let many = gateway.call("POST", "/streams/posts/records", &json, body).json();
        assert_eq!(many["FailedRecordCount"], 0, "{many}");
    }
    let path = "/streams/posts/sharditerator?shard-id=shardId-000000000000";
    let iterator = gateway.call("GET", path, &[], "").json()["ShardIterator"].clone();
    let iterator = iterator.as_str().expect("an iterator");
    let read = gateway.call("GET", "/streams/posts/records", &[("Shard-Iterator", iterator)], "").json();
    let records = read["Records"].as_array().expect("records");
    let decoded: Vec<(String, Value)> = records
        .iter()
        .map(|record| {
            use base64::Engine as _;
            let data = base64::prelude::BASE64_STANDARD.decode(record["Data"].as_str().expect("data")).expect("base64");
            (String::from_utf8(data).expect("text"), record["PartitionKey"].clone())
        })
        .collect();
    let expected = [("{\"b\":1.50,\"a\":[1,2]}", "k"), ("{\"n\":1}", "x"), ("\"text\"", "y"), ("{\"n\":2}", "x")];
    assert_eq!(decoded, expected.map(|(data, key)| (data.to_owned(), json!(key))));
    assert!(records[0]["ApproximateArrivalTimestamp"].as_f64().is_some_and(|time| time > 1.6e9), "{read}");
    let wrong = gateway.call("GET", "/streams/posts/records", &[("Shard-Iterator", "nonsense")], "");
    assert_eq!((wrong.status, &wrong.json()["__type"]), (400, &json!("InvalidArgumentException")), "{wrong:?}");
    gateway.call("DELETE", "/streams/posts", &[], "").is(200, json!({}));
}

#[test]
fn a_row_of_a_wrong_table_enters_neither_topic_nor_stream() {
    let folder = temp_dir();
    let schema = r#"{"type": "object", "required": ["ind", "age"], "properties": {"age": {"type": "integer"}}}"#;
    let schema = config::write(folder.path(), "user.schema.json", schema);
    let guards = format!(
        "[gateway.require.'.*[.-]pin']\nfields = [\"index\", \"unique_id\"]\n[gateway.require.\"u.user\"]\nschema = \"{}\"",
        schema.display()
    );
    let gateway = Gateway::start(folder.path(), &guards);
    gateway.post("u.pin", &[r#"{"index":1,"unique_id":"a"}"#, r#"{"ind":1,"country":"secret"}"#]).is(
        422,
        json!({"error_code": 42203, "message": "records[1].value: fields index, unique_id are missing; 'u.pin' requires index, \
            unique_id; nothing of this request was written"}),
    );
    gateway.post("u.user", &[r#"{"ind":1,"age":"hidden"}"#]).is(
        422,
        json!({"error_code": 42203, "message": "records[0].value: /age: value is not of type \"integer\" (the schema of \
            'u.user'); nothing of this request was written"}),
    );
    assert_eq!(gateway.call("GET", "/topics", &[], "").json(), json!([]));
    gateway.call("POST", "/streams/s-pin", &[], "{\"ShardCount\": 1}").is(200, json!({}));
    let json = [("Content-Type", "application/json")];
    let put = gateway.call("PUT", "/streams/s-pin/record", &json, r#"{"Data":{"ind":1},"PartitionKey":"pin"}"#);
    put.is(
        422,
        json!({"__type": "ValidationException", "message": "Data of the body: fields index, unique_id are missing; 's-pin' \
            requires index, unique_id; nothing of this request was written"}),
    );
    let many =
        r#"{"records":[{"data":{"index":1,"unique_id":2},"partition-key":"a"},{"data":null,"partition-key":"a"}]}"#;
    gateway.call("PUT", "/streams/s-pin/records", &json, many).says(422, "found null");
    let kinesis = Kinesis::connect(&format!("http://{}", gateway.kinesis));
    assert_eq!(kinesis.read("s-pin"), BTreeMap::from([("shardId-000000000000".to_owned(), Vec::new())]));
    // What is right passes.
    assert_eq!(gateway.post("u.user", &[r#"{"ind":1,"age":30}"#]).status, 200);
    assert_eq!(gateway.post("other", &["1"]).status, 200);
}

#[test]
fn callers_must_say_who_they_are_where_that_is_asked() {
    let folder = temp_dir();
    let gateway = Gateway::start(
        folder.path(),
        "auth.api.keys = [\"first-key\", \"second-key\"]\nauth.basic.users.ann = \"her-password\"",
    );
    let refused = "; send a key in the header x-api-key, or a user and a password by HTTP Basic authentication (requests: \
                   auth=(user, password))";
    let nobody = gateway.call("GET", "/topics", &[], "");
    nobody.is(401, json!({"error_code": 40101, "message": format!("who calls is not said{refused}")}));
    assert!(nobody.head.contains("www-authenticate: basic realm=\"ottla\""), "{}", nobody.head);
    let wrong = gateway.call("GET", "/streams", &[("x-api-key", "guess")], "");
    let said = format!("Unauthorized: the key, or the user and the password, are not right{refused}");
    wrong.is(401, json!({"__type": "UnauthorizedException", "message": said}));
    assert_eq!(gateway.call("GET", "/topics", &[("x-api-key", "second-key")], "").status, 200);
    // ann:her-password
    let basic = [("Authorization", "Basic YW5uOmhlci1wYXNzd29yZA==")];
    assert_eq!(gateway.call("GET", "/topics", &basic, "").status, 200);
    // Not even whether a path exists is told to strangers.
    assert_eq!(gateway.call("GET", "/nowhere", &[], "").status, 401);
    let base = format!("http://{}", gateway.address);
    let posted = post_py(&[&base, "--rounds", "1", "--pace", "none", "--api-key", "first-key"]);
    assert!(posted.status.success(), "{}", String::from_utf8_lossy(&posted.stderr));
    let posted = post_py(&[&base, "--rounds", "1", "--pace", "none"]);
    assert!(String::from_utf8_lossy(&posted.stderr).contains("401"), "{posted:?}");
    let finished = gateway.running.stop().exits_with(0);
    for secret in ["first-key", "second-key", "her-password"] {
        assert!(!finished.stderr.contains(secret), "{secret} shows in the log; {}", finished.report());
    }
}

#[test]
fn a_listener_for_other_machines_needs_authentication() {
    let folder = temp_dir();
    let file = |name: &str, gateway: &str| {
        let text = config::worker("embedded", &folder.path().join("state")) + "\n[gateway]\n" + gateway;
        config::write(folder.path(), name, text)
    };
    let validate = |path: PathBuf| Ottla::new(["validate".to_owned(), path.display().to_string()]).finish(SOON);
    validate(file("open.toml", "listener = \"0.0.0.0:8082\"\n")).exits_with(2).says(
        "open.toml:9: gateway.listener: can be reached from other machines, and nothing asks who calls: set auth.api.keys or \
         auth.basic.users.<name>, or listen on a loopback address such as 127.0.0.1:8082",
    );
    validate(file("empty.toml", "listener = \"0.0.0.0:8082\"\nauth.api.keys = \"\"\n"))
        .exits_with(2)
        .says("empty.toml:10: gateway.auth.api.keys: must hold at least one key, and none that is empty");
    validate(file("closed.toml", "listener = \"0.0.0.0:8082\"\nauth.api.keys = \"k\"\n"))
        .exits_with(0)
        .says("gateway.listener: is reached without TLS");
    validate(file("slip.toml", "listner = \"127.0.0.1:1\"\n"))
        .exits_with(2)
        .says("slip.toml:9: gateway.listner: unknown key; did you mean 'listener'?");
}

#[test]
fn a_web_page_can_not_write_through_a_visitors_browser() {
    let folder = temp_dir();
    let gateway = Gateway::start(folder.path(), "hosts = \"gateway.internal\"");
    let get = |headers: &[(&str, &str)]| gateway.call("GET", "/topics", headers, "");
    assert_eq!(get(&[("Host", "gateway.internal")]).status, 200);
    get(&[("Host", "evil.example")]).says(403, "Host 'evil.example' is no name of this gateway");
    get(&[("Origin", "https://evil.example")]).says(403, "Origin 'evil.example' is no name of this gateway");
    let preflight = gateway.call("OPTIONS", "/topics/t", &[("Origin", "http://localhost:3000")], "");
    assert_eq!(preflight.status, 405);
    assert!(!preflight.head.contains("access-control"), "{}", preflight.head);
}

#[test]
fn nobody_takes_more_than_the_limits() {
    let folder = temp_dir();
    let gateway = Gateway::start(
        folder.path(),
        "body.bytes.max = \"64KiB\"\nheader.bytes.max = \"4KiB\"\nheader.timeout.ms = 1000\nrequest.timeout.ms = 2000\n\
         connections.max = 4",
    );
    let large = "x".repeat(70_000);
    gateway.post("t", &[&format!("\"{large}\"")]).says(413, "the body is larger than 65536 bytes");
    let chunked = {
        let mut stream = TcpStream::connect(&gateway.address).expect("a connection");
        let head = format!("POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON_V2}\r\n");
        let _ = write!(stream, "{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        for _ in 0..20 {
            let _ = write!(stream, "1000\r\n{}\r\n", "x".repeat(4096));
        }
        let _ = stream.write_all(b"0\r\n\r\n");
        answer_of(stream)
    };
    chunked.says(413, "the body is larger than 65536 bytes");
    let long = "x".repeat(6000);
    assert_eq!(gateway_head(&gateway, &long), 431);
    let zipped = [("Content-Type", JSON_V2), ("Content-Encoding", "gzip")];
    gateway.call("POST", "/topics/t", &zipped, "x").says(415, "Content-Encoding is not taken here");
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    gateway.post("t", &[&deep]).says(422, "nest");

    // A head that never ends, and a body that never comes.
    let begun = Instant::now();
    let mut slow = TcpStream::connect(&gateway.address).expect("a connection");
    slow.write_all(b"GET /topics HTTP/1.1\r\nHost: loc").expect("sent");
    slow.set_read_timeout(Some(SOON)).expect("a time limit");
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let mut half = TcpStream::connect(&gateway.address).expect("a connection");
    let head =
        format!("POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON_V2}\r\nConnection: close\r\n");
    write!(half, "{head}Content-Length: 100\r\n\r\n{{").expect("sent");
    answer_of(half).says(408, "the body did not arrive in time");

    // Four connections stay, the fifth is told so; a place that is free again is taken again.
    let held: Vec<BufReader<TcpStream>> = (0..4).map(|_| keep_alive(&gateway.address)).collect();
    let fifth = TcpStream::connect(&gateway.address).expect("a connection");
    answer_of(fifth).says(503, "too many connections");
    drop(held);
    ottla_tests::wait::until("a free place", SOON, || {
        let answered = gateway.call("GET", "/topics", &[], "");
        if answered.status == 200 { Ok(()) } else { Err(answered.body) }
    });
    assert_eq!(gateway.call("GET", "/topics", &[], "").json(), json!([]), "nothing was written");
}

/// The status of a request with a header of so much text.
fn gateway_head(gateway: &Gateway, text: &str) -> u16 {
    let mut stream = TcpStream::connect(&gateway.address).expect("a connection");
    let _ = write!(stream, "GET /topics HTTP/1.1\r\nHost: localhost\r\nX-Long: {text}\r\n\r\n");
    answer_of(stream).status
}

/// A connection on which one request was answered, and which is open still.
fn keep_alive(address: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("a connection");
    let mut reader = BufReader::new(stream);
    assert_eq!(request_on(&mut reader, "GET", "/topics", "", "").0, 200);
    reader
}

/// One request on a connection that stays.
fn request_on(reader: &mut BufReader<TcpStream>, method: &str, path: &str, kind: &str, body: &str) -> (u16, String) {
    let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
    let text =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {}\r\n\r\n{body}", body.len());
    reader.get_mut().write_all(text.as_bytes()).expect("sent");
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        let line = line.trim().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().expect("a status");
        } else if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.parse().expect("a length");
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    (status, String::from_utf8(body).expect("text"))
}

#[test]
fn many_callers_share_writes_and_every_record_is_there_once() {
    let folder = temp_dir();
    let gateway = Gateway::start(folder.path(), "");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let address = &gateway.address;
            scope.spawn(move || {
                let mut connection = BufReader::new(TcpStream::connect(address).expect("a connection"));
                for number in 0..125 {
                    let body = format!("{{\"records\":[{{\"value\":{{\"caller\":{caller},\"number\":{number}}}}}]}}");
                    let (status, answer) = request_on(&mut connection, "POST", "/topics/many", JSON_V2, &body);
                    assert_eq!(status, 200, "{answer}");
                }
            });
        }
    });
    println!("1000 posts of one record by 8 connections: {} ms", begun.elapsed().as_millis());
    let values = topic_values(&gateway.state, "many", None);
    for caller in 0..8 {
        let prefix = format!("{{\"caller\":{caller},");
        let own: Vec<&String> = values.iter().filter(|value| value.starts_with(&prefix)).collect();
        let expected: Vec<String> = (0..125).map(|number| format!("{prefix}\"number\":{number}}}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>(), "caller {caller}, in order");
    }
    assert_eq!(values.len(), 1000);
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = temp_dir();
    let gateway = Gateway::start(folder.path(), "");
    gateway.call("POST", "/streams/s", &[], "{\"ShardCount\": 1}").is(200, json!({}));
    for number in 0..20 {
        assert_eq!(gateway.post("t", &[&format!("{{\"n\":{number}}}")]).status, 200);
        let body = format!("{{\"Data\":{{\"n\":{number}}},\"PartitionKey\":\"k\"}}");
        let put = gateway.call("PUT", "/streams/s/record", &[("Content-Type", "application/json")], &body);
        assert_eq!(put.status, 200, "{put:?}");
    }
    gateway.running.kill_9();
    let again = Gateway::start(folder.path(), "");
    let expected: Vec<String> = (0..20).map(|number| format!("{{\"n\":{number}}}")).collect();
    assert_eq!(topic_values(&again.state, "t", None), expected);
    let stream = Kinesis::connect(&format!("http://{}", again.kinesis)).read("s");
    let put = expected.iter().map(|data| ("k".to_owned(), data.clone())).collect::<Vec<_>>();
    assert_eq!(stream, BTreeMap::from([("shardId-000000000000".to_owned(), put)]));
}

#[test]
fn a_stop_answers_what_was_accepted() {
    let folder = temp_dir();
    let gateway = Gateway::start(folder.path(), "");
    subscribe(&gateway, "g", "c", "t", "");
    let address = gateway.address.clone();
    let waiting = std::thread::spawn(move || {
        loop {
            let answered =
                call(&address, "GET", "/consumers/g/instances/c/records?timeout=25000", &[("Accept", JSON_V2)], "");
            // One of the calls below was first.
            if answered.status != 409 {
                return answered;
            }
        }
    });
    // The call waits once another one is refused because of it.
    ottla_tests::wait::until("the call to wait", SOON, || {
        let other = gateway.call("GET", "/consumers/g/instances/c/records?timeout=0", &[], "");
        if other.status == 409 { Ok(()) } else { Err(format!("{other:?}")) }
    });
    gateway.running.signal(Signal::TERM);
    waiting.join().expect("an answer").is(200, json!([]));
    gateway.running.wait(SOON).exits_with(0);
}

/// Makes an instance and subscribes it.
fn subscribe(gateway: &Gateway, group: &str, name: &str, topic: &str, more: &str) {
    let body = format!("{{\"name\":\"{name}\",\"format\":\"json\",\"auto.offset.reset\":\"earliest\"{more}}}");
    let kind = [("Content-Type", "application/vnd.kafka.v2+json")];
    let made = gateway.call("POST", &format!("/test/consumers/{group}"), &kind, &body);
    let base = format!("http://{}/test/consumers/{group}/instances/{name}", gateway.address);
    made.is(200, json!({"instance_id": name, "base_uri": base}));
    let path = format!("/consumers/{group}/instances/{name}/subscription");
    let subscribed = gateway.call("POST", &path, &kind, &format!("{{\"topics\":[\"{topic}\"]}}"));
    assert_eq!((subscribed.status, subscribed.body.as_str()), (204, ""), "{subscribed:?}");
}

/// Reads until so many records are there.
fn read(gateway: &Gateway, instance: &str, count: usize) -> Vec<Value> {
    let mut records = Vec::new();
    ottla_tests::wait::until(&format!("{count} records"), SOON, || {
        let path = format!("{instance}/records?timeout=2000");
        let answered = gateway.call("GET", &path, &[("Accept", JSON_V2)], "");
        assert_eq!(answered.status, 200, "{answered:?}");
        assert!(answered.head.contains(&format!("content-type: {JSON_V2}")), "{}", answered.head);
        records.extend(answered.json().as_array().expect("an array").iter().cloned());
        if records.len() >= count { Ok(()) } else { Err(format!("{records:?}")) }
    });
    records
}

/// A consumer from its making to its end, on one broker.
fn a_consumers_life(servers: &str) {
    let folder = temp_dir();
    let gateway = Gateway::on(servers, folder.path(), "consumer.instance.timeout.ms = 60000");
    let (topic, group) = (unique("life"), unique("group"));
    let (first, second) = (format!("/consumers/{group}/instances/one"), format!("/consumers/{group}/instances/two"));
    let records = r#"{"records":[{"key":"a","value":{"n":0,"x":1.50}},{"key":{"k":1},"value":null},{"value":[2]}]}"#;
    let posted = gateway.call("POST", &format!("/topics/{topic}"), &[("Content-Type", JSON_V2)], records);
    assert_eq!((posted.status, &posted.json()["offsets"][2]["offset"]), (200, &json!(2)), "{posted:?}");

    gateway.call("GET", &format!("{first}/records"), &[], "").says(404, "Consumer instance not found");
    subscribe(&gateway, &group, "one", &topic, ",\"auto.commit.enable\":\"false\"");
    let again = gateway.call("POST", &format!("/consumers/{group}"), &[], "{\"name\":\"one\",\"format\":\"json\"}");
    assert_eq!((again.status, &again.json()["error_code"]), (409, &json!(40902)), "{again:?}");
    gateway.call("GET", &format!("{first}/subscription"), &[], "").is(200, json!({"topics": [topic]}));
    let wrong = gateway.call("GET", &format!("{first}/records"), &[("Accept", "application/vnd.kafka.v2+json")], "");
    wrong.says(406, "Accept must be application/vnd.kafka.json.v2+json");
    let binary = gateway.call("GET", &format!("{first}/records"), &[("Accept", BINARY_V2)], "");
    assert_eq!((binary.status, &binary.json()["error_code"]), (406, &json!(40601)), "{binary:?}");

    let expected = |offset: i64, key: Value, value: Value| json!({"topic": topic, "key": key, "value": value, "partition": 0, "offset": offset});
    let all = [
        expected(0, json!("a"), json!({"n": 0, "x": 1.5})),
        expected(1, json!({"k": 1}), Value::Null),
        expected(2, Value::Null, json!([2])),
    ];
    assert_eq!(read(&gateway, &first, 3), all);
    gateway
        .call("GET", &format!("{first}/assignments"), &[], "")
        .is(200, json!({"partitions": [{"topic": topic, "partition": 0}]}));
    let offsets = format!("{first}/offsets");
    gateway.call("GET", &offsets, &[], "").is(200, json!({"offsets": []}));
    // As in REST Proxy, what is sent is the last record that was processed.
    let commit = format!("{{\"offsets\":[{{\"topic\":\"{topic}\",\"partition\":0,\"offset\":0}}]}}");
    assert_eq!(gateway.call("POST", &offsets, &[], &commit).status, 204);
    let stored = |offset: i64| json!({"offsets": [{"topic": topic, "partition": 0, "offset": offset, "metadata": ""}]});
    gateway.call("GET", &offsets, &[], "").is(200, stored(1));
    assert_eq!(gateway.call("DELETE", &first, &[], "").status, 204);
    gateway.call("DELETE", &first, &[], "").says(404, "Consumer instance not found");

    // Its successor begins where it committed, and commits by itself when it goes.
    subscribe(&gateway, &group, "two", &topic, "");
    assert_eq!(read(&gateway, &second, 2), all[1..]);
    let seek = format!("{{\"offsets\":[{{\"topic\":\"{topic}\",\"partition\":0,\"offset\":2}}]}}");
    assert_eq!(gateway.call("POST", &format!("{second}/positions"), &[], &seek).status, 204);
    assert_eq!(read(&gateway, &second, 1), all[2..]);
    assert_eq!(gateway.call("DELETE", &second, &[], "").status, 204);
    subscribe(&gateway, &group, "two", &topic, "");
    let offsets = gateway.call(
        "GET",
        &format!("{second}/offsets"),
        &[],
        &format!("{{\"partitions\":[{{\"topic\":\"{topic}\",\"partition\":0}}]}}"),
    );
    offsets.is(200, stored(3));
    gateway.running.stop().exits_with(0);
}

#[test]
fn a_consumers_life_on_embedded_topics() {
    a_consumers_life("embedded");
}

#[test]
fn a_consumers_life_on_kafka() {
    a_consumers_life(&services::kafka());
}

#[test]
fn what_is_posted_reaches_a_real_broker_where_it_was_sent() {
    let folder = temp_dir();
    let kafka = Kafka::connect();
    let gateway = Gateway::on(kafka.servers(), folder.path(), "");
    let topic = unique("posted");
    kafka.make_topic(&topic, 2);
    let body = r#"{"records":[{"key":"k","value":{"n":0},"partition":1},{"value":{"n":1},"partition":0},{"key":1,"value":null,"partition":1}]}"#;
    let posted = gateway.call("POST", &format!("/topics/{topic}"), &[("Content-Type", JSON_V2)], body);
    let place = |partition: i32, offset: i64| json!({"partition": partition, "offset": offset, "error_code": null, "error": null});
    posted.is(
        200,
        json!({"offsets": [place(1, 0), place(0, 0), place(1, 1)], "key_schema_id": null, "value_schema_id": null}),
    );
    let found: Vec<(i32, Option<String>, Option<String>)> = kafka
        .read(&topic)
        .into_iter()
        .flat_map(|(place, records)| records.into_iter().map(move |record| (place.1, record)))
        .map(|(partition, record)| {
            let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8(bytes).expect("text"));
            (partition, text(record.key), text(record.value))
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(found, [(0, None, some("{\"n\":1}")), (1, some("\"k\""), some("{\"n\":0}")), (1, some("1"), None)]);
}

#[test]
fn instances_have_an_end_and_a_number() {
    let folder = temp_dir();
    let sink = config::sink("lake", "t", &format!("file:{}", folder.path().join("lake").display()), "b", 10);
    let gateway =
        Gateway::start(folder.path(), &format!("consumer.instance.timeout.ms = 300\nconsumers.max = 2\n{sink}"));
    let make = |group: &str, body: &str| gateway.call("POST", &format!("/consumers/{group}"), &[], body);
    assert_eq!(make("g", "{\"name\":\"a\"}").status, 200);
    assert_eq!(make("g", "").status, 200);
    make("g", "").says(429, "there are 2 consumer instances already");
    ottla_tests::wait::until("the end of idle instances", SOON, || {
        let answered = make("g", "{\"name\":\"a\"}");
        if answered.status == 200 { Ok(()) } else { Err(answered.body) }
    });
    make("connect-lake", "").says(422, "group 'connect-lake' belongs to connector 'lake' of this worker");
    make("g", "{\"format\":\"avro\"}").says(422, "format must be json or binary");
    make("g", "{\"offset.reset\":\"x\"}").says(422, "Unrecognized field: offset.reset");
}
