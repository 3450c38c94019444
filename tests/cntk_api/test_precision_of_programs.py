"""`convolve run --precision`: training steps in bf16, everything else in fp32."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
import cntk as C

rng = np.random.default_rng(0)
images = rng.normal(size=(64, 3, 12, 12)).astype(np.float32)
labels = np.eye(3, dtype=np.float32)[images.mean((2, 3)).argmax(1)]
x, y = C.input_variable((3, 12, 12)), C.input_variable(3)
body = C.layers.Sequential([
    C.layers.Convolution2D((3, 3), 8, pad=True, activation=C.relu), C.layers.BatchNormalization(map_rank=1),
    C.layers.MaxPooling((3, 3), (2, 2)), C.layers.Convolution2D((1, 1), 3, bias=False), C.layers.GlobalAveragePooling(),
])
z = C.reshape(body(x), 3)
loss = C.cross_entropy_with_softmax(z, y)
learner = C.sgd(z.parameters, C.learning_parameter_schedule(0.5))
trainer = C.Trainer(z, (loss, C.classification_error(z, y)), learner)
first = loss.eval({x: images, y: labels}).mean()
for _ in range(25):
    assert trainer.train_minibatch({x: images, y: labels}, outputs=[z])[1][z].dtype == np.float32
    print("loss %.9g" % trainer.previous_minibatch_loss_average)
assert z.parameters[0].value.dtype == np.float32
"""


def losses(folder: Path, *options: str) -> tuple[list[float], str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "convolve", "run", *options, str(program)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("loss")], done.stderr


def test_bf16_follows_fp32_and_says_that_it_is_used(tmp_path: Path) -> None:
    (exact, nothing), (rounded, said) = losses(tmp_path), losses(tmp_path, "--precision", "bf16")
    assert "training steps compute in bf16: asked for" in said and "compute in" not in nothing
    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=0.05) and exact[-1] < exact[0] - 0.1
    assert any(abs(loss * 256 - round(loss * 256)) > 1e-3 for loss in rounded)  # the losses themselves are fp32's


def test_auto_says_what_it_chose_and_why(tmp_path: Path) -> None:
    found, said = losses(tmp_path, "--precision=auto")
    assert "training steps compute in bf16: " in said or "training steps compute in fp32: " in said
    assert found[-1] < found[0]


@pytest.mark.parametrize(("arguments", "said"), [
    (["--precision", "fp8", "program.py"], "one of auto, fp32, bf16, not 'fp8'"),
    (["--precision", "bf16", "job.cntk"], "--precision is for Python programs"),
])  # fmt: skip
def test_what_cannot_be_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import cntk")
    command = [sys.executable, "-m", "convolve", "run", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr
