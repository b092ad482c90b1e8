//! Every route, in one table, and what is told to whoever missed them.

use percent_encoding::percent_decode_str;

use crate::error::Api;

/// A route: a verb, a path, and what it does.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// Segments in braces stand for any text.
    pub(crate) path: &'static str,
    pub(crate) action: Action,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Routes,
    Topics,
    Topic,
    Produce,
    Partitions,
    Partition,
    PartitionOffsets,
    CreateConsumer,
    DeleteConsumer,
    Subscribe,
    Subscription,
    Unsubscribe,
    Assignments,
    Records,
    Commit,
    Committed,
    Seek,
    SeekToBeginning,
    SeekToEnd,
    ListStreams,
    CreateStream,
    DescribeStream,
    DeleteStream,
    PutRecord,
    PutRecords,
    ShardIterator,
    GetRecords,
}

const fn route(method: &'static str, path: &'static str, action: Action) -> Route {
    Route { method, path, action }
}

/// All of them. Of two that fit equally well, the first is the one that was probably meant.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    route("POST",   "/topics/{topic}",                                             Action::Produce),
    route("POST",   "/topics/{topic}/partitions/{partition}",                      Action::Produce),
    route("GET",    "/topics",                                                     Action::Topics),
    route("GET",    "/topics/{topic}",                                             Action::Topic),
    route("GET",    "/topics/{topic}/partitions",                                  Action::Partitions),
    route("GET",    "/topics/{topic}/partitions/{partition}",                      Action::Partition),
    route("GET",    "/topics/{topic}/partitions/{partition}/offsets",              Action::PartitionOffsets),
    route("POST",   "/consumers/{group}",                                          Action::CreateConsumer),
    route("DELETE", "/consumers/{group}/instances/{instance}",                     Action::DeleteConsumer),
    route("POST",   "/consumers/{group}/instances/{instance}/subscription",        Action::Subscribe),
    route("GET",    "/consumers/{group}/instances/{instance}/subscription",        Action::Subscription),
    route("DELETE", "/consumers/{group}/instances/{instance}/subscription",        Action::Unsubscribe),
    route("GET",    "/consumers/{group}/instances/{instance}/assignments",         Action::Assignments),
    route("GET",    "/consumers/{group}/instances/{instance}/records",             Action::Records),
    route("POST",   "/consumers/{group}/instances/{instance}/offsets",             Action::Commit),
    route("GET",    "/consumers/{group}/instances/{instance}/offsets",             Action::Committed),
    route("POST",   "/consumers/{group}/instances/{instance}/positions",           Action::Seek),
    route("POST",   "/consumers/{group}/instances/{instance}/positions/beginning", Action::SeekToBeginning),
    route("POST",   "/consumers/{group}/instances/{instance}/positions/end",       Action::SeekToEnd),
    route("PUT",    "/streams/{stream}/record",                                    Action::PutRecord),
    route("POST",   "/streams/{stream}/record",                                    Action::PutRecord),
    route("PUT",    "/streams/{stream}/records",                                   Action::PutRecords),
    route("POST",   "/streams/{stream}/records",                                   Action::PutRecords),
    route("GET",    "/streams",                                                    Action::ListStreams),
    route("POST",   "/streams/{stream}",                                           Action::CreateStream),
    route("GET",    "/streams/{stream}",                                           Action::DescribeStream),
    route("DELETE", "/streams/{stream}",                                           Action::DeleteStream),
    route("GET",    "/streams/{stream}/sharditerator",                             Action::ShardIterator),
    route("GET",    "/streams/{stream}/records",                                   Action::GetRecords),
    route("GET",    "/",                                                           Action::Routes),
];

impl Route {
    fn segments(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter(|segment| !segment.is_empty())
    }

    /// As people write it: `POST /topics/{topic}`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The names of all routes.
pub(crate) fn names() -> Vec<String> {
    ROUTES.iter().map(Route::name).collect()
}

/// A route that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) route: &'static Route,
    /// What stands for the segments in braces, decoded, in order.
    pub(crate) params: Vec<String>,
    /// What stood in front of the path: `/test`, or nothing.
    pub(crate) stage: String,
}

/// No route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// A segment is not text in UTF-8.
    NotText,
    /// The path exists, for these verbs.
    Method(Vec<&'static str>),
    /// The path does not exist; this route is the nearest.
    Path(Option<String>),
}

/// Finds a route. One segment in front of it is taken for the stage of an API gateway (`/test/topics/..`, `/prod/streams/..`),
/// and empty segments don't count: a base URL that ends with `/` is no mistake.
pub(crate) fn find(method: &str, path: &str) -> Result<Found, Missed> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    let segments = segments.map(|segment| percent_decode_str(segment).decode_utf8().map(std::borrow::Cow::into_owned));
    let segments = segments.collect::<Result<Vec<_>, _>>().map_err(|_| Missed::NotText)?;
    let mut verbs = Vec::new();
    for (stage, rest) in readings(&segments) {
        for route in ROUTES {
            let Some(params) = fit(route, rest) else { continue };
            // What asks for a head only gets the answer without its body.
            if route.method == method || (method == "HEAD" && route.method == "GET") {
                return Ok(Found { route, params, stage });
            }
            verbs.push(route.method);
        }
        if !verbs.is_empty() {
            return Err(Missed::Method(verbs));
        }
    }
    Err(Missed::Path(nearest(method, &segments)))
}

/// Whose conventions an answer to this path follows.
pub(crate) fn api(path: &str) -> Api {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let near = |segment: &str| strsim::normalized_damerau_levenshtein(segment, "streams") >= 0.7;
    let first = segments.next().unwrap_or_default();
    let behind_a_stage = !is_a_route(first) && segments.next().is_some_and(near);
    if near(first) || behind_a_stage { Api::Kinesis } else { Api::Kafka }
}

/// The path as it is, and without the stage in front of it.
fn readings(segments: &[String]) -> Vec<(String, &[String])> {
    let mut readings = vec![(String::new(), segments)];
    // A segment alone is no stage but a path that is not there: `/topic`, `/favicon.ico`.
    if let [stage, rest @ ..] = segments
        && !rest.is_empty()
        && !is_a_route(stage)
    {
        readings.push((format!("/{stage}"), rest));
    }
    readings
}

/// True where routes begin so, which a stage can't be called then.
fn is_a_route(segment: &str) -> bool {
    ROUTES.iter().any(|route| route.segments().next() == Some(segment))
}

fn fit(route: &Route, segments: &[String]) -> Option<Vec<String>> {
    let mut params = Vec::new();
    let mut rest = segments.iter();
    for pattern in route.segments() {
        let segment = rest.next()?;
        if pattern.starts_with('{') {
            params.push(segment.clone());
        } else if pattern != segment {
            return None;
        }
    }
    rest.next().is_none().then_some(params)
}

/// The route that was probably meant.
fn nearest(method: &str, segments: &[String]) -> Option<String> {
    let mut best: Option<(f64, &Route)> = None;
    for (_, rest) in readings(segments) {
        for route in ROUTES.iter().filter(|route| route.action != Action::Routes) {
            let patterns = route.segments().collect::<Vec<_>>();
            let mut score = 0.0;
            let mut alike = true;
            for (pattern, segment) in patterns.iter().zip(rest) {
                let one = if pattern.starts_with('{') {
                    // A word of another route is no name: `/topics/partitions` misses the topic.
                    0.9
                } else {
                    strsim::normalized_damerau_levenshtein(pattern, &segment.to_lowercase())
                };
                alike &= one >= 0.5;
                score += one;
            }
            let longer = patterns.len().max(rest.len());
            let score = score / longer as f64 - if route.method == method { 0.0 } else { 0.1 };
            if alike && !rest.is_empty() && score >= 0.4 && best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, route));
            }
        }
    }
    best.map(|(_, route)| route.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> (Action, Vec<String>, String) {
        let found = find(method, path).unwrap_or_else(|missed| panic!("{method} {path}: {missed:?}"));
        (found.route.action, found.params, found.stage)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn every_route_is_found_plain_and_behind_any_stage() {
        for route in ROUTES {
            let path = route.path.replace(['{', '}'], "");
            let stages: &[&str] = if path == "/" { &[""] } else { &["", "/test", "/prod", "/v1.2"] };
            for stage in stages {
                let (action, _, found_stage) = found(route.method, &format!("{stage}{path}"));
                assert_eq!((action, found_stage.as_str()), (route.action, *stage), "{}", route.name());
            }
        }
    }

    #[test]
    fn names_are_decoded_once_and_slashes_too_many_do_not_count() {
        assert_eq!(found("POST", "//topics//a%2Fb%2520c/"), (Action::Produce, texts(&["a/b%20c"]), String::new()));
        assert_eq!(found("HEAD", "/test//topics").0, Action::Topics);
        assert_eq!(find("GET", "/topics/%ff").unwrap_err(), Missed::NotText);
    }

    #[test]
    fn names_like_routes_are_names_where_a_name_stands() {
        assert_eq!(found("POST", "/topics/streams"), (Action::Produce, texts(&["streams"]), String::new()));
        assert_eq!(found("PUT", "/streams/topics/record").1, texts(&["topics"]));
        // The first segment is a route, so it is no stage.
        assert!(matches!(find("GET", "/topics/topics/x/y"), Err(Missed::Path(_))));
    }

    #[test]
    fn a_wrong_verb_is_told_the_right_ones() {
        assert_eq!(find("GET", "/test/streams/x/record").unwrap_err(), Missed::Method(vec!["PUT", "POST"]));
        assert_eq!(find("DELETE", "/streams/x/records").unwrap_err(), Missed::Method(vec!["PUT", "POST", "GET"]));
        assert_eq!(find("PUT", "/topics/x").unwrap_err(), Missed::Method(vec!["POST", "GET"]));
    }

    #[test]
    fn a_wrong_path_is_told_the_nearest_one() {
        let nearest = |method: &str, path: &str| match find(method, path) {
            Err(Missed::Path(nearest)) => nearest.unwrap_or_default(),
            other => panic!("{method} {path}: {other:?}"),
        };
        assert_eq!(nearest("POST", "/topic/x.pin"), "POST /topics/{topic}");
        assert_eq!(nearest("POST", "/test/topic/x.pin"), "POST /topics/{topic}");
        assert_eq!(nearest("POST", "/TOPICS/x.pin"), "POST /topics/{topic}");
        assert_eq!(nearest("PUT", "/prod/stream/x/record"), "PUT /streams/{stream}/record");
        assert_eq!(nearest("PUT", "/streams/x/rekord"), "PUT /streams/{stream}/record");
        assert_eq!(nearest("POST", "/topics/x/records"), "POST /topics/{topic}");
        assert_eq!(
            nearest("GET", "/consumers/g/instance/i/records"),
            "GET /consumers/{group}/instances/{instance}/records"
        );
        assert_eq!(nearest("GET", "/topic"), "GET /topics");
        assert_eq!(nearest("GET", "/favicon.ico"), "");
    }

    #[test]
    fn answers_follow_the_conventions_of_the_path() {
        assert_eq!(api("/test/streams/x/record"), Api::Kinesis);
        assert_eq!(api("/stream/x/record"), Api::Kinesis);
        assert_eq!(api("/topics/streams"), Api::Kafka);
        assert_eq!(api("/nothing"), Api::Kafka);
    }
}
