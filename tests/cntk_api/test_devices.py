"""Devices: what a program chooses, as the real CNTK 2.7 answers on a machine without a GPU; and steps on a GPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import convolve.cntk as C

STEPS = """
import sys
import numpy as np
import cntk as C

if sys.argv[1] == "gpu":
    assert C.device.try_set_default_device(C.device.gpu(0)) and repr(C.device.use_default_device()) == "GPU[0]"
rng = np.random.default_rng(0)
images = rng.normal(size=(16, 3, 8, 8)).astype(np.float32)
labels = np.eye(4, dtype=np.float32)[rng.integers(4, size=16)]
x, y = C.input_variable((3, 8, 8)), C.input_variable(4)
z = C.layers.Sequential([
    C.layers.Convolution2D((3, 3), 8, pad=True, activation=C.relu), C.layers.BatchNormalization(map_rank=1),
    C.layers.MaxPooling((3, 3), (2, 2)), C.layers.Dropout(0.3), C.layers.Dense(4),
])(x)
loss = C.cross_entropy_with_softmax(z, y)
rate = C.learning_parameter_schedule_per_sample(0.01)
trainer = C.Trainer(z, (loss, C.classification_error(z, y)), C.adam(z.parameters, rate, 0.9))
for step in range(5):
    trainer.train_minibatch({x: images, y: labels})
    print(trainer.previous_minibatch_loss_average)
    if step == 2:
        trainer.save_checkpoint("here.ckp")
        trainer.restore_from_checkpoint("here.ckp")
z.save("here.model")
print(*C.load_model("here.model").eval(images).ravel())
print(*loss.grad({x: images, y: labels}, wrt=[z.parameters[0]]).ravel())
"""


def ran(folder: Path, device: str) -> list[float]:
    (folder / "steps.py").write_text(STEPS)
    command = [sys.executable, "-m", "convolve", "run", "steps.py", device]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    return [float(number) for number in done.stdout.split()]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_takes_the_steps_of_the_processor(tmp_path: Path) -> None:
    assert np.allclose(ran(tmp_path, "gpu"), ran(tmp_path, "cpu"), rtol=1e-3, atol=1e-4)


def test_the_default_device_is_the_processor_and_may_be_said_again() -> None:
    device = C.device
    assert repr(device.use_default_device()) == "CPU"
    assert device.try_set_default_device(device.cpu()) and device.try_set_default_device(device.cpu(), True)
    assert device.all_devices()[-1] == device.cpu()
    with pytest.raises(NotImplementedError):
        device.try_set_default_device(0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Specified GPU device id \(0\) is invalid"):
        C.device.gpu(0)


def test_a_device_comes_too_late_where_numbers_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(C.device, "_default", C.device._Default(C.device.cpu()))
    gpu = C.device.DeviceDescriptor("gpu", 0)
    with pytest.warns(UserWarning, match="computes on a GPU"):
        assert C.device.try_set_default_device(gpu)
    assert C.device.used() == torch.device("cuda", 0)
    assert not C.device.try_set_default_device(C.device.cpu()) and C.device.use_default_device() == gpu
