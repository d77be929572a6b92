"""torch_rpc.py RANK: remote calls by TensorPipe, and a store and a group by name; MASTER_ADDR and MASTER_PORT as always."""
import os
import sys

import torch
import torch.distributed as dist
from torch.distributed import rpc

rank = int(sys.argv[1])
torch.set_num_threads(1)


def double(block):
    return block * 2, rpc.get_worker_info().name


# Two processes of one machine, as here, would read each other's memory (its channel "cma").
far_apart = rpc.TensorPipeRpcBackendOptions(_transports=["uv"], _channels=["mpt_uv", "basic"])
rpc.init_rpc(f"worker{rank}", rank=rank, world_size=2, rpc_backend_options=far_apart)
block = torch.arange(4_000_000, dtype=torch.float32) + rank
for _ in range(3):
    got, name = rpc.rpc_sync(f"worker{1 - rank}", double, args=(block,))
    assert torch.equal(got, block * 2) and name == f"worker{1 - rank}", name
far = rpc.remote(f"worker{1 - rank}", double, args=(block[:9],))
assert torch.equal(far.to_here()[0], block[:9] * 2)
print("called", flush=True)
rpc.shutdown()

dist.init_process_group("gloo", init_method=f"tcp://{os.environ['MASTER_ADDR']}:{int(os.environ['MASTER_PORT']) + 1}", rank=rank, world_size=2)
if rank:
    dist.send(block, 0)
else:
    got = torch.empty_like(block)
    dist.recv(got, 1)
    assert torch.equal(got, block + 1)
gathered = [None, None]
dist.all_gather_object(gathered, {"rank": rank})
assert gathered == [{"rank": 0}, {"rank": 1}]
dist.barrier()
print("grouped", flush=True)
dist.destroy_process_group()
