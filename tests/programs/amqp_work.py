"""amqp_work.py HOST PORT: 20 messages of 100 kB through a queue, each acknowledged."""
import os
import sys

import pika

host, port = sys.argv[1], int(sys.argv[2])
with pika.BlockingConnection(pika.ConnectionParameters(host, port)) as connection:
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    sent = [os.urandom(100_000) for _ in range(20)]
    for body in sent:
        channel.basic_publish("", queue, body)
    got = []
    for method, _properties, body in channel.consume(queue, inactivity_timeout=20):
        assert method, "no message for 20 s"
        got.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(got) == len(sent):
            break
assert got == sent, "the messages are not what was published"
print(len(got), "messages")
