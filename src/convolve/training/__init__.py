"""How a model learns: schedule, optimizer, step, loop, evaluation, checkpoints. It does not depend on `data`."""
