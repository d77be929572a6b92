"""FOLDER: one rank of a job that DeepSpeed's launcher has started: the sum of all ranks, and where they are."""
import os
import socket
import sys

os.environ["TORCH_EXTENSIONS_DIR"] = sys.argv[-1]

import deepspeed  # noqa: E402
import torch  # noqa: E402

deepspeed.init_distributed("gloo", verbose=False)
t = torch.full((1_000_000,), float(deepspeed.comm.get_rank() + 1))
deepspeed.comm.all_reduce(t)
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(("8.8.8.8", 53))
places = [None] * deepspeed.comm.get_world_size()
torch.distributed.all_gather_object(places, probe.getsockname()[0])
assert torch.all(t == 3)
print("summed", *places, flush=True)
