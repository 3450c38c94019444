"""Models that CNTK trained from a text give their numbers to the network of that text."""

import numpy as np
import pytest
import torch

import bcn
from convolve.errors import ModelError
from convolve.importers import cntk
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import read_network
from convolve.importers.brainscript.text import of_lines
from convolve.importers.brainscript.trained import with_numbers
from convolve.importers.build import build
from convolve.importers.graph import Graph

VERSION = 7

TEXT = """{
    Layer (inDim, outDim, x) = { W = Parameter (outDim, inDim) ; b = Parameter (outDim, 1) ; z = W * x + b }
    features = Input {4}
    h1 = Sigmoid (Layer (4, 3, 1/256 * features).z)
    z = Layer (3, 2, h1)
    r = z.z
}"""


def graph_of(text: str) -> Graph:
    network = read_network(of_lines("net.bs", text.split("\n")), [])
    return lower([network.members["r"]], torch.Generator().manual_seed(1), "BrainScript")


def trained_by_cntk() -> tuple[Graph, dict[str, np.ndarray]]:
    """A file as CNTK's trainer writes it for TEXT."""
    rng = np.random.default_rng(3)
    shapes = {"h1._.W": (4, 3), "h1._.b": (1, 3), "z.W": (3, 2), "z.b": (1, 2)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    times = bcn.pack("Q", 1)  # the output rank
    nodes = [
        bcn.input_node(VERSION, "features", 4),
        bcn.parameter(VERSION, "f", np.full((1, 1), 1 / 256, np.float32), 0.0),
        *(bcn.parameter(VERSION, name, array) for name, array in arrays.items()),
        ("ElementTimes", "x", b"", ("f", "features")),
        ("Times", "h1._.z.PlusArgs[0]", times, ("h1._.W", "x")),
        ("Plus", "h1._.z", b"", ("h1._.z.PlusArgs[0]", "h1._.b")),
        ("Sigmoid", "h1", b"", ("h1._.z",)),
        ("Times", "z.z.PlusArgs[0]", times, ("z.W", "h1")),
        ("Plus", "z.z", b"", ("z.z.PlusArgs[0]", "z.b")),
    ]
    return cntk.parse(bcn.model(VERSION, nodes, ["z.z"]), "trained.dnn"), arrays


def test_a_trained_model_gives_its_numbers() -> None:
    trained, arrays = trained_by_cntk()
    fresh = graph_of(TEXT)
    assert {p.source for p in fresh.parameters if p.learning_rate_multiplier} == arrays.keys()  # CNTK's own names
    x = torch.rand(5, 4) * 256
    hidden = torch.sigmoid(x / 256 @ torch.from_numpy(arrays["h1._.W"]) + torch.from_numpy(arrays["h1._.b"]))
    scores = hidden @ torch.from_numpy(arrays["z.W"]) + torch.from_numpy(arrays["z.b"])
    assert torch.allclose(build(with_numbers(fresh, trained))(x), scores, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("Sigmoid", "Tanh"), "one is tanh, the other sigmoid"),
        (("4, 3", "4, 5"), "the shape is"),
        (("W * x + b", "W * x"), "one has 2 operands, the other 3"),
        (("1/256 * features", "features"), "one is an input, the other multiply"),
    ],
)
def test_another_text_is_refused(change: tuple[str, str], words: str) -> None:
    trained, _ = trained_by_cntk()
    with pytest.raises(ModelError, match=f"the model was not made from this text: .*{words}"):
        with_numbers(graph_of(TEXT.replace(*change).replace("Layer (3,", "Layer (5," if "5" in change[1] else "Layer (3,")), trained)
