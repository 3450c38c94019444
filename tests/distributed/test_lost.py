"""What torch says of a lost worker, in our words."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from convolve.distributed.lost import naming_lost_workers
from convolve.errors import TrainingError

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81]"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError(f"{GLOO} Timed out waiting 300000ms for recv operation to complete"), "not answered for 300 s"),
        (RuntimeError(f"{GLOO} Connection closed by peer [127.0.0.1]:53"), "another worker has ended; see its message"),
        (dist.DistNetworkError("failed to recv, got 0 bytes"), "another worker has ended; see its message"),
    ],
)
def test_in_our_words(error: Exception, message: str) -> None:
    with pytest.raises(TrainingError, match=message), naming_lost_workers():
        raise error


def test_other_errors_stay() -> None:
    with pytest.raises(RuntimeError, match="of a layer"), naming_lost_workers():
        raise RuntimeError("Timed out, of a layer")
