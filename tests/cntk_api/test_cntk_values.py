"""Values, sparse and dense, and what programs may feed."""

import numpy as np
import pytest

import convolve.cntk as C


class Csr:
    """A sparse matrix, as far as it is asked: scipy is not needed."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = array, array.shape

    def tocsr(self) -> "Csr":
        return self

    def toarray(self) -> np.ndarray:
        return self.array


EYE = np.eye(3, dtype=np.float32)


def test_class_numbers_become_sparse_vectors() -> None:
    value = C.Value.one_hot([[1, 2], [0]], 3)
    assert (value.shape, value.is_sparse, len(value)) == ((2, 2, 3), True, 2)
    assert value.mask.tolist() == [[2, 1], [2, 0]]
    sequences = value.as_sequences(C.sequence.input_variable(3, is_sparse=True))
    assert np.array_equal(sequences[0].toarray(), EYE[[1, 2]])
    assert C.Value.one_hot([1, 2], 3).shape == (2, 3)
    with pytest.raises(ValueError, match="corresponding variable"):
        value.as_sequences()


def test_vectors_of_several_places_are_sequences_of_samples() -> None:
    value = C.Value.one_hot([[1, 2, 0, 1], [2, 2]], (2, 3))
    a = C.sequence.input_variable((2, 3), is_sparse=True)
    found = C.times(a, C.constant(EYE)).eval({a: value})
    assert np.array_equal(found[0], EYE[[[1, 2], [0, 1]]])
    assert np.array_equal(found[1], EYE[[[2, 2]]])


@pytest.mark.parametrize("fed", [Csr(EYE), [Csr(EYE[:1]), Csr(EYE[1:2]), Csr(EYE[2:])], C.Value.one_hot([0, 1, 2], 3)])
def test_sparse_data_are_fed_to_sparse_and_dense_inputs(fed: object) -> None:
    w = C.parameter(init=np.arange(6, dtype=np.float32).reshape(3, 2))
    for is_sparse in (False, True):
        assert np.array_equal(C.times(C.input_variable(3, is_sparse=is_sparse), w).eval([fed][0]), w.value)
    with pytest.raises(ValueError, match="Dense input data supplied for sparse input"):
        C.times(C.input_variable(3, is_sparse=True), w).eval(EYE)


def test_an_array_from_a_sparse_matrix_keeps_its_form() -> None:
    view = C.NDArrayView.from_csr(Csr(np.arange(12, dtype=np.float32).reshape(4, 3)), shape=(2, 2, 3))
    assert (view.shape, view.is_sparse, str(view.device), view.is_read_only) == ((2, 2, 3), True, "CPU", False)
    with pytest.raises(ValueError, match="does not fit the csr matrix"):
        C.NDArrayView.from_csr(Csr(EYE), shape=(2, 3))
    with pytest.raises(RuntimeError, match="expected"):
        C.NDArrayView.from_dense(np.arange(3))


def test_sequences_of_several_lengths_are_padded() -> None:
    s = C.sequence.input_variable(3)
    value = C.Value.create(s, [EYE[:2], EYE[:1]])
    assert value.shape == (2, 2, 3)
    assert value.mask.tolist() == [[2, 1], [2, 0]]
    assert [part.shape for part in value.as_sequences(s)] == [(2, 3), (1, 3)]
    with pytest.raises(ValueError, match="has no batch axis"):
        C.Value.create(C.input_variable(3, dynamic_axes=[]), [EYE[:2], EYE[:1]])


def test_sparse_outputs_can_be_made_dense() -> None:
    x = C.input_variable(3)
    made = C.eye_like(x).eval(np.ones((2, 3), np.float32))
    assert made.shape == (2, 3)
    assert np.array_equal(np.asarray(made.todense()), EYE[:2])
    with pytest.raises(ValueError, match="eye_like"):
        C.eye_like(C.input_variable((3, 3)))


def test_what_is_fed_is_one_minibatch() -> None:
    x, y = C.input_variable(3), C.input_variable(3)
    with pytest.raises(ValueError, match="not of one minibatch: 3 of"):
        (x + y).eval({x: EYE, y: EYE[:1]})
    s, fixed = C.sequence.input_variable(3), C.input_variable((3, 3), dynamic_axes=[])
    [found] = (s + 1).eval(EYE)  # an array alone is one sequence
    assert np.array_equal(found, EYE + 1)
    assert np.array_equal((fixed + 1).eval(EYE[None]), EYE + 1)
    with pytest.raises(ValueError, match="Dense input data"):
        C.times(C.input_variable(3, is_sparse=True), C.constant(EYE)).eval([[1, 0, 0]])
