"""Runs ministack, the AWS stand-in, on a free port of 127.0.0.1 and prints that port as its first line.

It lives exactly as long as its standard input: when the program that started it ends, however it ends, the pipe closes
and so does this. No emulator is ever left behind.
"""

import asyncio
import os
import socket
import sys
import threading

# Bound here and handed over by file descriptor, so that nobody can take the port between the choice and its use.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.bind(("127.0.0.1", 0))
port = listener.getsockname()[1]

# ministack reads these while it is imported. Queue URLs are made of host and port. At start and at its end it removes
# containers that it takes for its own from the local Docker: it gets none to look at.
os.environ.update(MINISTACK_HOST="127.0.0.1", GATEWAY_PORT=str(port), DOCKER_HOST="unix:///nonexistent")

from hypercorn.asyncio import serve  # noqa: E402
from hypercorn.config import Config  # noqa: E402
from ministack.app import app  # noqa: E402
from ministack.services import eventbridge  # noqa: E402

put_events, arrival = eventbridge._put_events, eventbridge._now_ts


def put_events_as_aws_has_them(data):
    """Like AWS, ministack lets nobody put events whose source begins with "aws."; here they are the very thing to put.

    Unlike AWS, it dates every event at its arrival, whatever time the entry names. An entry that comes alone keeps its time.
    """
    entries = data.get("Entries") or []
    time = entries[0].get("Time") if len(entries) == 1 else None
    eventbridge._now_ts = arrival if time is None else lambda: time
    try:
        return put_events(data, allow_aws_source=True)
    finally:
        eventbridge._now_ts = arrival


eventbridge._put_events = put_events_as_aws_has_them


def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()

config = Config()
config.bind = [f"fd://{listener.fileno()}"]
# Longer than any idle gap of a client that keeps its connections: the SDK would see a reset in place of an answer.
config.keep_alive_timeout = 75
config.loglevel = os.environ.get("LOG_LEVEL", "ERROR")
print(port, flush=True)
# The starter reads that one line; whatever is said later goes where errors go.
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
asyncio.run(serve(app, config))
