"""Sends lines of standard input with the syslog client of the official SDK, as its sample does.

A connection for each batch; a batch that fails is over, as the consumer library makes it.
"""

import sys

from aliyun.log.ext.syslogclient import SyslogClientRFC5424

BATCH = 100


def send(host, port, lines):
    try:
        with SyslogClientRFC5424(host, port, proto="TCP") as client:
            for line in lines:
                client.log(line)
    except Exception as error:
        print("batch lost:", error, file=sys.stderr)


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    batch = []
    for line in sys.stdin:
        batch.append(line.rstrip("\n"))
        if len(batch) == BATCH:
            send(host, port, batch)
            batch = []
    if batch:
        send(host, port, batch)


main()
