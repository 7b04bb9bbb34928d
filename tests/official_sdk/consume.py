"""Reads a logstore with the consumer library of the official SDK, unmodified.

Writes the id field of every log as one line to standard output, in the order in
which the library hands logs over, and commits after every batch. Ends when the
wanted number of distinct ids has come, or on SIGTERM.
"""

import argparse
import logging
import signal
import socket
import sys
import threading

from aliyun.log.consumer import (
    ConsumerProcessorBase,
    ConsumerWorker,
    CursorPosition,
    LogHubConfig,
)


def map_localhost_names():
    """Lets PROJECT.localhost resolve where the resolver does not know such names."""
    resolve = socket.getaddrinfo

    def resolve_localhost(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if name and name.endswith(".localhost"):
            host = "127.0.0.1"
        return resolve(host, *args, **kwargs)

    socket.getaddrinfo = resolve_localhost


class Ids:
    """The ids seen so far, shared by the processors of all shards."""

    def __init__(self, field, wanted):
        self.field = field.encode()
        self.wanted = wanted
        self.seen = set()
        self.lock = threading.Lock()
        self.done = threading.Event()

    def add(self, log):
        for content in log.Contents:
            key = content.Key
            if (key if isinstance(key, bytes) else key.encode()) != self.field:
                continue
            value = content.Value
            value = value.decode() if isinstance(value, bytes) else value
            with self.lock:
                print(value, flush=True)
                self.seen.add(value)
                if len(self.seen) >= self.wanted:
                    self.done.set()


class Writer(ConsumerProcessorBase):
    """One shard's processor."""

    def __init__(self, ids):
        super().__init__()
        self.ids = ids

    def process(self, log_groups, check_point_tracker):
        for group in log_groups.LogGroups:
            for log in group.Logs:
                self.ids.add(log)
        check_point_tracker.save_check_point(True)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("endpoint", "project", "logstore", "key-id", "key-secret", "group", "consumer"):
        options.add_argument("--" + name, required=True)
    options.add_argument("--id-field", default="id")
    options.add_argument("--wanted", type=int, default=sys.maxsize)
    options.add_argument("--sign", choices=("v1", "v4"), default="v1")
    options.add_argument("--region", default="")
    options.add_argument("--heartbeat", type=int, default=2, help="seconds; the timeout is twice that")
    options.add_argument("--groups-per-pull", type=int, default=1000)
    given = options.parse_args()

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    map_localhost_names()
    ids = Ids(given.id_field, given.wanted)
    signal.signal(signal.SIGTERM, lambda *_: ids.done.set())
    worker = ConsumerWorker(
        Writer,
        LogHubConfig(
            given.endpoint,
            given.key_id,
            given.key_secret,
            given.project,
            given.logstore,
            given.group,
            given.consumer,
            cursor_position=CursorPosition.BEGIN_CURSOR,
            heartbeat_interval=given.heartbeat,
            data_fetch_interval=0.2,
            max_fetch_log_group_size=given.groups_per_pull,
            auth_version=given.sign,
            region=given.region,
        ),
        args=(ids,),
    )
    worker.start()
    # A wait without a timeout would not let the signal handler run on some platforms.
    while not ids.done.wait(0.2):
        if not worker.is_alive():
            sys.exit("the worker ended by itself")
    worker.shutdown()
    worker.join()


if __name__ == "__main__":
    main()
