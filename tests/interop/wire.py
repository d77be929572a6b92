"""The network of a tailnet: the wire, and sites on it that reach it directly or through a router.

A site is a namespace for one node; its kind says what is before it:
- plain: no router;
- easy:  a NAT that keeps ports, so every destination sees the same address (endpoint-independent),
         and that lets in only who was written to, from the very port (as Linux does);
- cone:  the same, but it lets in whoever writes to a port that is in use;
- hard:  a NAT that picks a new port for every destination;
- blocked: an easy one that lets no UDP through.
"""
from worlds import nft

SERVER = "10.77.0.1"  # on the wire, where Headscale and the first relay listen


class Site:
    """A namespace on the wire; router is None or the namespace of the NAT before it."""

    def __init__(self, net, kind):
        self.net, self.lab, self.kind = net, net.lab, kind
        self.number = number = next(net.numbers)
        self.space = self.lab.namespace(f"s{number}")
        self.router = None
        if kind == "plain":
            self.wire(self.space, "eth0", f"10.77.{number}.2/16")
            self.ip("route", "add", "default", "via", SERVER)
            return
        self.router = self.lab.namespace(f"r{number}")
        self.wire(self.router, "wan", f"10.77.{number}.1/16")
        self.lab.run(["ip", "link", "add", "lan", "netns", self.router, "type", "veth", "peer",
                      "name", "eth0", "netns", self.space])
        for space, device, address in ((self.router, "lan", 1), (self.space, "eth0", 2)):
            self.lab.run(["ip", "-n", space, "addr", "add", f"192.168.{number}.{address}/24", "dev", device])
            self.lab.run(["ip", "-n", space, "link", "set", device, "up"])
        self.ip("route", "add", "default", "via", f"192.168.{number}.1")
        self.lab.run(["ip", "netns", "exec", self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
        how = "fully-random" if kind == "hard" else ""
        # As routers do, what nobody asked for is dropped. (A reject would leave a conntrack entry
        # that spoils hole punching.)
        nft(self.lab, self.router, f"""
            table ip nat {{
                chain post {{
                    type nat hook postrouting priority 100;
                    oifname "wan" masquerade {how}
                }}
            }}
            table ip fw {{
                chain in {{
                    type filter hook input priority 0;
                    iifname "wan" ct state new drop
                }}
            }}""")
        if kind == "cone":
            nft(self.lab, self.router, f"""
                table ip cone {{
                    chain pre {{
                        type nat hook prerouting priority -100;
                        iifname "wan" meta l4proto udp dnat to 192.168.{number}.2
                    }}
                }}""")
        if kind == "blocked":
            self.block_udp()

    def wire(self, space, device, address):
        """A cable from there to the wire."""
        end = f"w{self.number}"
        self.lab.run(["ip", "link", "add", end, "netns", self.net.wan, "type", "veth", "peer",
                      "name", device, "netns", space])
        self.lab.run(["ip", "-n", self.net.wan, "link", "set", end, "master", "br0", "up"])
        self.lab.run(["ip", "-n", space, "addr", "add", address, "dev", device])
        self.lab.run(["ip", "-n", space, "link", "set", device, "up"])

    def ip(self, *words):
        self.lab.run(["ip", "-n", self.space, *words])

    def block_udp(self):
        nft(self.lab, self.router, """
            table ip block {
                chain forward {
                    type filter hook forward priority 0;
                    meta l4proto udp drop
                }
            }""")

    def unblock_udp(self):
        nft(self.lab, self.router, "delete table ip block")

    def move(self, last):
        """Another IP address for the node of a plain site, as when a laptop changes networks."""
        self.ip("addr", "flush", "dev", "eth0")
        self.ip("addr", "add", f"10.77.{self.number}.{last}/16", "dev", "eth0")
        self.ip("route", "add", "default", "via", SERVER)
