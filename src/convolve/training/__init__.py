"""How a model learns: schedule, optimizer, step, loop, evaluation, checkpoints. It sees neither `data` nor `models`."""
