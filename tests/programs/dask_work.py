"""dask_work.py SCHEDULER A B: arrays made on one worker and read on the other, both ways."""
import hashlib
import sys

import numpy
from distributed import Client


def make(seed):
    return numpy.random.default_rng(seed).integers(0, 255, 20_000_000, dtype=numpy.uint8)


def digest(array):
    return hashlib.sha256(array).hexdigest()


with Client(sys.argv[1], timeout=30) as client:
    workers = list(client.scheduler_info()["workers"])
    hosts = sorted(address.split("//")[1].rsplit(":", 1)[0] for address in workers)
    assert hosts == sorted(sys.argv[2:]), f"the workers' addresses are {hosts}"
    print("workers")
    for seed, (source, target) in enumerate([(0, 1), (1, 0)]):
        made = client.submit(make, seed, workers=[workers[source]], pure=False)
        got = client.submit(digest, made, workers=[workers[target]], pure=False).result(timeout=90)
        assert got == digest(make(seed)), "the array is not what it was"
        assert numpy.array_equal(made.result(timeout=90), make(seed))
    print("arrays")
