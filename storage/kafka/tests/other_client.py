"""Reads and writes Fanal's topics with Confluent's Python client and the published
.proto files: what any other consumer would do.

usage: other_client.py PROTO_FOLDER BROKER read PREFIX
       other_client.py PROTO_FOLDER BROKER write PREFIX COUNT
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition


def messages(proto_folder):
    """The classes of fanal/v1/beacon.proto, made by the ordinary compiler."""
    target = tempfile.mkdtemp(prefix="fanal-proto-")
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto_folder}", f"--python_out={target}",
         str(Path(proto_folder) / "fanal/v1/beacon.proto")],
        check=True,
    )
    sys.path.insert(0, target)
    from fanal.v1 import beacon_pb2

    return beacon_pb2


def records(broker, topic):
    """Everything that the topic holds now."""
    consumer = Consumer({
        "bootstrap.servers": broker,
        "group.id": "other-client",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    })
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, index, 0) for index in partitions])
    open_partitions = set(partitions)
    while open_partitions:
        message = consumer.poll(30)
        if message is None:
            sys.exit(f"{topic}: nothing came within 30 seconds")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(f"{topic}: {message.error()}")
            open_partitions.discard(message.partition())
        else:
            yield message
    consumer.close()


def read(proto, broker, prefix):
    for message in records(broker, prefix):
        beacon = proto.Beacon.FromString(message.value())
        key = f"{beacon.site_code}\0{beacon.visitor_code or beacon.mapping_value}".encode()
        assert message.key() == key, (message.key(), key)
        print("beacon", message.partition(), beacon.site_code, beacon.visitor_code, beacon.received_at_ms,
              proto.Source.Name(beacon.source), beacon.line.decode())
    for message in records(broker, f"{prefix}.dead"):
        letter = proto.DeadLetter.FromString(message.value())
        assert message.key() == letter.site_code.encode(), message.key()
        print("dead", message.partition(), letter.site_code, letter.reason, letter.rules_version,
              letter.bytes.decode())


def write(proto, broker, prefix, count):
    # Java's default partitioner has this name here.
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "partitioner": "murmur2_random"})
    failed = []
    for number in range(count):
        visitor = f"other-{number}"
        beacon = proto.Beacon(received_at_ms=1_700_000_000_000 + number, site_code="site", visitor_code=visitor,
                              source=proto.SOURCE_HTTP, node="other", line=b"eventType=page", visitor_lines=1)
        producer.produce(prefix, key=f"site\0{visitor}".encode(), value=beacon.SerializeToString(),
                         on_delivery=lambda error, _: failed.append(error) if error else None)
    if producer.flush(30) or failed:
        sys.exit(f"not all records were confirmed: {failed[:3]}")


def main():
    proto_folder, broker, action, prefix, *rest = sys.argv[1:]
    proto = messages(proto_folder)
    if action == "read":
        read(proto, broker, prefix)
    else:
        write(proto, broker, prefix, int(rest[0]))


main()
