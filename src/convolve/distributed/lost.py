"""The errors of the other workers when one has ended, or stopped without ending."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from convolve.errors import TrainingError

STEP_PATIENCE_SECONDS = 300.0  # one worker may write a checkpoint to a slow disk between two steps
_AGAIN = "The same command again goes on, but without --restart"


def has_ended() -> TrainingError:
    return TrainingError(f"another worker has ended; see its message. {_AGAIN}")


def is_silent(seconds: float) -> TrainingError:
    return TrainingError(
        f"another worker has not answered for {seconds:g} s: it has stopped, or its host or the network between has "
        f"failed; see which one, and end it. {_AGAIN}"
    )


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turn torch's errors about a connection into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo/transport" not in str(error):
            raise
        raise (is_silent(STEP_PATIENCE_SECONDS) if "Timed out" in str(error) else has_ended()) from error
