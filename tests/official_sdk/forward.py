"""Forwards a logstore to syslog with the consumer library of the official SDK.

It behaves as the SDK's sample script does: a TCP connection for every batch, one line
for every log, errors of sending are passed over, the checkpoint is saved after the
batch, and the consumer's name holds the process id unless another one is given.
"""

import argparse
import datetime
import logging
import os
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
from aliyun.log.pulllog_response import PullLogResponse

from consume import map_localhost_names

SEPARATOR = "||"


class Line:
    """One TCP connection to the receiver; whatever happens to it, nothing is raised."""

    def __init__(self, address):
        self.address = address
        self.socket = None

    def send(self, text):
        try:
            if self.socket is None:
                self.socket = socket.create_connection(self.address, timeout=10)
            self.socket.sendall(text.encode("utf-8", errors="ignore") + b"\n")
        except OSError:
            self.close()

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class Forwarder(ConsumerProcessorBase):
    """One shard's processor."""

    def __init__(self, address, save_every_batch):
        super().__init__()
        self.address = address
        self.save_every_batch = save_every_batch

    def process(self, log_groups, check_point_tracker):
        logs = PullLogResponse.loggroups_to_flattern_list(
            log_groups, time_as_str=True, decode_bytes=True
        )
        line = Line(self.address)
        try:
            for log in logs:
                line.send(message(log))
        finally:
            line.close()
        # Unforced, the library sends a checkpoint every three seconds at most.
        self.save_checkpoint(check_point_tracker, force=self.save_every_batch)


def message(log):
    """A log as a line: its time goes into the header, the rest into the text."""
    time = datetime.datetime.fromtimestamp(int(log["__time__"]), datetime.timezone.utc)
    pairs = (f"{key}={value}" for key, value in log.items() if key != "__time__")
    return f"<14>1 {time:%Y-%m-%dT%H:%M:%S.%fZ} host - - - {SEPARATOR.join(pairs)}"


def main():
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("endpoint", "project", "logstore", "key-id", "key-secret", "group", "syslog"):
        options.add_argument("--" + name, required=True)
    options.add_argument("--consumer")
    options.add_argument("--in-order", action="store_true")
    options.add_argument("--save-every-batch", action="store_true")
    options.add_argument("--heartbeat", type=int, default=1, help="seconds; the timeout is twice that")
    options.add_argument("--groups-per-pull", type=int, default=1000)
    given = options.parse_args()

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    map_localhost_names()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    host, port = given.syslog.rsplit(":", 1)
    worker = ConsumerWorker(
        Forwarder,
        LogHubConfig(
            given.endpoint,
            given.key_id,
            given.key_secret,
            given.project,
            given.logstore,
            given.group,
            given.consumer or f"{given.group}-{os.getpid()}",
            cursor_position=CursorPosition.BEGIN_CURSOR,
            heartbeat_interval=given.heartbeat,
            data_fetch_interval=0.2,
            in_order=given.in_order,
            max_fetch_log_group_size=given.groups_per_pull,
        ),
        args=((host, int(port)), given.save_every_batch),
    )
    worker.start()
    # A wait without a timeout would not let the signal handler run on some platforms.
    while not stop.wait(0.2):
        if not worker.is_alive():
            sys.exit("the worker ended by itself")
    worker.shutdown()
    worker.join()


if __name__ == "__main__":
    main()
