"""A training on shards, here or elsewhere, is killed, and goes on where nothing is cached: to the same bits."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convolve.training.trainer import Trainer
from processes import start
from remote_servers import S3Handler, failing_store, nginx, s3_environ
from resumed_runs import assert_same_training, events, has_begun, in_the_middle_of_an_epoch, wait_for_steps
from shard_files import write_shards

EPOCHS, BATCH = 4, 8
SETTINGS = (
    "model.variant=tiny", f"run.epochs={EPOCHS}", f"run.global_batch_size={BATCH}", "run.threads=1",
    "run.precision=fp32", "run.checkpoint_seconds=0.001", "run.report_batches=1",
    "data.image_size=24", "data.resize=square", "data.crop_ratio=0.875", "data.mean_image=",
    'data.train_transforms=[{"kind": "crop", "crop_type": "randomside", "side_ratio": 0.875}, '
    '{"kind": "scale", "width": 24, "height": 24}, {"kind": "flip"}]',
)  # fmt: skip


@contextmanager
def slow_steps() -> Iterator[None]:
    """Slow enough for a signal to come in time."""
    step = Trainer.train_step

    def slow(self: Trainer, *arguments: object) -> None:
        time.sleep(0.1)
        step(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "train_step", slow)
        yield


@contextmanager
def served(scheme: str, folder: Path, work: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of `folder`, and the environment in which it is reached."""
    if scheme == "here":
        yield str(folder), {}
    elif scheme == "s3":
        pytest.importorskip("s3fs", reason="s3fs is not installed")
        with failing_store(folder.parent, S3Handler) as store:
            yield f"s3://{folder.name}", s3_environ(store.url)
    else:
        with nginx(folder, work, tls=True) as url:
            yield url, {"SSL_CERT_FILE": str(work / "cert.pem"), "NO_PROXY": "127.0.0.1"}


@pytest.mark.parametrize("scheme", ["here", "s3", "https"])
def test_a_killed_training_goes_on_to_the_same_bits(scheme: str, tmp_path: Path) -> None:
    if scheme != "here":
        pytest.importorskip("aiohttp", reason="the extra remote is not installed")
    write_shards(tmp_path / "team" / "photos", count=80, shards=10)
    log, undisturbed, killed = tmp_path / "log", tmp_path / "undisturbed", tmp_path / "killed"
    cache = tmp_path / "cache"
    with served(scheme, tmp_path / "team", tmp_path / "nginx") as (url, way):
        words = ["train", "cifar10-aug", "--data", f"{url}/photos", *(f"--set={setting}" for setting in SETTINGS)]
        environ = way | {"CONVOLVE_CACHE": str(cache)}
        whole = start(log, *words, "--out", undisturbed, environ=environ).outcome()
        assert whole.code == 0 and "decoded on demand" in whole.err, whole.err
        inside = False
        for steps in (3, 9):
            shutil.rmtree(cache)  # another machine
            command = start(log, *words, "--out", killed, environ=environ, within=slow_steps)
            wait_for_steps(command, killed, steps)
            assert has_begun(command), command.log_text()
            command.kill()
            assert command.outcome().code < 0, command.log_text()
            inside |= in_the_middle_of_an_epoch(killed, undisturbed)
        shutil.rmtree(cache)
        assert start(log, *words, "--out", killed, environ=environ).outcome().code == 0, log.with_suffix(
            ".err"
        ).read_text()
    assert inside and sum(event["event"] == "resume" for event in events(killed)) == 2
    assert_same_training(undisturbed, killed)
