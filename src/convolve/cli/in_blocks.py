"""How commands query a model: in blocks that several workers can share; see data/team.py."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace
from functools import partial
from typing import Any

from convolve.data.damaged import Noted
from convolve.data.dataset import Batch, Dataset
from convolve.data.team import Team
from convolve.formats.archive import Location
from convolve.model import Model
from convolve.prediction import Prediction
from convolve.training.evaluate import BatchAnswers, Evaluation, answers_to, evaluation_of

Watch = Callable[[Iterator[Batch]], Iterator[Batch]]  # passes batches on as they arrive


def evaluate(model: Model, dataset: Dataset, views: int, watch: Watch, team: Team) -> Evaluation:
    """As `Model.evaluate`. Images that cannot be read are reported to `dataset.unreadable` first."""
    unreadable, compute = dataset.unreadable, partial(_answers, model, dataset, views, watch)
    found: list[BatchAnswers | None] = []
    for failures, answers in team.blocks("images evaluated", len(dataset), _step(model, views), compute):
        for failure in failures:
            assert unreadable is not None  # images in memory are always readable
            unreadable.note(*failure)
        found.append(BatchAnswers(*answers) if answers else None)
    if unreadable is not None:
        unreadable.require(len(dataset))
    return evaluation_of(found, target=model.target)


def _step(model: Model, views: int) -> int:
    """The number of images in a batch, as `Model.batches` has them."""
    return max(1, model.batch_size // views)


def _answers(
    model: Model, dataset: Dataset, views: int, watch: Watch, numbers: range
) -> Iterator[tuple[list[tuple[int, str, str]], tuple[Any, ...] | None]]:
    """(failures, `BatchAnswers`) of each batch; no answers after more failures than are allowed."""
    noted, step = Noted(), _step(model, views)
    limit = math.inf if dataset.unreadable is None else dataset.unreadable.limit

    def batches() -> Iterator[Batch]:
        for images_NCHW, labels_N in watch(model.batches(replace(dataset, unreadable=noted), views, of=numbers)):
            yield images_NCHW, labels_N[:0] if len(noted) > limit else labels_N

    answers = answers_to(
        model.network, batches(), model.device, views, independent=model.independent, target=model.target
    )
    for first, one in zip(numbers[::step], answers, strict=True):
        yield noted.among(range(first, min(first + step, numbers.stop))), tuple(one) if one else None


def predictions(
    model: Model,
    images: Sequence[Location],
    top: int | None,
    watch: Callable[..., Any],
    team: Team,
    *,
    start: int = 0,
    for_all: bool = True,
) -> Iterator[list[Prediction]]:
    """As `Model.answers`. `start` and `for_all`: see `Team.blocks`."""

    def compute(numbers: range) -> Iterator[list[tuple[Any, ...]]]:
        for batch in watch(model.answers(images, top, numbers)):
            yield [astuple(one) for one in batch]

    count, step = len(images), model.batch_size
    for values in team.blocks("images predicted", count, step, compute, start=start, for_all=for_all):
        yield [_prediction(each) for each in values]


def _prediction(values: tuple[Any, ...]) -> Prediction:
    heads: Any = values[-1]
    return replace(Prediction(*values), heads=tuple((name, _prediction(each)) for name, each in heads))
