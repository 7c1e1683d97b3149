"""A Kafka broker on loopback, in KRaft mode, its jars fetched once into the cache; and what tests do to topics.

It has a listener for everybody and one for those who log in (SASL/PLAIN).
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lakehouse.engines.runtime import ensure_java, pyspark_jars
from tests.cloud_servers import installed

VERSION = "4.1.2"
USER, PASSWORD = "scores", "only tests know it"
_START_SECONDS = 90.0
_LIMITS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True)
class Broker:
    """A running broker: where everybody reaches it, and where those do who log in."""

    servers: str
    secured: str

    def admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def _ask(self, question: Callable[[Any], Any]) -> None:
        admin = self.admin()  # answers come only while it is there
        for answer in question(admin).values():
            answer.result(timeout=30)

    def create(self, topic: str, partitions: int = 1, **config: str) -> None:
        """Make a topic."""
        from confluent_kafka.admin import NewTopic

        made = NewTopic(topic, partitions, 1, config={name.replace("_", "."): value for name, value in config.items()})
        self._ask(lambda admin: admin.create_topics([made]))

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until it is gone."""
        self._ask(lambda admin: admin.delete_topics([topic]))
        while topic in self.admin().list_topics(timeout=10).topics:
            time.sleep(0.05)

    def add_partitions(self, topic: str, total: int) -> None:
        from confluent_kafka.admin import NewPartitions

        self._ask(lambda admin: admin.create_partitions([NewPartitions(topic, total)]))

    def truncate(self, topic: str, partition: int, offset: int) -> None:
        """Delete what lies before an offset, as retention does."""
        from confluent_kafka import TopicPartition

        self._ask(lambda admin: admin.delete_records([TopicPartition(topic, partition, offset)]))

    def send(
        self, topic: str, values: Iterable[bytes | None], partition: int = 0, transaction: str | None = None
    ) -> None:
        """Write messages; in a transaction where one is named, which is aborted if its name begins with "aborted"."""
        from confluent_kafka import Producer

        options = {"transactional.id": transaction} if transaction else {}
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 5, **options})
        if transaction:
            producer.init_transactions()
            producer.begin_transaction()
        for value in values:
            while True:
                try:
                    producer.produce(topic, value, partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush()
        if transaction:
            producer.abort_transaction() if transaction.startswith("aborted") else producer.commit_transaction()

    def received(self, topic: str) -> list[tuple[str, bytes, bytes]]:
        """The messages of the first partition, in order: what their header `id` says, key and value."""
        from confluent_kafka import Consumer, TopicPartition

        options = {"group.id": "tests", "enable.auto.commit": False, "enable.partition.eof": True}
        consumer, found = Consumer({"bootstrap.servers": self.servers, **options}), []
        consumer.assign([TopicPartition(topic, 0, 0)])
        while (message := consumer.poll(30)) is not None and message.error() is None:
            found.append((dict(message.headers())["id"].decode(), message.key(), message.value()))
        consumer.close()
        return found


def _jars() -> Path:
    """The folder of the broker's jars and what they need."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        ivy = [str(ensure_java() / "bin" / "java"), f"-Duser.home={scratch}", "-cp", f"{pyspark_jars()}/*"]
        ivy += ["org.apache.ivy.Main", "-dependency", "org.apache.kafka", "kafka_2.13", VERSION, "-confs", "default"]
        ivy += ["-cache", f"{scratch}/cache", "-retrieve", "{}/[artifact]-[revision].[ext]"]
        return installed(f"kafka-{VERSION}", ivy)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _properties(folder: Path, plain: int, secured: int, controller: int) -> str:
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    return "\n".join(
        [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}",
            "controller.listener.names=CONTROLLER",
            f"listeners=PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{secured},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{secured}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=PLAINTEXT",
            "sasl.enabled.mechanisms=PLAIN",
            f"listener.name.sasl_plaintext.plain.sasl.jaas.config={login}",
            f"log.dirs={folder}/log",
            "auto.create.topics.enable=false",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.num.partitions=1",
            "transaction.state.log.min.isr=1",
            "share.coordinator.state.topic.replication.factor=1",
            "share.coordinator.state.topic.min.isr=1",
        ]
    )


@contextmanager
def running() -> Iterator[Broker]:
    """A broker, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-kafka-", ignore_cleanup_errors=True) as folder:
        plain, secured, controller = _free_ports(3)
        settings = Path(folder) / "server.properties"
        settings.write_text(_properties(Path(folder), plain, secured, controller))
        java = [str(ensure_java() / "bin" / "java"), *_LIMITS, "-cp", f"{_jars()}/*"]
        shape = [
            *java,
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            "MkU3OEVBNTcwNTJENDM2Qg",
            "-c",
            str(settings),
        ]
        done = subprocess.run(shape, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            pytest.fail(f"the broker's storage can't be made: {done.stdout}{done.stderr}", pytrace=False)
        with (Path(folder) / "said").open("w+") as said:
            server = subprocess.Popen([*java, "kafka.Kafka", str(settings)], stdout=said, stderr=said)
            try:
                broker = Broker(f"127.0.0.1:{plain}", f"127.0.0.1:{secured}")
                _wait_for(broker, server, Path(said.name))
                yield broker
            finally:
                server.kill()
                server.wait()


def _wait_for(broker: Broker, server: subprocess.Popen[bytes], said: Path) -> None:
    from confluent_kafka import KafkaException

    until, admin = time.monotonic() + _START_SECONDS, broker.admin()
    while server.poll() is None and time.monotonic() < until:
        try:
            if admin.list_topics(timeout=1).brokers:
                return
        except KafkaException:
            continue
    pytest.fail(f"the broker does not start: {said.read_text()[-3000:]}", pytrace=False)
