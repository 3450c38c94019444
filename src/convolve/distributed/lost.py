"""The errors of the other workers when one has ended, or stopped without ending."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import torch.distributed as dist

from convolve.errors import TrainingError
from convolve.specs.distributed import DistributedSpec

# One worker may write a checkpoint to a slow disk between two steps.
TIMEOUT_SECONDS = DistributedSpec.timeout_seconds
_AGAIN = "The same command without --restart resumes the run"


def has_ended(who: str = "another worker") -> TrainingError:
    return TrainingError(f"{who} has ended; see its message. {_AGAIN}")


def is_silent(seconds: float, who: str = "another worker") -> TrainingError:
    return TrainingError(
        f"{who} has not answered for {seconds:g} s (distributed.timeout_seconds): it has stopped, or its host or the "
        f"network has failed; find out which, and end it. {_AGAIN}"
    )


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turn torch's errors about a connection into one sentence. Gloo says whose it was, and how long it has waited."""
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if not isinstance(error, dist.DistError) and "gloo/transport" not in said:
            raise
        if "Timed out" in said:
            waited = re.search(r"([0-9]+)ms", said)
            raise is_silent(int(waited[1]) / 1000 if waited else TIMEOUT_SECONDS) from error
        peer = re.search(r"peer \[(?:::ffff:)?([0-9a-fA-F.:]+)\]", said)
        is_told = peer and not ip_address(peer[1]).is_loopback
        raise has_ended(f"the worker at {peer[1]}" if peer and is_told else "another worker") from error
