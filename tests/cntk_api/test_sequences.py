"""Operations along sequences: what the real CNTK 2.7 answered for the same sequences."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convolve.cntk as C

S = C.sequence
DATA = [
    np.array([[1, 2], [3, 4], [5, 6]], np.float32), np.array([[5, -1]], np.float32),
    np.array([[-2, -1], [0, 1]], np.float32),
]  # fmt: skip
STATES = np.array([[10, 20], [30, 40], [50, 60]], np.float32)
Made = Callable[[Any], Any]


@pytest.fixture
def x() -> Any:
    return S.input_variable(2, name="x", needs_gradient=True)


def is_close(found: Any, wanted: Any) -> bool:
    if isinstance(wanted[0], np.ndarray):
        return len(found) == len(wanted) and all(
            a.shape == b.shape and np.allclose(a, b, atol=1e-4) for a, b in zip(found, wanted, strict=True)
        )
    return np.shape(found) == np.shape(wanted) and np.allclose(found, wanted, atol=1e-4)


def rows(*sequences: Any) -> list[Any]:
    return [np.array(each, np.float32) for each in sequences]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (S.first, [[1, 2], [5, -1], [-2, -1]]),
        (S.last, [[5, 6], [5, -1], [0, 1]]),
        (S.is_first, rows([1, 0, 0], [1], [1, 0])),
        (S.is_last, rows([0, 0, 1], [1], [0, 1])),
        (S.reduce_sum, [[9, 12], [5, -1], [-2, 0]]),
        (S.reduce_max, [[5, 6], [5, -1], [0, 1]]),
        (
            S.softmax,
            rows(
                [[0.0159, 0.0159], [0.1173, 0.1173], [0.8668, 0.8668]], [[1, 1]], [[0.1192, 0.1192], [0.8808, 0.8808]]
            ),
        ),
        (S.past_value, rows([[0, 0], [1, 2], [3, 4]], [[0, 0]], [[0, 0], [-2, -1]])),
        (S.future_value, rows([[3, 4], [5, 6], [0, 0]], [[0, 0]], [[0, 1], [0, 0]])),
        (
            lambda x: S.past_value(x, C.constant(np.array([7, 8], np.float32)), 2),
            rows([[7, 8], [7, 8], [1, 2]], [[7, 8]], [[7, 8], [7, 8]]),
        ),
        (lambda x: S.delay(x, time_step=-1), rows([[3, 4], [5, 6], [0, 0]], [[0, 0]], [[0, 1], [0, 0]])),
        (lambda x: S.slice(x, -2, 0), rows([[3, 4], [5, 6]], [[5, -1]], [[-2, -1], [0, 1]])),
        (
            lambda x: S.gather(x, C.greater(C.reduce_sum(x), -2)),
            rows([[1, 2], [3, 4], [5, 6]], [[5, -1]], [[0, 1]]),
        ),
        (lambda x: S.gather(x, S.is_first(x)), rows([[1, 2]], [[5, -1]], [[-2, -1]])),
        (lambda x: S.gather(x, S.is_first(x), (0, 1)), [[1, 2], [5, -1], [-2, -1]]),
        (lambda x: S.where(S.is_last(x)), rows([2], [0], [1])),
        (lambda x: S.scatter(S.last(x), S.is_first(x)), rows([[5, 6], [0, 0], [0, 0]], [[5, -1]], [[0, 1], [0, 0]])),
        (lambda x: S.broadcast_as(S.last(x), x), rows([[5, 6]] * 3, [[5, -1]], [[0, 1]] * 2)),
        (
            lambda x: S.broadcast_as(C.constant(np.array([1, 2], np.float32)), x),
            rows([[1, 2]] * 3, [[1, 2]], [[1, 2]] * 2),
        ),
        (lambda x: C.reconcile_dynamic_axes(S.last(x), x), rows([[5, 6]] * 3, [[5, -1]], [[0, 1]] * 2)),
        (lambda x: x - S.reduce_max(x), rows([[-4, -4], [-2, -2], [0, 0]], [[0, 0]], [[-2, -2], [0, 0]])),
        (lambda x: C.times_transpose(x, S.last(x)), rows([[17], [39], [61]], [[26]], [[-1], [1]])),
        (
            lambda x: S.unpack(x, -9, no_mask_output=True),
            [[[1, 2], [3, 4], [5, 6]], [[5, -1], [-9, -9], [-9, -9]], [[-2, -1], [0, 1], [-9, -9]]],
        ),
        (lambda x: C.reduce_sum(S.unpack(x, 0, no_mask_output=True), axis=0), [[[9, 12]], [[5, -1]], [[-2, 0]]]),
    ],
)  # fmt: skip
def test_they_answer_as_cntk_does(x: Any, made: Made, wanted: Any) -> None:
    assert is_close(made(x).eval({x: DATA}), wanted)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (lambda x: S.first(x * x), rows([[2, 4], [0, 0], [0, 0]], [[10, -2]], [[-4, -2], [0, 0]])),
        (lambda x: S.reduce_sum(x * x), rows([[2, 4], [6, 8], [10, 12]], [[10, -2]], [[-4, -2], [0, 2]])),
        (S.reduce_max, rows([[0, 0], [0, 0], [1, 1]], [[1, 1]], [[0, 0], [1, 1]])),
        (lambda x: S.past_value(x * x), rows([[2, 4], [6, 8], [0, 0]], [[0, 0]], [[-4, -2], [0, 0]])),
        (lambda x: S.future_value(x * x), rows([[0, 0], [6, 8], [10, 12]], [[0, 0]], [[0, 0], [0, 2]])),
    ],
)
def test_gradients_go_back_along_them(x: Any, made: Made, wanted: Any) -> None:
    assert is_close(made(x).grad({x: DATA}, wrt=[x]), wanted)


def test_a_factor_repeats_places() -> None:
    x = S.input_variable(1)
    assert is_close(S.where(x).eval([[[1], [2], [1], [3], [2]]]), rows([0, 1, 1, 2, 3, 3, 3, 4, 4]))
    assert is_close(S.where(x).eval([[[1.2]] * 10]), rows([0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]))


def test_an_input_is_the_initial_state(x: Any) -> None:
    state = C.input_variable(2)
    past, future = S.past_value(x, state), S.future_value(x, state, 2)
    given = {x: DATA, state: STATES}
    assert is_close(past.eval(given), rows([[10, 20], [1, 2], [3, 4]], [[30, 40]], [[50, 60], [-2, -1]]))
    assert is_close(future.eval(given), rows([[5, 6], [10, 20], [10, 20]], [[30, 40]], [[50, 60], [50, 60]]))


def test_unpacking_says_where_something_is(x: Any) -> None:
    values = S.unpack(x, 0)
    assert [output.shape for output in values.outputs] == [(-3, 2), (-3,)]
    assert is_close(values.eval({x: DATA})[values.outputs[1]], [[1, 1, 1], [1, 0, 0], [1, 1, 0]])


def test_types_are_keywords_of_inputs() -> None:
    x, y = C.input_variable(**C.layers.Sequence[C.layers.Tensor[2]]), C.input_variable(**C.layers.SparseTensor[3])
    assert (x.shape, len(x.dynamic_axes), x.is_sparse) == ((2,), 2, False)
    assert (y.shape, len(y.dynamic_axes), y.is_sparse) == ((3,), 1, True)


def test_rows_become_sequences_and_rows_again() -> None:
    x = C.input_variable((3, 2))
    array = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert np.array_equal(S.unpack(C.to_sequence(x) * 2, 0, no_mask_output=True).eval({x: array}), array * 2)
    lengths = C.input_variable(())
    with pytest.raises(NotImplementedError, match="the network itself makes the axis"):
        S.unpack(C.to_sequence(x, lengths), 0, True).eval({x: array, lengths: [1, 2]})


def test_rows_become_sequences() -> None:
    p, lengths, other = C.input_variable((3, 2)), C.input_variable(()), S.input_variable(1)
    array = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert is_close(C.to_sequence(p).eval({p: array}), [array[0], array[1]])
    shorter = C.to_sequence(p, lengths).eval({p: array, lengths: np.array([2, 3], np.float32)})
    assert is_close(shorter, [array[0][:2], array[1]])
    like = C.to_sequence_like(p, other).eval({p: array, other: [np.zeros((3, 1), "f"), np.zeros((1, 1), "f")]})
    assert is_close(like, [array[0], array[1][:1]])


def test_what_is_cut_alike_can_be_added(x: Any) -> None:
    change = S.slice(x, 1, 0) - S.slice(x, 0, -1)
    assert is_close(change.eval({x: [DATA[0], DATA[2]]}), rows([[2, 2], [2, 2]], [[2, 2]]))


def test_no_sequence_may_be_empty(x: Any) -> None:
    for made in (S.slice(x, 1, 0), S.slice(x, 1, 2), S.gather(x, C.greater(C.reduce_sum(x), 3))):
        with pytest.raises(RuntimeError, match="Sequences must be a least one frame long"):
            made.eval({x: DATA})


def test_axes_that_do_not_match_are_refused(x: Any) -> None:
    with pytest.raises(RuntimeError, match="has dynamic axes, that do not match the dynamic axes"):
        x + S.input_variable(2, sequence_axis=C.Axis("another"))
    with pytest.raises(RuntimeError, match="has dynamic axes, that do not match the dynamic axes"):
        C.splice(x, S.last(x))
    with pytest.raises(ValueError, match="whose first dynamic axis is ordered"):
        S.first(C.input_variable(2))
    y = S.input_variable(2)
    with pytest.raises(ValueError, match="have different lengths"):
        (x + y).eval({x: DATA[:2], y: DATA[:2][::-1]})


def test_recurrence_is_refused(x: Any) -> None:
    state = C.placeholder(shape=(2,), dynamic_axes=x.dynamic_axes)
    made = x + S.past_value(state)
    with pytest.raises(NotImplementedError, match="recurrence is not supported"):
        made.replace_placeholders({state: made.output})


def test_losses_of_sequences_are_counted_by_sequence(x: Any) -> None:
    label, weight = C.input_variable(1), C.parameter((2, 1), init=1)
    z = C.times(S.last(x), weight)
    loss = C.squared_error(z, label)
    trainer = C.Trainer(z, (loss, loss), [C.sgd(z.parameters, C.learning_parameter_schedule(0.01))])
    found = []
    for _ in range(3):
        trainer.train_minibatch({x: DATA, label: np.array([[1], [2], [3]], np.float32)})
        found.append(trainer.previous_minibatch_loss_average)
    assert trainer.total_number_of_samples_seen == 9
    assert np.allclose(found, [36.0, 12.9832, 6.2944], atol=1e-4)


def test_what_files_do_not_hold_is_not_written(x: Any, tmp_path: Path) -> None:
    S.past_value(x, time_step=2).save(str(tmp_path / "past"))
    loaded = C.load_model(str(tmp_path / "past"))
    assert is_close(loaded.eval({loaded.arguments[0]: DATA[:1]}), rows([[0, 0], [0, 0], [1, 2]]))
    with pytest.raises(NotImplementedError, match="model files cannot hold Sequence::Slice"):
        S.first(x).save(str(tmp_path / "first"))
    assert not (tmp_path / "first").exists()


def test_a_network_on_sequences_learns_as_in_cntk() -> None:
    C.cntk_py.reset_random_seed(1)
    x, y = S.input_variable(2), C.input_variable(2)
    z = C.layers.Dense(2)(S.last(C.layers.Dense(4, activation=C.tanh)(x)))
    loss, rng = C.cross_entropy_with_softmax(z, y), np.random.RandomState(0)
    sequences = [rng.rand(n, 2).astype("f") for n in (3, 1, 2, 4, 2, 3, 1, 5)]
    labels = np.eye(2, dtype="f")[rng.randint(0, 2, 8)]
    trainer = C.Trainer(z, (loss, C.classification_error(z, y)), [C.adam(z.parameters, 0.05, 0.9)])
    found = []
    for step in range(6):
        part = slice(0, 4) if step % 2 else slice(4, 8)
        trainer.train_minibatch({x: sequences[part], y: labels[part]})
        found.append(trainer.previous_minibatch_loss_average)
    assert np.allclose(found, [0.61953, 0.60802, 0.57383, 0.52098, 0.5401, 0.44393], atol=2e-5)
    assert trainer.test_minibatch({x: sequences, y: labels}) == 0.125


def test_attention_without_recurrence_is_cntks() -> None:
    C.cntk_py.reset_random_seed(1)
    x, weight = S.input_variable(3), C.parameter((3, 1), init=C.glorot_uniform())
    context = S.reduce_sum(S.softmax(C.times(x, weight)) * x)
    rng = np.random.RandomState(0)
    given = {x: [rng.rand(n, 3).astype("f") for n in (3, 1, 2)]}
    wanted = [[0.51578, 0.64714, 0.72224], [0.38344, 0.79173, 0.52889], [0.20308, 0.23851, 0.649]]
    assert is_close(context.eval(given), wanted)
    assert np.allclose(context.grad(given, wrt=[weight]).ravel(), [0.04258, 0.15579, -0.05017], atol=1e-4)


def test_images_of_a_video_are_convolved_one_by_one() -> None:
    x = S.input_variable((1, 4, 4))
    maps = C.layers.Convolution2D((3, 3), 2, pad=True, init=1)(x)
    highest = S.reduce_max(C.layers.GlobalAveragePooling()(maps))
    first, second = np.arange(32, dtype="f").reshape(2, 1, 4, 4), np.arange(16, dtype="f").reshape(1, 1, 4, 4)
    assert np.allclose(highest.eval({x: [first, second]}).ravel(), [146.875, 146.875, 46.875, 46.875])
