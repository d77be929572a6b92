"""hivemind: one averages a tensor with another. hivemind_work.py OWN VALUE [ADDRESS...], the addresses of one that is there"""
import sys
import time

import hivemind
import torch

own, value, peers = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
if __name__ == "__main__":
    dht = hivemind.DHT(host_maddrs=[f"/ip4/{own}/tcp/0"], initial_peers=peers or None, start=True)
    print("addresses", *dht.get_visible_maddrs(), "ready", flush=True)
    averager = hivemind.averaging.DecentralizedAverager([torch.full((500_000,), value)], dht, prefix="mesh", target_group_size=2,
                                                        min_matchmaking_time=15, start=True)
    averager.step(timeout=90)
    with averager.get_tensors() as tensors:
        print("average", tensors[0].min().item(), tensors[0].max().item(), flush=True)
    time.sleep(20)  # the other one may still want its part
