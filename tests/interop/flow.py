"""What passes between two nodes: a word each way, and a stream that runs while a test acts on them."""
import itertools
import re
import time

from lab import Failure, wait_until

_numbers = itertools.count()


def talks(node, other):
    """A TCP connection each way."""
    for client, server in ((node, other), (other, node)):
        with server.served("""
                s = listener("0.0.0.0")
                say("ready", s.getsockname()[1])
                c, _ = s.accept()
                c.sendall(recv_exactly(c, 5))
                """) as port:
            client.program("""
                s = dial(sys.argv[1], sys.argv[2])
                s.sendall(b"hello")
                assert recv_exactly(s, 5) == b"hello"
                """, server.v4, port)


class Flow:
    """A stream that runs until it is told to end: client -> server -> client, every byte compared.

    speed: bytes a second, at most.
    """

    ECHO = """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        c, _ = s.accept()
        while data := c.recv(65536):
            c.sendall(data)
        c.shutdown(SHUT_WR)
        c.close()
        say("echoed all")
        """
    CLIENT = """
        host, port, stop, speed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
        s = dial(host, port)
        s.settimeout(None)
        sent = [None]
        def send():
            n, begun = 0, time.monotonic()
            while sent[0] is None:
                if os.path.exists(stop):
                    sent[0] = n + 1
                s.sendall(block(n))
                n += 1
                time.sleep(max(0, begun + n * 16384 / speed - time.monotonic()))
                begun = max(begun, time.monotonic() - n * 16384 / speed - 0.5)
        threading.Thread(target=send, daemon=True).start()
        say("ready")
        n, said, last, longest = 0, 0, time.monotonic(), 0
        while n != sent[0]:
            got = recv_exactly(s, 16384)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            assert got == block(n), f"block {n} is not what was sent: {len(got)} bytes"
            n += 1
            if now - said > 0.1:
                said = now
                say("at", n)
        if not SOCKS:  # the proxy closes both ways at once, and loses what is under way
            s.shutdown(SHUT_WR)
            assert s.recv(1) == b""
        say("whole", n, longest)
        """

    def __init__(self, client, server, speed=2_000_000):
        self.lab = client.lab
        self.client_node, self.server_node = client, server
        self.server = server.begin_program(self.ECHO, ready=r"ready \d+")
        port = self.server.wait_for(r"ready (\d+)").group(1)
        self.end = self.lab.tmp / f"stop-{next(_numbers)}"
        try:
            self.client = client.begin_program(self.CLIENT, server.v4, port, self.end, speed)
        except Failure as failure:
            raise Failure(f"{failure}\n{client.name} of {server.name}: {client.peer(server.name)}\n"
                          f"{server.name} of {client.name}: {server.peer(client.name)}\n"
                          f"{client.said()[-3000:]}\n{server.said()[-3000:]}") from None
        self.goes_on(30)

    @property
    def blocks(self):
        said = re.findall(r"^at (\d+)$", self.client.text, re.MULTILINE)
        return int(said[-1]) if said else 0

    def goes_on(self, timeout, blocks=20):
        """Until so many more blocks have come back."""
        begun, now = time.monotonic(), self.blocks
        wait_until(lambda: self.blocks >= now + blocks or self.client.popen.poll() is not None, timeout,
                   f"the stream {self.client_node.name} -> {self.server_node.name} stands still")
        if self.client.popen.poll() is not None:
            raise Failure(f"the stream ended early: {self.client.text[-1500:]}\n{self.server.text[-500:]}")
        return time.monotonic() - begun

    def finish(self):
        """Ends it; every byte came back in order. The longest silence, in seconds."""
        self.end.touch()
        if self.client.wait() != 0:
            raise Failure(f"the stream: {self.client.text[-1500:]}\n{self.server.text[-500:]}")
        return float(self.client.wait_for(r"whole (\d+) (\S+)").group(2))
