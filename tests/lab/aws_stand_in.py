"""Runs ministack, the AWS stand-in, on a free port of 127.0.0.1, and prints that port as its first line.

It ends when its standard input is closed. This happens when the program that started it ends for any reason, so no emulator is left running.
"""

import asyncio
import os
import socket
import sys
import threading

# Bound here and passed on as a file descriptor, so that no other process can take the port between its choice and its use.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.bind(("127.0.0.1", 0))
port = listener.getsockname()[1]

# ministack reads these variables while it is imported. Queue URLs contain the host and the port. At its start and end, ministack removes
# containers from the local Docker that it considers its own. This DOCKER_HOST shows it none.
os.environ.update(MINISTACK_HOST="127.0.0.1", GATEWAY_PORT=str(port), DOCKER_HOST="unix:///nonexistent")

from hypercorn.asyncio import serve  # noqa: E402
from hypercorn.config import Config  # noqa: E402
from ministack.app import app  # noqa: E402
from ministack.services import eventbridge  # noqa: E402

put_events, arrival = eventbridge._put_events, eventbridge._now_ts


def put_events_of_aws_with_time(data):
    """Like AWS, ministack refuses events whose source begins with "aws.". The tests must put such events, so this allows them.

    Unlike AWS, ministack sets the time of every event to its arrival. With this, a single entry keeps its time.
    """
    entries = data.get("Entries") or []
    time = entries[0].get("Time") if len(entries) == 1 else None
    eventbridge._now_ts = arrival if time is None else lambda: time
    try:
        return put_events(data, allow_aws_source=True)
    finally:
        eventbridge._now_ts = arrival


eventbridge._put_events = put_events_of_aws_with_time


def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()

config = Config()
config.bind = [f"fd://{listener.fileno()}"]
# Longer than a client keeps an idle connection. Otherwise the SDK could get a reset instead of an answer.
config.keep_alive_timeout = 75
config.loglevel = os.environ.get("LOG_LEVEL", "ERROR")
print(port, flush=True)
# The program that started this reads only that line. Later output goes to standard error.
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
asyncio.run(serve(app, config))
