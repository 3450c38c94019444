"""Sessions that go on from a checkpoint: what callbacks are told, and what is written."""
import os
import shutil
import tempfile

import cntk as C
import numpy as np

C.cntk_py.set_fixed_random_seed(1)
draw = np.random.RandomState(0)
X, Y = draw.rand(64, 4).astype(np.float32), np.eye(3, dtype=np.float32)[draw.randint(0, 3, 64)]
folder = tempfile.mkdtemp()


def run(name, total, restore, frequency, validation, preserve_all=False):
    x, y = C.input_variable(4), C.input_variable(3)
    z = C.layers.Dense(3)(x)
    learner = C.sgd(z.parameters, C.learning_parameter_schedule(0.1))
    if name != "mb":
        learner = C.distributed.data_parallel_distributed_learner(learner)
    printer = C.logging.ProgressPrinter(4, gen_heartbeat=not restore)
    trainer = C.Trainer(z, (C.cross_entropy_with_softmax(z, y), C.classification_error(z, y)), learner, printer)
    source = C.io.MinibatchSourceFromData(dict(x=X, y=Y), max_samples=total)
    check = C.io.MinibatchSourceFromData(dict(x=X, y=Y), max_samples=64)
    calls = []

    def callback(index, average, samples, minibatches):
        calls.append((index, "%.5f" % average, samples, minibatches))
        return True

    C.training_session(
        trainer=trainer, mb_source=source, mb_size=10, model_inputs_to_streams={x: source.streams.x, y: source.streams.y},
        checkpoint_config=C.CheckpointConfig(os.path.join(folder, name), frequency, restore, preserve_all),
        cv_config=C.CrossValidationConfig(check, frequency=validation, minibatch_size=32, callback=callback, model_inputs_to_streams={x: check.streams.x, y: check.streams.y}),
    ).train()
    print(name, calls, trainer.total_number_of_samples_seen, sorted(f for f in os.listdir(folder) if f.startswith(name)))


run("s", 64, False, 32, 32)
run("s", 128, True, 32, 32)
run("s", 192, True, 64, 20)
run("kept", 64, False, 25, None, True)
run("kept", 128, True, 25, 30, True)
unit = C.train.DataUnit
run("mb", 64, False, (2, unit.minibatch), (3, unit.minibatch))
run("mb", 128, True, (2, unit.minibatch), (3, unit.minibatch))
run("mb", 192, True, (1, unit.sweep), (1, unit.sweep))
shutil.rmtree(folder)
