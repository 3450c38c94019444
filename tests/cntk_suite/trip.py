"""A program of the API alone for `round_trip.py`, which the real CNTK 2.7 (Python 3.6) and `convolve.cntk` both run.

trip.py save FOLDER            build every network, save it there
trip.py answer FOLDER RESULT   load every network of the folder; what each answers, and what it consists of
trip.py train FOLDER RESULT    train with every learner, a checkpoint half way; weights and losses after each step
trip.py resume FOLDER RESULT   go on from the checkpoints of the folder
"""

import json
import sys
from pathlib import Path

import cntk as C
import numpy as np
from trip_networks import NETWORKS, F, L, rng


def prepared(f):
    """Statistics of batch normalization that are none of the first ones."""
    for at, constant in enumerate(f.constants):
        if constant.name.startswith("aggregate") and constant.shape:
            values = rng(at).rand(*constant.shape) * 0.5 + (0.75 if "variance" in constant.name else -0.25)
            constant.value = values.astype(constant.dtype)
    return f


def save(folder):
    for build in NETWORKS:
        C.cntk_py.reset_random_seed(3)
        try:
            prepared(build()).save(str(Path(folder) / f"{build.__name__}.model"))
        except Exception as error:
            print(f"cannot save {build.__name__}: {in_words(error)}")


def fed(variable, seed):
    shape = tuple(8 if size < 0 else size for size in variable.shape)
    if variable.name == "rois":
        corners = rng(seed).rand(2, *shape) * 8
        corners[..., 2:] = corners[..., :2] + 4
        return corners.astype(F)
    if variable.name == "ids":
        return rng(seed).randint(0, 6, (2, *shape)).astype(F)
    values = rng(seed).normal(size=(2, *shape)).astype(variable.dtype)
    if variable.is_sparse:
        return C.Value.one_hot([[1], [3]], shape[0])
    return [v[None] for v in values] if len(variable.dynamic_axes) > 1 else values


def answer(folder, result):
    values, about = {}, {}
    for file in sorted(Path(folder).glob("*.model")):
        name = file.stem
        try:
            f = C.load_model(str(file))
            inputs = {v: fed(v, sum(v.name.encode()) % 100) for v in f.arguments}
            outputs = f.outputs
            found = f.eval(inputs)
            listed = [found] if len(outputs) == 1 else [found[v] for v in outputs]
            for at, array in enumerate(listed):
                values[f"{name}/{at}"] = np.concatenate([np.ravel(a) for a in array]) if isinstance(
                    array, list) else np.asarray(array)  # fmt: skip
            about[name] = [
                [[v.uid, v.name, list(v.shape), str(v.dtype)] for v in group]
                for group in (f.parameters, f.constants, f.arguments, f.outputs)
            ] + [[g.op_name + ":" + g.name for g in graph(f)]]
        except Exception as error:
            about[name] = in_words(error)
    np.savez(result + ".npz", **values)
    Path(result + ".json").write_text(json.dumps(about), encoding="utf-8")


def in_words(error):
    return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def graph(f):
    return C.logging.graph.depth_first_search(f, lambda n: isinstance(n, C.Function), depth=-1)


# -- trainings --------------------------------------------------------------------------------------------------------

STEPS, SIZE = 20, 8
RATES = {"lr": [0.05, 0.02, 0.01], "epoch_size": 90}


def rates(scale=1.0, minibatch_size=None):
    return C.learning_parameter_schedule([scale * r for r in RATES["lr"]], minibatch_size, RATES["epoch_size"])


LEARNERS = {
    "sgd": lambda p: [C.sgd(p, rates(), l2_regularization_weight=0.01)],
    "sgd_per_sample": lambda p: [C.sgd(p, C.learning_parameter_schedule_per_sample([0.01, 0.003], 120))],
    "sgd_noise": lambda p: [C.sgd(p, rates(), gaussian_noise_injection_std_dev=0.01)],
    "sgd_clipped": lambda p: [C.sgd(p, 0.05, gradient_clipping_threshold_per_sample=0.1)],
    "momentum": lambda p: [C.momentum_sgd(p, rates(), C.momentum_schedule([0.9, 0.5], epoch_size=100))],
    "momentum_time": lambda p: [C.momentum_sgd(p, rates(), C.momentum_as_time_constant_schedule(50), unit_gain=False)],
    "nesterov": lambda p: [C.nesterov(p, rates(), C.momentum_schedule(0.9))],
    "adagrad": lambda p: [C.adagrad(p, rates())],
    "adagrad_plain": lambda p: [C.adagrad(p, rates(), need_ave_multiplier=False)],
    "adadelta": lambda p: [C.adadelta(p, rates(10.0), 0.9, 1e-6)],
    "adam": lambda p: [C.adam(p, rates(0.2), 0.9, variance_momentum=0.99)],
    "adam_default": lambda p: [C.adam(p, rates(0.2, SIZE), C.momentum_schedule([0.9, 0.8], epoch_size=100))],
    "adamax": lambda p: [C.adam(p, rates(0.2), 0.9, variance_momentum=0.99, adamax=True)],
    "fsadagrad": lambda p: [C.fsadagrad(p, rates(0.2), 0.9, variance_momentum=0.99)],
    "rmsprop": lambda p: [C.rmsprop(p, rates(0.2), 0.9, 1.2, 0.7, 10, 1e-3)],
    "rmsprop_plain": lambda p: [C.rmsprop(p, rates(0.02), 0.9, 1.2, 0.7, 10, 1e-3, need_ave_multiplier=False)],
    "two": lambda p: [C.sgd(p[:2], rates()), C.adam(p[2:], rates(0.2), 0.9)],
    "sweeps": lambda p: [C.sgd(p, C.learning_parameter_schedule([0.1, 0.05, 0.02]))],
    "mean_gradient": lambda p: [C.momentum_sgd(p, 0.05, 0.9, use_mean_gradient=True)],
}  # fmt: skip


def started(name, folder):
    """(trainer, parameters, source, map of its streams) of one training at its beginning."""
    C.cntk_py.reset_random_seed(11)
    x, y = C.input_variable((2, 5, 5), name="x"), C.input_variable(3, name="y")
    z = L.Sequential(
        [
            L.Convolution2D((3, 3), 4, pad=True, bias=False),  # one before a normalization has rounding as its gradient
            L.BatchNormalization(map_rank=1, normalization_time_constant=100),
            C.relu,
            lambda t: C.dropout(t, 0.25),  # of one in a layer CNTK's checkpoints do not hold where it stands
            L.Dense(3),
        ]
    )(x)
    criterion = (C.cross_entropy_with_softmax(z, y), C.classification_error(z, y))
    trainer = C.Trainer(z, criterion, LEARNERS[name](z.parameters))
    streams = C.io.StreamDefs(x=C.io.StreamDef("x", shape=50), y=C.io.StreamDef("y", shape=3))
    source = C.io.MinibatchSource(C.io.CTFDeserializer(str(Path(folder) / "data.ctf"), streams))
    return trainer, z, source, {x: source.streams.x, y: source.streams.y}


def step(trainer, z, source, streams):
    trainer.train_minibatch(source.next_minibatch(SIZE, streams))
    state = [p.value.ravel() for p in z.parameters] + [c.value.ravel() for c in z.constants]
    rate = [each.learning_rate() for each in trainer.parameter_learners]
    return np.concatenate([*state, np.array([trainer.previous_minibatch_loss_average, *rate])])


def train(folder, result):
    lines = []
    for row in rng(1).normal(size=(100, 50)):
        label = int(row[:2].sum() > 0) + int(row[2] > 0.5)
        hot = " ".join(str(int(k == label)) for k in range(3))
        lines.append(f"|y {hot} |x {' '.join(f'{v:.5f}' for v in row)}\n")
    (Path(folder) / "data.ctf").write_text("".join(lines))
    found = {}
    for name in LEARNERS:
        parts = started(name, folder)
        for _ in range(STEPS):
            step(*parts)
        external = {"source": parts[2].get_checkpoint_state(), "epoch": 3, "note": "half way", "rates": [0.5, 0.25]}
        parts[0].save_checkpoint(str(Path(folder) / name), external)
        found[name] = np.stack([step(*parts) for _ in range(STEPS)])
    np.savez(result, **found)


def resume(folder, result):
    found = {}
    for name in LEARNERS:
        try:
            parts = started(name, folder)
            external = parts[0].restore_from_checkpoint(str(Path(folder) / name))
            assert (external["epoch"], external["note"], list(external["rates"])) == (3, "half way", [0.5, 0.25])
            parts[2].restore_from_checkpoint(external["source"])
            found[name] = np.stack([step(*parts) for _ in range(STEPS)])
        except Exception as error:
            print(f"cannot resume {name}: {in_words(error)}")
    np.savez(result, **found)


if __name__ == "__main__":
    {"save": save, "answer": answer, "train": train, "resume": resume}[sys.argv[1]](*sys.argv[2:])
