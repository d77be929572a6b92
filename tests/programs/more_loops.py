"""more_loops.py serve ADDRESS PORT trio|twisted|gevent: an echo that says who asks. ask HOST PORT OWN trio|twisted|gevent: uses it."""
import os
import sys

how, host, port, library = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[-1]
blob = os.urandom(3_000_000)

if library == "gevent":
    from gevent import monkey
    monkey.patch_all()
    import socket

    import gevent
    from gevent.server import StreamServer

    def answer(conn, peer):
        conn.sendall(f"{peer[0]}\n".encode())
        while data := conn.recv(65536):
            conn.sendall(data)
        conn.close()

    def serve():
        server = StreamServer((host, port), answer)
        server.start()
        print("ready", flush=True)
        gevent.wait()

    def one(size):
        with socket.create_connection((host, port)) as conn:
            file = conn.makefile("rb")
            peer = file.readline().decode().strip()
            sending = gevent.spawn(lambda: (conn.sendall(blob[:size]), conn.shutdown(socket.SHUT_WR)))
            got = file.read()
            sending.join()
            return peer, got == blob[:size]

    def ask():
        jobs = [gevent.spawn(one, size) for size in [len(blob)] + [n * 100 for n in range(100)]]
        return [job.get(timeout=30) for job in jobs]

elif library == "trio":
    import trio

    async def answer(stream):
        await stream.send_all(f"{stream.socket.getpeername()[0]}\n".encode())
        async for data in stream:
            await stream.send_all(data)

    async def serving():
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: trio.serve_tcp(answer, port, host=host, task_status=task_status))
            print("ready", flush=True)

    def serve():
        trio.run(serving)

    async def one(size, results):
        stream = await trio.open_tcp_stream(host, port)  # happy eyeballs: races all addresses of a name

        async def send():
            await stream.send_all(blob[:size])
            await stream.send_eof()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            got = b"".join([data async for data in stream])
        peer, _, body = got.partition(b"\n")
        results.append((peer.decode(), body == blob[:size]))

    async def asking():
        results = []
        async with trio.open_nursery() as nursery:
            for size in [len(blob)] + [n * 100 for n in range(100)]:
                nursery.start_soon(one, size, results)
        return results

    def ask():
        return trio.run(asking)

else:
    from twisted.internet import defer, endpoints, protocol, reactor

    class Echo(protocol.Protocol):
        def connectionMade(self):
            self.transport.write(f"{self.transport.getPeer().host}\n".encode())

        def dataReceived(self, data):
            self.transport.write(data)

    class Ask(protocol.Protocol):
        def __init__(self, size):
            self.size, self.got, self.done = size, b"", defer.Deferred()

        def connectionMade(self):
            self.transport.write(blob[:self.size])

        def dataReceived(self, data):
            self.got += data
            peer, newline, body = self.got.partition(b"\n")
            if newline and len(body) == self.size:
                self.transport.loseConnection()
                self.done.callback((peer.decode(), body == blob[:self.size]))

    def serve():
        reactor.listenTCP(port, protocol.Factory.forProtocol(Echo), interface=host, backlog=200)
        reactor.callWhenRunning(lambda: print("ready", flush=True))
        reactor.run()

    def ask():
        asked = [Ask(size) for size in [len(blob)] + [n * 100 for n in range(100)]]
        for each in asked:
            endpoint = endpoints.HostnameEndpoint(reactor, host, port)
            endpoints.connectProtocol(endpoint, each).addErrback(each.done.errback)
        results = []
        everything = defer.gatherResults([each.done for each in asked])
        everything.addCallback(results.extend).addErrback(lambda failure: print(failure)).addBoth(lambda _: reactor.stop())
        reactor.run()
        return results

if how == "serve":
    serve()
else:
    told = ask()
    assert len(told) == 101 and all(body for _, body in told), "another content came back"
    print(*sorted({peer for peer, _ in told}))
