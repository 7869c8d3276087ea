// sqs-consumer doing no work: what it receives it deletes, ten at a time.

import { Consumer } from "sqs-consumer";

Consumer.create({
  queueUrl: process.env.QUEUE_URL,
  batchSize: 10,
  visibilityTimeout: 120,
  waitTimeSeconds: 20,
  // Those returned are deleted.
  handleMessageBatch: async (messages) => messages,
}).start();
