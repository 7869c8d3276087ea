"""Stand-ins for AWS and Slack, for compose.yaml: a rule that sends every ECS event to a queue with a dead-letter queue, a table of
incidents, a secret with the webhook, and a webhook that prints each post. Every few seconds they send an event from the given folder.
"""

import asyncio
import functools
import itertools
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

AWS_PORT, SLACK_PORT = 4566, 8008
ENDPOINT = f"http://127.0.0.1:{AWS_PORT}"
ACCOUNT, REGION = "123456789012", "eu-west-1"
BETWEEN_EVENTS = 5

# ministack reads these variables when it is imported, and builds queue URLs from host and port.
os.environ.update(MINISTACK_HOST="127.0.0.1", GATEWAY_PORT=str(AWS_PORT), DOCKER_HOST="unix:///nonexistent", LOG_LEVEL="ERROR")

import botocore.session  # noqa: E402
from hypercorn.asyncio import serve  # noqa: E402
from hypercorn.config import Config  # noqa: E402
from ministack.app import app  # noqa: E402
from ministack.services import eventbridge  # noqa: E402

# Like AWS, ministack refuses events whose source begins with "aws.". This program must send such events.
eventbridge._put_events = functools.partial(eventbridge._put_events, allow_aws_source=True)


class Slack(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer()

    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.answer()

    def answer(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def client(service):
    return botocore.session.get_session().create_client(
        service,
        endpoint_url=ENDPOINT,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="none",
    )


def set_up():
    sqs, events, secrets = client("sqs"), client("events"), client("secretsmanager")
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:ecs-alerts"
    sqs.create_queue(QueueName="ecs-alerts-dlq", Attributes={"MessageRetentionPeriod": "1209600"})
    redrive = {"deadLetterTargetArn": f"{arn}-dlq", "maxReceiveCount": 10}
    sqs.create_queue(QueueName="ecs-alerts", Attributes={"RedrivePolicy": json.dumps(redrive)})
    events.put_rule(Name="ecs-events", EventPattern=json.dumps({"source": ["aws.ecs"]}))
    events.put_targets(Rule="ecs-events", Targets=[{"Id": "queue", "Arn": arn}])
    client("dynamodb").create_table(
        TableName="ecs-alerts-incidents",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    secrets.create_secret(Name="monitoring/critical_slack_webhook", SecretString=os.environ["SLACK_WEBHOOK_URL"])
    return events


def put_events(events, folder):
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    ecs = [event for event in found if isinstance(event, dict) and event.get("source") == "aws.ecs" and "detail" in event]
    for event in itertools.cycle(ecs):
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Resources": event.get("resources", []),
            "Detail": json.dumps(event["detail"]),
        }
        events.put_events(Entries=[entry])
        time.sleep(BETWEEN_EVENTS)


def play(folder):
    # botocore retries until the emulator answers.
    events = set_up()
    # The Slack stand-in starts last, so the health check in compose.yaml only needs to reach it.
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", SLACK_PORT), Slack).serve_forever, daemon=True).start()
    put_events(events, folder)


threading.Thread(target=play, args=[Path(sys.argv[1])], daemon=True).start()
config = Config()
config.bind = [f"0.0.0.0:{AWS_PORT}"]
# Longer than clients keep idle connections open. Otherwise the SDK could get a reset instead of an answer.
config.keep_alive_timeout = 75
config.loglevel = "ERROR"
asyncio.run(serve(app, config))
