"""Ray's client, Data and Train. ray_more.py client ray://HOST:PORT FOLDER | data|train HEAD OWN FOLDER"""
import sys
import time

import numpy as np
import ray


def client(address, folder):
    ray.init(address, runtime_env={"working_dir": folder}, log_to_driver=False)

    @ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
    def where():
        import sent_along  # of the working_dir, on the node where this runs
        time.sleep(1)
        return sent_along.WORD, ray.util.get_node_ip_address()

    @ray.remote
    def total(values):
        return int(values.sum())

    words, places = map(set, zip(*ray.get([where.remote() for _ in range(8)])))
    print(*words, *sorted(places), "sum", ray.get(total.remote(ray.put(np.arange(2_000_000)))))


def data():
    numbers = ray.data.range(20_000, override_num_blocks=8).map_batches(lambda batch: {"id": batch["id"] * 2}).random_shuffle()
    print("sum", numbers.sum("id"))


def train(folder):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def loop(config):
        import pathlib

        import ray.train
        import torch
        import torch.distributed as dist
        value = torch.full((1000,), float(dist.get_rank() + 1))
        dist.all_reduce(value)
        (pathlib.Path(config["folder"]) / str(dist.get_rank())).write_text(f"{value[0].item()} {ray.util.get_node_ip_address()}")
        ray.train.report({})

    TorchTrainer(loop, train_loop_config={"folder": folder}, run_config=RunConfig(storage_path=folder),
                 scaling_config=ScalingConfig(num_workers=2, placement_strategy="STRICT_SPREAD")).fit()
    said = [open(f"{folder}/{rank}").read().split() for rank in (0, 1)]
    print("trained", *{value for value, _ in said}, *sorted(place for _, place in said))


if sys.argv[1] == "client":
    client(*sys.argv[2:])
else:
    ray.init(sys.argv[2], _node_ip_address=sys.argv[3], log_to_driver=False)
    data() if sys.argv[1] == "data" else train(sys.argv[4])
