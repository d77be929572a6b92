"""PaddlePaddle: a sum of 8 MB of all ranks, and what each of them is, by gloo."""
import os

import paddle
import paddle.distributed as dist

paddle.set_device("cpu")
dist.init_parallel_env()
rank = dist.get_rank()
numbers = paddle.ones([2_000_000]) * (rank + 1)
dist.all_reduce(numbers)
gathered = []
dist.all_gather(gathered, paddle.to_tensor([rank]))
everywhere = bool((numbers == 3).all())
print("summed" if everywhere else "wrong", [int(one.item()) for one in gathered], os.environ["PADDLE_TRAINER_ENDPOINTS"], flush=True)
