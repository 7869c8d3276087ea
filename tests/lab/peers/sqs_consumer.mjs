// sqs-consumer without work: it deletes the messages that it receives, ten at a time.

import { Consumer } from "sqs-consumer";

Consumer.create({
  queueUrl: process.env.QUEUE_URL,
  batchSize: 10,
  visibilityTimeout: 120,
  waitTimeSeconds: 20,
  // sqs-consumer deletes the returned messages.
  handleMessageBatch: async (messages) => messages,
}).start();
