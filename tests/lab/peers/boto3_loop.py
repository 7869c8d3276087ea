"""A consumer in Python. Posts each alert to SLACK_WEBHOOK_URL and deletes its message; without that variable it only receives and
deletes, ten at a time."""

import json
import os

import boto3
import urllib3

queue = os.environ["QUEUE_URL"]
webhook = os.environ.get("SLACK_WEBHOOK_URL")
sqs = boto3.client("sqs")
http = urllib3.PoolManager()


def post(event):
    detail = event["detail"]
    subject = detail.get("group") or event["resources"][0].rsplit("/", 1)[-1]
    what = detail.get("eventName") or detail.get("stoppedReason")
    payload = {"text": f":rotating_light: *{subject}* {event['detail-type']}: {what}"}
    answer = http.request("POST", webhook, json=payload)
    if answer.status != 200:
        raise RuntimeError(f"Slack answered {answer.status}")


while True:
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=20, VisibilityTimeout=120)
    messages = received.get("Messages", [])
    if webhook:
        for message in messages:
            post(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    elif messages:
        entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
        sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
