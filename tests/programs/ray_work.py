"""A Ray driver: ray_work.py HEAD:PORT|local OWN NODE... Prints one word a thing that held; anything else is an exception.

OWN is this node's address. Ray looks for the raylet of a driver among all processes it can see, and here, unlike on
two machines, both nodes' can be seen.
"""
import hashlib
import os
import socket
import sys

import numpy
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

head, own, *wanted = sys.argv[1:]
if head == "local":
    ray.init(num_cpus=2, object_store_memory=400_000_000, log_to_driver=False)
else:
    ray.init(address=head, log_to_driver=False, _node_ip_address=own)
assert ray.util.get_node_ip_address() == own, ray.util.get_node_ip_address()
nodes = {n["NodeManagerAddress"]: n["NodeID"] for n in ray.nodes() if n["Alive"]}
assert sorted(nodes) == sorted(wanted), f"the cluster has {nodes}, not {wanted}"
print("nodes", flush=True)


def where():
    listener = socket.create_server((ray.util.get_node_ip_address(), 0))
    own = listener.getsockname()[0]
    return own, "libmeshwrap" in open("/proc/self/maps").read(), os.environ.get("LD_PRELOAD", "")


def on(address, f):
    return ray.remote(f).options(scheduling_strategy=On(nodes[address], soft=False)) if callable(f) else f


for address in wanted:
    seen, has_shim, preload = ray.get(on(address, where).remote(), timeout=60)
    assert seen == address, f"a worker of {address} thinks it is {seen}"
    assert has_shim, f"a worker of {address} has lost the shim, LD_PRELOAD is {preload!r}"
print("tasks", flush=True)


@ray.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self, n):
        self.n += n
        return ray.util.get_node_ip_address(), self.n


for address in wanted:
    counter = Counter.options(scheduling_strategy=On(nodes[address], soft=False)).remote()
    answers = ray.get([counter.add.remote(i) for i in range(20)], timeout=60)
    assert answers[-1] == (address, 190), answers[-1]
print("actors", flush=True)


def make():
    return numpy.random.default_rng(5).integers(0, 255, 100_000_000, dtype=numpy.uint8)


def digest(array):
    return hashlib.sha256(array).hexdigest(), array.nbytes


want = digest(make())
for source in wanted:
    for target in wanted:
        made = on(source, make).remote()
        got = ray.get(on(target, digest).remote(made), timeout=120)
        assert tuple(got) == want, f"an object from {source} to {target} is not what it was"
print("objects", flush=True)
