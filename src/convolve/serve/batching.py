"""One model, many askers: a single thread runs the network, each time on all images that came while it was busy."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convolve.model import Model

# Legend: C channels, H rows, W columns, K classes.

MOST_IMAGES = 64  # at a time: throughput hardly grows beyond, and nobody waits for more than one such batch

Image = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class _Question:
    image_CHW: Image
    answer: asyncio.Future[Probabilities]


class Batcher:
    """Answers through `Model.probabilities`, as `convolve predict` does. `run` must be running meanwhile."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._most_images = min(MOST_IMAGES, model.batch_size)
        self._questions: asyncio.Queue[_Question] = asyncio.Queue()

    async def probabilities(self, image_CHW: Image) -> Probabilities:
        """probabilities_K of a uint8 image that has the model's size. Raises what the model raises."""
        question = _Question(image_CHW, asyncio.get_running_loop().create_future())
        self._questions.put_nowait(question)
        return await question.answer

    async def run(self) -> None:
        """Answer questions until cancelled."""
        with ThreadPoolExecutor(1, "model") as thread:
            while True:
                batch = [await self._questions.get()]
                while len(batch) < self._most_images and not self._questions.empty():
                    batch.append(self._questions.get_nowait())
                wanted = [question for question in batch if not question.answer.done()]  # else the asker has gone
                if wanted:
                    await self._answer(wanted, thread)

    async def _answer(self, questions: list[_Question], thread: ThreadPoolExecutor) -> None:
        images_NCHW = np.stack([question.image_CHW for question in questions])
        try:
            probabilities_NK = await asyncio.get_running_loop().run_in_executor(
                thread, self._model.probabilities, images_NCHW
            )
        except Exception as error:  # whatever it is, it belongs to those who asked; the next batch has its own chance
            for question in questions:
                if not question.answer.done():
                    question.answer.set_exception(error)
            return
        for question, probabilities_K in zip(questions, probabilities_NK.numpy(), strict=True):
            if not question.answer.done():
                question.answer.set_result(probabilities_K)
