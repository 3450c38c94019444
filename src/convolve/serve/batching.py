"""One model, many requests. Images that arrive meanwhile are processed together.

With torch, all cores first prepare images, then all run the network. Not both at once: the network's threads share each
layer evenly, so all would wait for the one whose core is decoding. With onnxruntime, whose runs use a given number of
cores, each core processes a few images from file to answer, independent of the others.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from convolve.environment import usable_cores
from convolve.model import Model
from convolve.serve.engine import Engine

# Legend: C channels, H rows, W columns, K classes.

MOST_IMAGES = 64  # at a time: throughput hardly grows beyond, and nobody waits for more than one such batch
MOST_DECODERS = 4  # threads: each may hold an image of the largest size
IMAGES_OF_A_PART = 4  # which one core answers at once; docs/experiments.md has other numbers

Image = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


class Prepared(NamedTuple):
    """An image of the model's size, and how it was converted, in words."""

    image_CHW: Image
    fitted: str


class Answer(NamedTuple):
    prepared: Prepared
    probabilities_K: Probabilities
    sure: dict[str, Any]  # how sure that is, where the model has learned it


@dataclass(frozen=True)
class _Question:
    prepare: Callable[[], Prepared]
    answer: asyncio.Future[Answer]


class Batcher:
    """Answers with `Model.answered`, as `convolve predict` does. `run` must be running meanwhile. An `engine`, if
    given, replaces the model's network. Several models take `turn`, so that one at a time has all cores. `watch` is
    called with the size of each batch.
    """

    def __init__(self, model: Model, turn: asyncio.Lock, watch: Callable[[int], None]) -> None:
        self._model = model
        self.engine: Engine | None = None
        self._turn = turn
        self._watch = watch
        self._most_images = min(MOST_IMAGES, model.batch_size)
        self._questions: asyncio.Queue[_Question] = asyncio.Queue()
        self.threads = min(MOST_DECODERS, usable_cores())

    async def answer(self, prepare: Callable[[], Prepared]) -> Answer:
        """The answer for the image that `prepare` returns, in a thread. Raises the exceptions of `prepare` and of the
        model."""
        question = _Question(prepare, asyncio.get_running_loop().create_future())
        self._questions.put_nowait(question)
        return await question.answer

    async def run(self) -> None:
        """Answer questions until canceled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(self.threads, "decoder") as decoders, ThreadPoolExecutor(1, "model") as thread:
            while True:
                batch = [await self._questions.get()]
                async with self._turn:
                    while len(batch) < self._most_images and not self._questions.empty():
                        batch.append(self._questions.get_nowait())
                    wanted = [
                        question for question in batch if not question.answer.done()
                    ]  # otherwise the client has gone
                    self._watch(len(wanted))
                    answers = await loop.run_in_executor(thread, self._answers, wanted, decoders)
                for question, answer in answers:
                    _tell(question, answer)

    def _answers(
        self, questions: Sequence[_Question], decoders: ThreadPoolExecutor
    ) -> list[tuple[_Question, Answer | Exception]]:
        """The answer to each request, or why there is none."""
        if len(questions) == 1:  # spares it the way to another thread and back
            return self._ask(_prepare(questions), self.engine.alone if self.engine else None)
        if self.engine is None:
            prepared = decoders.map(_prepare, _parts(questions, self.threads))
            return self._ask([*chain.from_iterable(prepared)], None)
        network = self.engine.beside
        parts = _parts(questions, max(self.threads, math.ceil(len(questions) / IMAGES_OF_A_PART)))
        return [*chain.from_iterable(decoders.map(lambda part: self._ask(_prepare(part), network), parts))]

    def _ask(
        self, prepared: Sequence[tuple[_Question, Prepared | Exception]], network: nn.Module | None
    ) -> list[tuple[_Question, Answer | Exception]]:
        failed = [(question, error) for question, error in prepared if isinstance(error, Exception)]
        ready = [(question, found) for question, found in prepared if isinstance(found, Prepared)]
        if not ready:
            return [*failed]
        try:
            images_NCHW = np.stack([found.image_CHW for _, found in ready])
            answers_NK, sure = self._model.answered(images_NCHW, network)
        except Exception as error:  # whatever it is, it belongs to those who asked; the next batch has its own chance
            return [*failed, *((question, error) for question, _ in ready)]
        answers = map(Answer, (found for _, found in ready), answers_NK.numpy(), sure)
        return [*failed, *zip((question for question, _ in ready), answers, strict=True)]


def _parts(questions: Sequence[_Question], count: int) -> list[Sequence[_Question]]:
    return [questions[first::count] for first in range(min(count, len(questions)))]


def _prepare(questions: Sequence[_Question]) -> list[tuple[_Question, Prepared | Exception]]:
    """Each request's image, or the error about it."""
    prepared: list[tuple[_Question, Prepared | Exception]] = []
    for question in questions:
        try:
            prepared.append((question, question.prepare()))
        except Exception as error:
            prepared.append((question, error))
    return prepared


def _tell(question: _Question, answer: Answer | Exception) -> None:
    if question.answer.done():  # the asker has gone
        return
    if isinstance(answer, Exception):
        question.answer.set_exception(answer)
    else:
        question.answer.set_result(answer)
