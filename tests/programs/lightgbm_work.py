"""lightgbm_work.py MACHINES PORT RANK: a model of data of which each machine has a part."""
import sys

import lightgbm
import numpy

machines, port, rank = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rows = numpy.random.default_rng(rank).random((5000, 8))
data = lightgbm.Dataset(rows, rows[:, 0] * 3 + rows[:, 1] + 10 * rank)
model = lightgbm.train({"objective": "regression", "tree_learner": "data", "num_machines": 2, "machines": machines, "local_listen_port": port,
                        "time_out": 1, "num_threads": 1, "pre_partition": True}, data, 5)
print("trees", model.num_trees(), "of", round(float(model.predict(numpy.full((1, 8), 0.5))[0]), 6), flush=True)
