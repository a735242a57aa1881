"""Passes records through a broker with aiokafka and confluent-kafka (librdkafka): an idempotent producer for each codec,
then a consumer group that must see each record once, in order per key, and resume from its committed offsets.

    python roundtrip.py HOST:PORT
"""

import asyncio
import sys
import time
import traceback

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic as AIONewTopic
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

PARTITIONS = 3
KEYS = 7
RECORDS = 500
TAIL = 10
WAIT_S = 60
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def key(i):
    return b"key-%d" % (i % KEYS)


def value(codec, i):
    return b"%s-%d-" % (codec.encode(), i) + (b"0" * 200_000 if i == RECORDS // 2 else b"")


class Check:
    """Accepts a record if it is the next of its key."""

    def __init__(self, codec):
        self.codec = codec
        self.seen = {}

    def __call__(self, k, v, headers):
        nth = self.seen.get(k, 0)
        self.seen[k] = nth + 1
        want = value(self.codec, nth * KEYS + int(k[4:]))
        assert v == want, f"record of {k} out of order or damaged: {v[:40]}, want {want[:40]}"
        assert list(headers) == [("codec", self.codec.encode())], headers


async def aiokafka_consume(bootstrap, topic, check, n):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=topic, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        for _ in range(n):
            m = await asyncio.wait_for(consumer.getone(), WAIT_S)
            check(m.key, m.value, m.headers)
            await consumer.commit({next(iter(p for p in consumer.assignment() if p.partition == m.partition)): m.offset + 1})
    finally:
        await consumer.stop()


async def aiokafka_trip(bootstrap, codec):
    topic = f"aiokafka-{codec}-{time.time_ns()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([AIONewTopic(topic, PARTITIONS, 1)])
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, compression_type=None if codec == "none" else codec
    )
    await producer.start()
    sent = [
        await producer.send(topic, value(codec, i), key=key(i), headers=[("codec", codec.encode())]) for i in range(RECORDS)
    ]
    for done in asyncio.as_completed(sent, timeout=WAIT_S):
        await done
    await producer.stop()
    check = Check(codec)
    await aiokafka_consume(bootstrap, topic, check, RECORDS - TAIL)
    await aiokafka_consume(bootstrap, topic, check, TAIL)
    await admin.delete_topics([topic])
    await admin.close()


def confluent_consume(bootstrap, topic, check, n):
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([topic])
    deadline = time.monotonic() + WAIT_S
    while n > 0:
        assert time.monotonic() < deadline, f"{n} records never came"
        m = consumer.poll(1)
        if m is None:
            continue
        assert m.error() is None, m.error()
        check(m.key(), m.value(), m.headers())
        n -= 1
        consumer.commit(offsets=[TopicPartition(topic, m.partition(), m.offset() + 1)], asynchronous=n > 0)
    consumer.close()


def confluent_trip(bootstrap, codec):
    topic = f"confluent-{codec}-{time.time_ns()}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1, config={"retention.ms": "3600000"})])[topic].result(WAIT_S)
    config = admin.describe_configs([ConfigResource("topic", topic)])
    assert next(iter(config.values())).result(WAIT_S)["retention.ms"].value == "3600000"
    errors = []

    def delivered(err, _):
        if err is not None:
            errors.append(err)

    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": codec, "linger.ms": 5}
    )
    for i in range(RECORDS):
        producer.produce(topic, value(codec, i), key(i), headers=[("codec", codec.encode())], on_delivery=delivered)
    assert producer.flush(WAIT_S) == 0
    assert not errors, errors
    check = Check(codec)
    confluent_consume(bootstrap, topic, check, RECORDS - TAIL)
    confluent_consume(bootstrap, topic, check, TAIL)
    ends = admin.list_offsets({TopicPartition(topic, p): OffsetSpec.latest() for p in range(PARTITIONS)})
    assert sum(f.result(WAIT_S).offset for f in ends.values()) == RECORDS
    probe = Consumer({"bootstrap.servers": bootstrap, "group.id": "probe"})
    missing = probe.list_topics("no-such-topic", timeout=WAIT_S).topics["no-such-topic"].error
    assert missing.code() == KafkaError.UNKNOWN_TOPIC_OR_PART, missing
    probe.close()
    admin.delete_consumer_groups([topic])[topic].result(WAIT_S)
    admin.delete_topics([topic])[topic].result(WAIT_S)


def main():
    bootstrap = sys.argv[1]
    passed = failed = 0
    trips = {"aiokafka": lambda b, c: asyncio.run(aiokafka_trip(b, c)), "confluent-kafka": confluent_trip}
    for name, trip in trips.items():
        for codec in CODECS:
            try:
                trip(bootstrap, codec)
                passed += 1
                print(f"{name}, {codec}: passed")
            except Exception:
                failed += 1
                print(f"{name}, {codec}: FAILED\n{traceback.format_exc()}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
