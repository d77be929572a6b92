"""A whole tailnet on this machine: coordinator, relays, routers and nodes of every kind.

Everything real is real: Headscale, derper, tailscaled, the kernel's NAT. A Tailnet owns one wire
("wan", a bridge with 10.77.0.1 on it) where Headscale and the relays listen (servers.py); each node
(nodes.py) lives in a namespace of its own, a Site (wire.py).
"""
import itertools
import threading

from nodes import Ours, Real
from peers import REFERENCE
from servers import Coordinator, Relay
from wire import Site

from lab import Failure

_numbers = itertools.count()


class Tailnet:
    """relay_port: where the relays truly listen; the map says 443 all the same."""

    def __init__(self, lab, relays=1, relay_port=443, **options):
        self.lab = lab
        self.numbers = itertools.count(1)
        self.wan = lab.namespace("wan")
        # An address of its own: else it takes the lowest of its cables', which changes when one is plugged in,
        # and the old one, in everybody's ARP tables, leads nowhere for half a minute.
        lab.run(["ip", "-n", self.wan, "link", "add", "br0", "address", "02:00:0a:4d:00:01", "type", "bridge"])
        lab.run(["ip", "-n", self.wan, "link", "set", "br0", "up"])
        for number in range(1, relays + 1):
            lab.run(["ip", "-n", self.wan, "addr", "add", f"10.77.0.{number}/16", "dev", "br0"])
        self.relays = [Relay(self, number, relay_port).start() for number in range(1, relays + 1)]
        self.hs = Coordinator(self, **options).write(self.relays).start()
        self.hs.make_user()
        self.reusable = self.hs.key("--reusable")
        self.named = {}

    def make(self, kind, site="plain", name=None):
        """A node that has not begun; kind: ours, userspace or tun. Its name is its own, unlike any of node()."""
        place = Site(self, site) if isinstance(site, str) else site
        name = name or f"{kind}-{place.kind}-own{next(_numbers)}"
        if kind == "ours" and not REFERENCE:
            return Ours(self, place, name)
        return Real(self, place, name, "userspace" if kind == "userspace" else "tun")

    def join(self, kind, site="plain", name=None, **options):
        return self.make(kind, site, name).begin(key=self.reusable, **options).wait_running()

    def node(self, kind, site="plain", number=0):
        """A running node that tests share; nobody may hurt it."""
        key = (kind, site, number)
        if key not in self.named:
            self.named[key] = self.join(kind, site, f"{kind}-{site}-{number}")
        return self.named[key]

    def nodes(self, *keys):
        """The same, several at once."""
        threads, errors = [], []

        def bring(key):
            try:
                self.node(*key)
            except Failure as failure:
                errors.append(failure)
        for key in dict.fromkeys(keys):
            threads.append(threading.Thread(target=bring, args=(key,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return [self.node(*key) for key in keys]
