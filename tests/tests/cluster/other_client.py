"""Writes records on Fanal's topics that are not Fanal's, with Confluent's Python client.

usage: other_client.py PROTO_FOLDER BROKER foreign PREFIX SITE
       other_client.py PROTO_FOLDER BROKER records PREFIX
       other_client.py PROTO_FOLDER BROKER topic NAME PARTITIONS SETTING=VALUE...
       other_client.py PROTO_FOLDER BROKER remove PREFIX
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


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


def foreign(proto, broker, prefix, site):
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "partitioner": "murmur2_random"})
    failed = []

    def write(key, value, headers=None):
        producer.produce(prefix, key=key, value=value, headers=headers,
                         on_delivery=lambda error, _: failed.append(error) if error else None)

    def beacon(visitor, line):
        return proto.Beacon(received_at_ms=int(time.time() * 1000), site_code=site, visitor_code=visitor,
                            source=proto.SOURCE_HTTP, node="other", line=line, visitor_lines=1)

    ours = beacon("other-1", b"eventType=page&href=https%3A%2F%2Fother.example%2F&nonce=00000000000000A1")
    write(f"{site}\0other-1".encode(), ours.SerializeToString())
    later = beacon("other-2", b"eventType=page&href=https%3A%2F%2Flater.example%2F&nonce=00000000000000A2")
    write(f"{site}\0other-2".encode(), later.SerializeToString(), {"fanal-version": b"2"})
    write(f"{site}\0other-3".encode(), bytes(range(255, 155, -1)))
    write(f"{site}\0other-4".encode(), b"")
    write(f"{site}\0other-5".encode(), None)
    write(b"\xff\xfe no key of ours", b"\xff\xff\xff\xff")
    write(None, b"\xfe\xff without a key")
    write(f"{site}\0other-6".encode(), b"\xff of another kind", {"fanal-kind": b"another"})
    # Beacons by the format that no collector would have made: they count as such.
    write(f"{site}\0other-7".encode(), beacon("other-7", b"eventType=conversion&goalId=x").SerializeToString())
    write(f"{site}\0other-8".encode(), beacon("other-8", b"\xfe\xff no line").SerializeToString())
    if producer.flush(30) or failed:
        sys.exit(f"not all records were confirmed: {failed[:3]}")


def records(broker, prefix):
    """How many records each topic holds that are no borders between files of the archive."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "other-client", "enable.auto.commit": False,
                         "enable.partition.eof": True})
    for topic in (prefix, f"{prefix}.dead", f"{prefix}.overflow"):
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, index, 0) for index in partitions])
        count, unread = 0, set(partitions)
        while unread:
            message = consumer.poll(30)
            if message is None:
                sys.exit(f"{topic}: nothing came within 30 seconds")
            if message.error() is None:
                count += ("fanal-kind", b"seal") not in (message.headers() or [])
            elif message.error().code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            else:
                sys.exit(f"{topic}: {message.error()}")
        print(count)
    consumer.close()


def topic(broker, name, partitions, settings):
    new = NewTopic(name, num_partitions=int(partitions), replication_factor=1,
                   config=dict(setting.split("=", 1) for setting in settings))
    admin = AdminClient({"bootstrap.servers": broker})
    for made in admin.create_topics([new]).values():
        made.result(30)


def remove(broker, prefix):
    admin = AdminClient({"bootstrap.servers": broker})
    names = [name for name in admin.list_topics(timeout=30).topics if name == prefix or name.startswith(prefix + ".")]
    if names:
        for removed in admin.delete_topics(names).values():
            removed.result(30)


def main():
    proto_folder, broker, action, name, *rest = sys.argv[1:]
    if action == "foreign":
        foreign(messages(proto_folder), broker, name, rest[0])
    elif action == "records":
        records(broker, name)
    elif action == "topic":
        topic(broker, name, rest[0], rest[1:])
    elif action == "remove":
        remove(broker, name)
    else:
        sys.exit(__doc__)


main()
