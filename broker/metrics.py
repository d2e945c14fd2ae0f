"""What the broker counts. One registry a broker, so that several can live in one process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class BrokerMetrics:
    """The broker's Prometheus metrics; counted per chunk or batch, never per message."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"iotlinker_{name}", text, labels, registry=self.registry)

        self.received = counter("messages_received", "PUBLISH packets received")
        self.committed = counter("messages_committed", "Messages whose transaction committed")
        self.acknowledged = counter("messages_acknowledged", "QoS 1 and 2 messages acknowledged")
        self.dead_letters = counter("dead_letters", "Messages that could not be stored", "code")
        self.duplicates = counter("duplicate_rows", "Rows that were stored already")
        self.flush_errors = counter("flush_errors", "Transactions that failed and were repeated")
        self.refused_rows = counter("refused_rows", "Rows that the database refused as wrong")
        self.evaluations = counter("trigger_evaluations", "Measurements judged by triggers")
        self.fired = counter("triggers_fired", "Triggers that fired")
        self.trigger_errors = counter("trigger_errors", "Conditions that could not be evaluated")
        self.doubtful = counter("doubtful_messages", "Messages with a quality score below 100")
        self.derive_errors = counter(
            "derive_errors", "Values that could not be converted or derived"
        )
        self.turned_away = counter("connections_turned_away", "Connections over a limit", "why")
        self.slowed = counter("readings_slowed", "Pauses of clients over a rate limit", "scope")
        self.refused = counter("connections_refused", "CONNECT packets refused", "code")
        self.closed = counter("connections_closed", "Connections the broker closed", "why")
        self.messages_dropped = counter(
            "messages_dropped", "Messages not delivered to a subscriber, or not retained", "why"
        )
        self.commands_sent = counter("commands_sent", "Commands handed to connections")
        self.bus_errors = counter("bus_errors", "Failures to reach Valkey")
        self.bus_dropped = counter("bus_dropped", "Notifications dropped because too many waited")
        self.connections = Gauge(
            "iotlinker_connections", "Signed-in connections", registry=self.registry
        )
        self.queue = Gauge(
            "iotlinker_queued_messages", "Messages waiting for the database", registry=self.registry
        )
        self.batch_size = Histogram(
            "iotlinker_batch_messages",
            "Messages in one transaction",
            registry=self.registry,
            buckets=(1, 10, 100, 1_000, 5_000, 10_000, 20_000, 50_000),
        )
        self.batch_seconds = Histogram(
            "iotlinker_batch_seconds",
            "Time of one transaction, retries included",
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
        )
