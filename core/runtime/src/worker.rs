//! The worker: starts connectors and tasks, restarts what fails, stops in order.
//!
//! Whoever starts a task waits for it. Every task runs under a supervisor of its own, so a bug in one, even a panic, fails
//! that task only (G6). Stopping means: take nothing new, finish what is in flight, commit, close; a deadline turns that into
//! abandoning what is left, which loses nothing, because what was not committed is delivered again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ottla_api::config::{Config as _, Properties};
use ottla_api::offset::Positions;
use ottla_api::plugin::{Constructor, PluginKind};
use ottla_api::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::broker::embedded::EmbeddedBroker;
use crate::broker::kafka::KafkaBroker;
use crate::broker::{Broker, ConsumerSpec, NewTopic, Subscription, TransactionSpec, Transactions};
use crate::config::{
    Boundary, Configuration, ConnectorConfig, ExactlyOnce, ExactlyOnceSources, SinkInput, SourceConfig,
};
use crate::errors::ErrorHandler;
use crate::errors::dead_letter_queue::DeadLetterQueue;
use crate::errors::retry::{Backoff, retry};
use crate::plugins::config_providers::Providers;
use crate::status::{ConnectorStatus, MemoryBudget, TaskState, TaskStatus, WorkerStatus};
use crate::storage::StateStore;
use crate::task::TaskEnd;
use crate::task::conversion::Conversion;
use crate::task::sink::WorkerSinkTask;
use crate::task::source::WorkerSourceTask;
use crate::task::transformation_chain::TransformationChain;
use crate::topics::TopicsServer;

/// Most records that a consumer hands over at once (Kafka Connect's `max.poll.records`).
const BATCH_RECORDS_MAX: usize = 500;
/// Bytes that all tasks of a sink together fetch ahead of what they have taken. They are beside the memory budget, and part of
/// what a worker takes at least.
const AHEAD_BYTES_MAX: usize = 16 << 20;
/// The least that each of them may, however many there are.
const AHEAD_BYTES_MIN: usize = 512 << 10;

/// How long abandoned tasks have to let go of what they hold.
const ABANDONED_END_WITHIN: Duration = Duration::from_secs(1);

/// When a run ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// After this time.
    Elapsed(Duration),
    /// When the bounded sources have finished and every sink has made durable all that was in its topics then.
    CaughtUp {
        /// How long something may be out of reach before the run gives up.
        give_up_after: Duration,
    },
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Tasks that had failed, or were out of reach, when the run ended: `connector-task` and why.
    pub failures: Vec<(String, Arc<Error>)>,
    /// True where the graceful stop took too long and the rest was abandoned.
    pub abandoned: bool,
}

impl Outcome {
    /// The exit code: 0 done, 1 failed while running, 2 invalid configuration, 3 could not reach something.
    pub fn exit_code(&self) -> u8 {
        let code = |error: &Error| match error.kind() {
            ErrorKind::Config => 2,
            ErrorKind::Unreachable | ErrorKind::RefreshAuth => 3,
            _ => 1,
        };
        // A failure while running says more than something out of reach.
        let codes: Vec<u8> = self.failures.iter().map(|(_, error)| code(error)).collect();
        match codes.iter().min() {
            Some(least) => *least,
            None => u8::from(self.abandoned),
        }
    }
}

/// One process that runs connectors and tasks.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    /// One supervisor a task; each returns what its task failed with for good.
    supervisors: JoinSet<Option<(String, Arc<Error>)>>,
    catch_up: BTreeMap<Arc<str>, watch::Sender<Option<Arc<Positions>>>>,
    sinks: Vec<Sink>,
    topics_server: Option<TopicsServer>,
    broker: Arc<dyn Broker>,
    /// What others have added: listeners that end in order.
    services: JoinSet<()>,
    background: JoinSet<()>,
}

/// What the worker remembers of a sink connector, to see how far it is.
#[derive(Debug, Clone)]
struct Sink {
    name: Arc<str>,
    input: SinkInput,
    broker: Arc<dyn Broker>,
    status: Arc<ConnectorStatus>,
}

/// What supervisors share.
#[derive(Debug)]
struct Shared {
    configuration: Configuration,
    providers: Providers,
    store: Arc<StateStore>,
    memory: Arc<MemoryBudget>,
    status: Arc<WorkerStatus>,
    /// Asks every task to stop.
    stop: CancellationToken,
    /// A failed task is started again, unless the run is a batch that should end and say so.
    restart: bool,
}

impl Worker {
    /// Opens the state folder and starts every connector.
    ///
    /// # Errors
    ///
    /// Where the state folder is in use or can't be opened, or a connector's configuration can't work. What can't be reached
    /// is no error here: it is tried again, and the status says so.
    pub async fn start(configuration: Configuration, until: Until) -> Result<Self> {
        let worker = &configuration.worker;
        let store = StateStore::open(&worker.state_dir, worker.embedded_fsync)?;
        let memory = MemoryBudget::new(usize::try_from(worker.memory_max.0).unwrap_or(usize::MAX));
        let shared = Arc::new(Shared {
            providers: Providers::build(&configuration.providers)?,
            store,
            memory,
            status: Arc::default(),
            stop: CancellationToken::new(),
            restart: !matches!(until, Until::CaughtUp { .. }),
            configuration,
        });
        let mut brokers = Brokers { shared: &shared, made: BTreeMap::new() };
        let main = brokers.get(&shared.configuration.worker.bootstrap_servers)?;
        let mut worker = Self {
            shared: Arc::clone(&shared),
            supervisors: JoinSet::new(),
            catch_up: BTreeMap::new(),
            sinks: Vec::new(),
            topics_server: None,
            broker: Arc::clone(&main),
            services: JoinSet::new(),
            background: JoinSet::new(),
        };
        // The topics can be looked at beside the running worker: the state folder itself is locked by it.
        worker.topics_server = Some(TopicsServer::serve(&shared.configuration.worker.state_dir, main).await?);
        if let Some(address) = &shared.configuration.worker.metrics_listener {
            let status = Arc::clone(&shared.status);
            let memory = Arc::clone(&shared.memory);
            let serving = crate::metrics::serve(address, status, memory, shared.stop.clone()).await?;
            worker.background.spawn(serving);
        }
        for connector in shared.configuration.connectors.clone() {
            let servers =
                connector.client.get("bootstrap.servers").unwrap_or(&shared.configuration.worker.bootstrap_servers);
            let broker = brokers.get(servers)?;
            match connector.plugin.constructor {
                Constructor::Source(_) => worker.start_source(connector, broker)?,
                Constructor::Sink(_) => worker.start_sink(connector, broker)?,
                _ => return Err(Error::config(format!("'{}' is not a connector", connector.plugin.name))),
            }
        }
        let (sinks, stop) = (worker.sinks.clone(), shared.stop.clone());
        worker.background.spawn(async move { watch_lag(&sinks, &stop).await });
        Ok(worker)
    }

    /// What runs, and how it is.
    pub fn status(&self) -> Arc<WorkerStatus> {
        Arc::clone(&self.shared.status)
    }

    /// The configuration that it runs.
    pub fn configuration(&self) -> &Configuration {
        &self.shared.configuration
    }

    /// The worker's own broker: what `bootstrap.servers` of its table names.
    pub fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker)
    }

    /// The providers that resolve `${provider:path:key}`.
    pub fn providers(&self) -> &Providers {
        &self.shared.providers
    }

    /// Runs something beside the connectors, such as a listener. It should end by itself when [`stop_token`](Self::stop_token)
    /// is cancelled, and has the graceful stop's time for that.
    pub fn spawn(&mut self, service: impl Future<Output = ()> + Send + 'static) {
        self.services.spawn(service);
    }

    /// Asks everything to stop, from anywhere; [`run`](Self::run) then returns.
    pub fn stop_token(&self) -> CancellationToken {
        self.shared.stop.clone()
    }

    /// Runs until the end that was chosen, or until a stop is asked for, and stops in order.
    pub async fn run(mut self, until: Until) -> Outcome {
        let stop = self.shared.stop.clone();
        let mut failures = Vec::new();
        let mut give_up = None;
        {
            let sources_and_sinks = async {
                match until {
                    Until::Stopped => std::future::pending().await,
                    Until::Elapsed(duration) => tokio::time::sleep(duration).await,
                    Until::CaughtUp { give_up_after } => {
                        tokio::select! {
                            () = caught_up(&self.shared.status, &self.sinks, &self.catch_up) => {}
                            unreachable = out_of_reach(&self.shared.status, give_up_after) => give_up = Some(unreachable),
                        }
                    }
                }
            };
            let batch = matches!(until, Until::CaughtUp { .. });
            let supervisors = &mut self.supervisors;
            let a_failure = async {
                // Only a batch ends at the first failure; otherwise supervisors restart their tasks and return when stopped.
                while let Some(ended) = supervisors.join_next().await {
                    if let Ok(Some(failure)) = ended {
                        failures.push(failure);
                        if batch {
                            return;
                        }
                    }
                }
                // Every task has ended; in a batch the sinks' ends are waited for by the other branch.
                std::future::pending::<()>().await
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sources_and_sinks => {}
                () = a_failure => {}
            }
        }
        stop.cancel();
        failures.extend(give_up);
        let abandoned = !self.wait_for_all(&mut failures).await;
        // What failed and waited for its restart when the stop came is a failure of the run too.
        for connector in self.shared.status.connectors() {
            for task in connector.tasks() {
                let id = format!("{}-{}", connector.name, task.number);
                if let TaskState::Failed { error } = task.state()
                    && !failures.iter().any(|(known, _)| *known == id)
                {
                    failures.push((id, error));
                }
            }
        }
        let timeout = self.shared.configuration.worker.shutdown_timeout;
        if tokio::time::timeout(timeout, async { while self.services.join_next().await.is_some() {} }).await.is_err() {
            self.services.shutdown().await;
        }
        if let Some(server) = self.topics_server.take() {
            server.stop().await;
        }
        self.background.shutdown().await;
        Outcome { failures, abandoned }
    }

    /// Waits until every supervisor has ended; false where the deadline came first.
    async fn wait_for_all(&mut self, failures: &mut Vec<(String, Arc<Error>)>) -> bool {
        let timeout = self.shared.configuration.worker.shutdown_timeout;
        let all = async {
            while let Some(ended) = self.supervisors.join_next().await {
                if let Ok(Some(failure)) = ended {
                    failures.push(failure);
                }
            }
        };
        if tokio::time::timeout(timeout, all).await.is_ok() {
            return true;
        }
        let still_there = |task: &Arc<TaskStatus>| {
            !matches!(task.state(), TaskState::Stopped | TaskState::Finished | TaskState::Failed { .. })
        };
        let connectors = self.shared.status.connectors();
        let left = connectors.iter().flat_map(|connector| {
            let tasks = connector.tasks().into_iter().filter(still_there);
            tasks.map(|task| format!("{}-{}", connector.name, task.number)).collect::<Vec<_>>()
        });
        warn!(
            timeout_ms = timeout.as_millis() as u64,
            tasks = %left.collect::<Vec<_>>().join(", "),
            "task.shutdown.graceful.timeout.ms has passed; what is left is abandoned and will be delivered again"
        );
        // A task ends where it waits next. One whose plugin holds its thread never gets there.
        if tokio::time::timeout(ABANDONED_END_WITHIN, self.supervisors.shutdown()).await.is_err() {
            warn!("tasks that were abandoned go on: what holds them does not come back");
            self.supervisors.detach_all();
        }
        false
    }

    fn start_source(&mut self, config: ConnectorConfig, broker: Arc<dyn Broker>) -> Result<()> {
        let status = self.add_connector(&config, None);
        let Constructor::Source(make) = config.plugin.constructor else { unreachable!("checked by the caller") };
        let config = Arc::new(config);
        // The number of tasks is the connector's choice; the tasks themselves are made by the supervisors, again and again.
        let resolved = self.shared.providers.resolve(&config.properties);
        let divided = resolved.and_then(|properties| {
            let count = make().tasks(&properties, config.tasks_max)?.len();
            Ok((properties, Some(count)))
        });
        let (properties, count) = match divided {
            // The fault of a plugin must not keep the other connectors from starting: one task fails with it.
            Err(error) if error.kind() == ErrorKind::Fatal => (config.properties.clone(), None),
            divided => divided?,
        };
        let exactly_once = self.exactly_once(&config, &properties, &*broker, count.unwrap_or(1))?;
        for number in 0..count.unwrap_or(1) {
            let task_status = status.add_task();
            let (shared, config, broker) = (Arc::clone(&self.shared), Arc::clone(&config), Arc::clone(&broker));
            let status = Arc::clone(&status);
            let exactly_once = exactly_once.clone();
            let one = OneTask { shared: Arc::clone(&shared), config, broker, exactly_once, status, task_status };
            self.supervise(one, move |one| async move { one.run_source(number, count).await });
        }
        Ok(())
    }

    /// What makes a source's records and offsets one transaction, where the configuration asks for it and the broker needs more
    /// than a send for that.
    fn exactly_once(
        &self,
        config: &ConnectorConfig,
        properties: &Properties,
        broker: &dyn Broker,
        tasks: usize,
    ) -> Result<Option<ExactlyOnceSource>> {
        let worker = &self.shared.configuration.worker;
        let source = SourceConfig::from_properties(properties)
            .map_err(|errors| Error::config(errors.to_string()).during(format!("connector '{}'", config.name)))?;
        if source.exactly_once_support != ExactlyOnce::Required
            && worker.exactly_once_source_support != ExactlyOnceSources::Enabled
        {
            return Ok(None);
        }
        let spec = TransactionSpec {
            connector: config.name.as_str().into(),
            tasks,
            tasks_max: config.tasks_max,
            group: worker.group_id.clone(),
            offsets_topic: source.offsets_storage_topic.unwrap_or_else(|| worker.offset_storage_topic.clone()),
            fallback_topic: worker.offset_storage_topic.clone(),
            partitions: usize::try_from(worker.offset_storage_partitions).ok(),
            replication_factor: usize::try_from(worker.offset_storage_replication_factor).ok(),
            settings: self.shared.providers.resolve(&config.client)?,
        };
        let Some(transactions) = broker.transactions(spec)? else { return Ok(None) };
        let gather = match source.transaction_boundary {
            Boundary::Interval => Some(source.transaction_boundary_interval.unwrap_or(worker.offset_flush_interval)),
            Boundary::Poll | Boundary::Connector => None,
        };
        Ok(Some(ExactlyOnceSource { transactions, gather }))
    }

    fn start_sink(&mut self, config: ConnectorConfig, broker: Arc<dyn Broker>) -> Result<()> {
        let Constructor::Sink(make) = config.plugin.constructor else { unreachable!("checked by the caller") };
        let Some(input) = config.sink.clone() else {
            return Err(Error::config(format!("connector '{}' has no topics", config.name)));
        };
        let destination = match self.shared.providers.resolve(&config.properties) {
            // The fault of a plugin, with which the tasks fail: the other connectors start all the same.
            Err(error) if error.kind() == ErrorKind::Fatal => None,
            properties => make().destination(&properties?),
        };
        let status = self.add_connector(&config, destination);
        let config = Arc::new(config);
        let (sender, catch_up) = watch::channel(None);
        self.catch_up.insert(Arc::clone(&status.name), sender);
        self.sinks.push(Sink {
            name: Arc::clone(&status.name),
            input: input.clone(),
            broker: Arc::clone(&broker),
            status: Arc::clone(&status),
        });
        for _ in 0..config.tasks_max {
            let one = OneTask {
                shared: Arc::clone(&self.shared),
                config: Arc::clone(&config),
                broker: Arc::clone(&broker),
                exactly_once: None,
                status: Arc::clone(&status),
                task_status: status.add_task(),
            };
            let (input, catch_up) = (input.clone(), catch_up.clone());
            self.supervise(one, move |one| {
                let (input, catch_up) = (input.clone(), catch_up.clone());
                async move { one.run_sink(input, catch_up).await }
            });
        }
        Ok(())
    }

    fn add_connector(&self, config: &ConnectorConfig, destination: Option<String>) -> Arc<ConnectorStatus> {
        let dead_letters = config.errors.dead_letter_topic.clone().filter(|topic| !topic.trim().is_empty());
        let status = Arc::new(ConnectorStatus::new(
            config.name.as_str(),
            config.plugin.kind(),
            config.plugin.name,
            destination,
            dead_letters,
        ));
        self.shared.status.add(Arc::clone(&status));
        status
    }

    /// Runs a task again and again until it ends by itself or a stop is asked for.
    fn supervise<F, R>(&mut self, one: OneTask, run: F)
    where
        F: Fn(OneTask) -> R + Send + 'static,
        R: Future<Output = Result<TaskEnd>> + Send + 'static,
    {
        let id = format!("{}-{}", one.config.name, one.task_status.number);
        let span = info_span!("task", id = %id);
        self.supervisors.spawn(
            async move {
                let (shared, status) = (Arc::clone(&one.shared), Arc::clone(&one.task_status));
                let worker = &shared.configuration.worker;
                let mut backoff = Backoff::new(worker.restart_backoff, worker.restart_backoff_max);
                loop {
                    let started = Instant::now();
                    // A task of its own, so that a panic ends here.
                    let mut running = JoinSet::new();
                    running.spawn(run(one.clone()).in_current_span());
                    let ended = match running.join_next().await {
                        Some(Ok(ended)) => ended,
                        Some(Err(panic)) => Err(Error::fatal(format!("the task panicked: {}", panic_message(panic)))),
                        None => unreachable!("one task was spawned"),
                    };
                    let error = match ended {
                        Ok(end) => {
                            status.set(if end == TaskEnd::Finished { TaskState::Finished } else { TaskState::Stopped });
                            return None;
                        }
                        Err(error) => Arc::new(error),
                    };
                    status.set(TaskState::Failed { error: Arc::clone(&error) });
                    // Who was fenced must not fence back: the two would take turns for ever.
                    let taken_over = one.exactly_once.as_ref().is_some_and(|one| one.transactions.taken_over());
                    if !shared.restart || taken_over {
                        error!(error = %error, "failed");
                        return Some((id, error));
                    }
                    if started.elapsed() > worker.restart_backoff_max {
                        backoff = Backoff::new(worker.restart_backoff, worker.restart_backoff_max);
                    }
                    let pause = backoff.next_pause();
                    error!(error = %error, restart_in_ms = pause.as_millis() as u64, "failed");
                    tokio::select! {
                        () = shared.stop.cancelled() => return Some((id, error)),
                        () = tokio::time::sleep(pause) => {}
                    }
                    one.status.counters.restarts.fetch_add(1, Relaxed);
                    status.set(TaskState::Starting);
                }
            }
            .instrument(span),
        );
    }
}

/// Everything that one task is made from, for each of its starts.
#[derive(Clone)]
struct OneTask {
    shared: Arc<Shared>,
    config: Arc<ConnectorConfig>,
    broker: Arc<dyn Broker>,
    exactly_once: Option<ExactlyOnceSource>,
    status: Arc<ConnectorStatus>,
    task_status: Arc<TaskStatus>,
}

/// A source whose records and offsets are written in transactions.
#[derive(Debug, Clone)]
struct ExactlyOnceSource {
    transactions: Arc<dyn Transactions>,
    /// How long a transaction gathers batches; none for one each.
    gather: Option<Duration>,
}

impl OneTask {
    /// Runs the task of this number. `count` is how many there were at the start, where the connector could say so.
    async fn run_source(self, number: usize, count: Option<usize>) -> Result<TaskEnd> {
        let (shared, config) = (&self.shared, &self.config);
        let Constructor::Source(make) = config.plugin.constructor else { unreachable!("started as a source") };
        let mut tasks = make().tasks(&shared.providers.resolve(&config.properties)?, config.tasks_max)?;
        if number >= tasks.len() {
            return Err(Error::fatal("the connector divides its work differently now"));
        }
        if count.is_none() && tasks.len() > 1 {
            return Err(Error::fatal(format!(
                "the connector could not divide its work at the start, and has {} tasks now: start the worker again",
                tasks.len()
            )));
        }
        let client_id = format!("connector-producer-{}-{number}", config.name);
        let settings = shared.providers.resolve(&config.client)?;
        let producer = match &self.exactly_once {
            // Fencing may take its time. A stop need not wait for it: nothing has been read yet.
            Some(source) => tokio::select! {
                () = shared.stop.cancelled() => None,
                made = self.connect(|| Arc::clone(&source.transactions).producer(number)) => made?,
            },
            None => self.connect(|| self.broker.producer(&client_id, &settings)).await?,
        };
        let Some(producer) = producer else { return Ok(TaskEnd::Stopped) };
        let offsets = match &self.exactly_once {
            Some(source) => source.transactions.offsets(),
            None => self.broker.source_offsets(),
        };
        let chain = TransformationChain::build(&config.chain, &shared.providers)?;
        let errors = ErrorHandler::new(self.id(), config.errors.clone(), Arc::clone(&self.status), None);
        let task = WorkerSourceTask {
            connector: Arc::clone(&self.status.name),
            task: tasks.swap_remove(number),
            producer,
            offsets,
            gather: self.exactly_once.as_ref().and_then(|source| source.gather),
            conversion: Conversion::build(config, &shared.providers)?,
            chain,
            call_timeout: shared.configuration.worker.plugin_call_timeout,
            errors,
            status: Arc::clone(&self.status),
            task_status: Arc::clone(&self.task_status),
            state_dir: shared.configuration.worker.state_dir.clone(),
            stop: shared.stop.clone(),
        };
        task.run().await
    }

    async fn run_sink(self, input: SinkInput, catch_up: watch::Receiver<Option<Arc<Positions>>>) -> Result<TaskEnd> {
        let (shared, config) = (&self.shared, &self.config);
        let Constructor::Sink(make) = config.plugin.constructor else { unreachable!("started as a sink") };
        let number = self.task_status.number;
        let Some(dead_letters) = self.dead_letter_queue().await? else { return Ok(TaskEnd::Stopped) };
        let errors = ErrorHandler::new(self.id(), config.errors.clone(), Arc::clone(&self.status), dead_letters);
        let settings = shared.providers.resolve(&config.client)?;
        // A killed worker's successor on the same state folder takes its place without waiting for a session timeout. The
        // price: one that is killed for good leaves its partitions alone for that long. An empty name turns it off.
        let instance_id = match settings.get("group.instance.id") {
            None => Some(format!("ottla-{}-{}", shared.store.worker_id(), self.id())),
            Some("") => None,
            Some(chosen) => Some(format!("{chosen}-{}", self.id())),
        };
        let spec = ConsumerSpec {
            group: input.group,
            client_id: format!("connector-consumer-{}-{number}", config.name),
            instance_id,
            subscription: input.subscription,
            start: input.start,
            settings,
            batch_records_max: BATCH_RECORDS_MAX,
            ahead_bytes_max: (AHEAD_BYTES_MAX / config.tasks_max.max(1)).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX / 2),
        };
        let Some(consumer) = self.connect(|| self.broker.consumer(spec.clone())).await? else {
            return Ok(TaskEnd::Stopped);
        };
        let (stages, providers) = (config.chain.clone(), shared.providers.clone());
        let chain = move || TransformationChain::build(&stages, &providers);
        if number == 0 {
            for stage in chain()?.nondeterministic() {
                warn!(
                    stage,
                    "this transformation remembers earlier records, and forgets them at a restart: what it drops may differ \
                     between two deliveries of the same records"
                );
            }
        }
        let task = WorkerSinkTask {
            connector: Arc::clone(&self.status.name),
            task: make().task(&shared.providers.resolve(&config.properties)?)?,
            consumer,
            conversion: Arc::new(Conversion::build(config, &shared.providers)?),
            chain: Box::new(chain),
            errors: Arc::new(errors),
            status: Arc::clone(&self.status),
            task_status: Arc::clone(&self.task_status),
            state_dir: shared.configuration.worker.state_dir.clone(),
            memory: Arc::new(shared.memory.slot()),
            call_timeout: shared.configuration.worker.plugin_call_timeout,
            commit_interval: shared.configuration.worker.offset_flush_interval.max(Duration::from_millis(1)),
            commit_timeout: shared.configuration.worker.offset_flush_timeout,
            catch_up,
            tick_warned: None,
            stop: shared.stop.clone(),
        };
        task.run().await
    }

    fn id(&self) -> String {
        format!("{}-{}", self.config.name, self.task_status.number)
    }

    /// The dead letter queue, where one is configured; its topic is made if it is not there. The outer `None`: stopped.
    async fn dead_letter_queue(&self) -> Result<Option<Option<DeadLetterQueue>>> {
        let Some(name) = &self.status.dead_letter_topic else { return Ok(Some(None)) };
        let errors = &self.config.errors;
        let topic = NewTopic {
            name: name.trim().to_owned(),
            partitions: Some(1),
            replication_factor: usize::try_from(errors.dead_letter_replication_factor).ok(),
            settings: Properties::new(),
        };
        if self.connect(|| self.broker.create_topic(&topic)).await?.is_none() {
            return Ok(None);
        }
        let client_id = format!("connector-dlq-producer-{}", self.id());
        let settings = Properties::new();
        let Some(producer) = self.connect(|| self.broker.producer(&client_id, &settings)).await? else {
            return Ok(None);
        };
        let connector = Arc::clone(&self.status.name);
        Ok(Some(Some(DeadLetterQueue::new(name, connector, errors.dead_letter_context_headers, producer))))
    }

    /// Makes something of the broker's, trying again while it is out of reach. Nothing where a stop came first.
    async fn connect<T, F: Future<Output = Result<T>>>(&self, make: impl Fn() -> F) -> Result<Option<T>> {
        retry!("connect", &self.task_status, &self.shared.stop, make())
    }
}

/// One broker per address that the configuration names.
struct Brokers<'a> {
    shared: &'a Shared,
    made: BTreeMap<String, Arc<dyn Broker>>,
}

impl Brokers<'_> {
    fn get(&mut self, servers: &str) -> Result<Arc<dyn Broker>> {
        if let Some(broker) = self.made.get(servers) {
            return Ok(Arc::clone(broker));
        }
        let broker = open_broker(servers, &self.shared.configuration, &self.shared.providers, &self.shared.store)?;
        self.made.insert(servers.to_owned(), Arc::clone(&broker));
        Ok(broker)
    }
}

/// The broker behind a `bootstrap.servers`: the embedded topics, or a cluster.
pub fn open_broker(
    servers: &str,
    configuration: &Configuration,
    providers: &Providers,
    store: &Arc<StateStore>,
) -> Result<Arc<dyn Broker>> {
    let worker = &configuration.worker;
    if servers == "embedded" {
        return Ok(EmbeddedBroker::open(Arc::clone(store), worker.embedded_partitions, worker.embedded_retention)?);
    }
    let offsets = Arc::<StateStore>::clone(store);
    Ok(KafkaBroker::connect(servers, &providers.resolve(&configuration.client)?, offsets)?)
}

/// Ends when the sources have returned all there is and the sinks have committed all that is in their topics.
///
/// A sink may feed a source (through a Kinesis stream, a file), so once is not enough: the round is repeated until nothing
/// has moved during one. Bounded sources that have finished count as caught up for ever; most runs have no other.
async fn caught_up(
    status: &WorkerStatus,
    sinks: &[Sink],
    senders: &BTreeMap<Arc<str>, watch::Sender<Option<Arc<Positions>>>>,
) {
    loop {
        let (began, moved) = (Instant::now(), moved(status));
        while !sources(status).all(|task| task.had_caught_up(began)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        sinks_caught_up(sinks, senders).await;
        let all_finished = sources(status).all(|task| matches!(task.state(), TaskState::Finished));
        if all_finished || self::moved(status) == moved {
            break;
        }
    }
    for sink in sinks {
        info!(connector = %sink.name, "caught up");
    }
}

/// How often something is looked at that has to come true.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The tasks of all sources.
fn sources(status: &WorkerStatus) -> impl Iterator<Item = Arc<TaskStatus>> {
    status.connectors().into_iter().filter(|c| c.kind == PluginKind::Source).flat_map(|c| c.tasks())
}

/// How many records all connectors have read: more later means that something has moved.
fn moved(status: &WorkerStatus) -> u64 {
    status.connectors().iter().map(|connector| connector.counters.read.load(Relaxed)).sum()
}

/// Ends when the sinks have committed all that is in their topics now.
async fn sinks_caught_up(sinks: &[Sink], senders: &BTreeMap<Arc<str>, watch::Sender<Option<Arc<Positions>>>>) {
    for sink in sinks {
        let targets = loop {
            match targets(sink).await {
                Ok(targets) => break targets,
                Err(error) => warn!(connector = %sink.name, error = %error, "could not look where the topics end"),
            }
            tokio::time::sleep(LOOK_EVERY * 10).await;
        };
        if let Some(sender) = senders.get(&sink.name) {
            sender.send_replace(Some(Arc::new(targets.clone())));
        }
    }
    for sink in sinks {
        let Some(targets) = senders.get(&sink.name).and_then(|sender| sender.borrow().clone()) else { continue };
        // A question costs a cluster something, so it is asked less and less often, but at once when a task of ours has committed;
        // those of other workers may be the last.
        let mut pause = LOOK_EVERY / 2;
        loop {
            match has_reached(sink, &targets).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => warn!(connector = %sink.name, error = %error, "could not look at the committed offsets"),
            }
            let _ = tokio::time::timeout(pause, sink.status.committed.notified()).await;
            pause = (pause * 2).min(LOOK_EVERY * 10);
        }
    }
}

/// True where the sink's group has committed everything before these positions.
async fn has_reached(sink: &Sink, targets: &Positions) -> Result<bool> {
    let topics = unique_topics(targets);
    let committed = sink.broker.committed(&sink.input.group, &topics).await?;
    if targets.iter().any(|(partition, target)| committed.get(partition).is_none_or(|position| position < target)) {
        return Ok(false);
    }
    // A position behind the end is of an earlier topic of this name, and nothing of this one was read. The task that is to
    // go on there fails and says so.
    let ranges = sink.broker.offsets(&topics).await?;
    Ok(targets.keys().all(|partition| ranges.get(partition).is_some_and(|range| committed[partition] <= range.end)))
}

/// Where each partition of a sink's topics ends now; partitions that hold nothing are left out.
async fn targets(sink: &Sink) -> Result<Positions> {
    let topics: Vec<String> =
        sink.broker.topics().await?.into_keys().filter(|t| sink.input.subscription.matches(t)).collect();
    if let Subscription::Topics(named) = &sink.input.subscription {
        for missing in named.iter().filter(|name| !topics.contains(name)) {
            warn!(connector = %sink.name, topic = %missing, "there is no such topic, so nothing of it can arrive");
        }
    }
    let ranges = sink.broker.settled_offsets(&topics).await?;
    Ok(ranges.into_iter().filter(|(_, range)| range.end > range.start).map(|(tp, range)| (tp, range.end)).collect())
}

fn unique_topics(positions: &Positions) -> Vec<String> {
    let mut topics: Vec<String> = positions.keys().map(|partition| partition.topic.to_string()).collect();
    topics.dedup();
    topics
}

/// Ends when a task has been retrying something for longer than `give_up_after`.
async fn out_of_reach(status: &WorkerStatus, give_up_after: Duration) -> (String, Arc<Error>) {
    loop {
        for connector in status.connectors() {
            for task in connector.tasks() {
                if let TaskState::Retrying { since, error, .. } = task.state()
                    && since.elapsed() >= give_up_after
                {
                    return (format!("{}-{}", connector.name, task.number), error);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Counts every few seconds how many records of a sink's topics are not committed yet.
async fn watch_lag(sinks: &[Sink], stop: &CancellationToken) {
    const LOOK_EVERY: Duration = Duration::from_secs(2);
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        for sink in sinks {
            let lag = async {
                let topics: Vec<String> =
                    sink.broker.topics().await?.into_keys().filter(|t| sink.input.subscription.matches(t)).collect();
                let ranges = sink.broker.offsets(&topics).await?;
                let committed = sink.broker.committed(&sink.input.group, &topics).await?;
                let of = |(partition, range): (_, &crate::broker::OffsetRange)| {
                    let from = committed.get(partition).copied().filter(|c| *c >= range.start).unwrap_or(range.start);
                    u64::try_from(range.end - from).unwrap_or(0)
                };
                Ok::<u64, Error>(ranges.iter().map(of).sum())
            };
            if let Ok(lag) = lag.await {
                sink.status.counters.lag.store(lag, Relaxed);
            }
        }
    }
}

fn panic_message(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned()),
        Err(error) => error.to_string(),
    }
}
