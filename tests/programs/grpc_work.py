"""grpc_work.py serve ADDRESS PORT, or ask HOST PORT OWN. Bytes in place of messages: nothing to generate."""
import os
import sys
import time
from concurrent import futures

import grpc

how, host, port = sys.argv[1], sys.argv[2], sys.argv[3]
if how == "ask":
    os.environ["GRPC_DNS_RESOLVER"] = "native"


def echo(request, context):
    return context.peer().encode() + b"\n" + request


def count(request, _context):
    for n in range(20):
        yield request + bytes([n])


def slow(_request, _context):
    time.sleep(3)
    return b""


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 1 << 24)])
    calls = {"echo": grpc.unary_unary_rpc_method_handler(echo), "count": grpc.unary_stream_rpc_method_handler(count),
             "slow": grpc.unary_unary_rpc_method_handler(slow)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mesh", calls),))
    assert server.add_insecure_port(f"{host}:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def ask(own):
    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.max_receive_message_length", 1 << 24)]) as channel:
        data = os.urandom(3_000_000)
        peer, _, body = channel.unary_unary("/mesh/echo")(data, timeout=30).partition(b"\n")
        assert body == data and own in peer.decode(), peer
        print("unary", flush=True)
        assert list(channel.unary_stream("/mesh/count")(b"x", timeout=30)) == [b"x" + bytes([n]) for n in range(20)]
        print("stream", flush=True)
        try:
            channel.unary_unary("/mesh/slow")(b"", timeout=0.5)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        print("deadline", flush=True)


if how == "serve":
    serve()
elif how == "ask":
    ask(sys.argv[4])
    # The resolver is chosen once a process, so the other one gets a process of its own.
    again = os.spawnve(os.P_WAIT, sys.executable, [sys.executable, __file__, "again", *sys.argv[2:]],
                       {**os.environ, "GRPC_DNS_RESOLVER": "ares"})
    assert again == 0
    print("cares")
else:
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        assert sys.argv[4] in channel.unary_unary("/mesh/echo")(b"x", timeout=30).decode()
