"""When a session validates: as the real CNTK 2.7 did with the same calls; what an evaluator counts."""

from typing import Any

import numpy as np
import pytest

import convolve.cntk as C
from convolve.cntk.io import MinibatchSourceFromData
from convolve.cntk.train import CrossValidationConfig, DataUnit, training_session


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"frequency": 8}, [8, 16, 24]),
        ({}, [24]),
        ({"frequency": (2, DataUnit.minibatch)}, [8, 16, 24]),
        ({"frequency": (1, DataUnit.sweep)}, [24]),
    ],
)
@pytest.mark.parametrize("name", ["minibatch_source", "source"])
def test_validations_come_when_cntks_do(name: str, options: dict[str, Any], wanted: list[int]) -> None:
    x, y = C.input_variable(2), C.input_variable(1)
    z = C.layers.Dense(1)(x)
    loss = C.squared_error(z, y)
    trainer = C.Trainer(z, (loss, loss), [C.sgd(z.parameters, 0.01)])
    training, validation = (
        MinibatchSourceFromData({"x": np.ones((n, 2), "f"), "y": np.ones((n, 1), "f")}, max_samples=n) for n in (24, 8)
    )
    found = []

    def callback(index: int, error: float, samples: int, minibatches: int) -> bool:
        found.append((index, samples, trainer.total_number_of_samples_seen))
        return True

    streams = {x: validation.streams.x, y: validation.streams.y}
    config = CrossValidationConfig(**{name: validation}, callback=callback, model_inputs_to_streams=streams, **options)
    streams = {x: training.streams.x, y: training.streams.y}
    training_session(trainer, training, 4, streams, cv_config=config).train()
    assert found == [(index, 8, seen) for index, seen in enumerate(wanted)]


def test_the_error_among_the_first_five_is_a_mean_over_samples() -> None:
    z, y = C.input_variable(8), C.input_variable(8)
    scores = np.random.default_rng(0).random((16, 8)).astype(np.float32)
    labels = np.arange(16) % 8
    evaluator = C.eval.Evaluator(C.classification_error(z, y, topN=5))
    among = np.argsort(-scores, axis=1)[:, :5]
    wanted = np.mean([label not in first for label, first in zip(labels, among, strict=True)])
    assert 0 < wanted < 1
    assert evaluator.test_minibatch({z: scores, y: np.eye(8)[labels]}) == pytest.approx(wanted)
