"""Python's operators on variables and functions: those that CNTK has, with numpy's broadcasting."""

from collections.abc import Callable
from typing import Any

_Operator = Callable[[Any, Any], Any]


def _both(name: str) -> tuple[_Operator, _Operator]:
    """CNTK's function of two operands as an operator, and as the reflected one (`__radd__`)."""

    def applied(left: Any, right: Any) -> Any:
        return getattr(_ops(), name)(left, right)

    return applied, lambda right, left: applied(left, right)


class Operators:
    """`==` compares identity; Python refuses `x ** 2` and `x > 0`, since CNTK has no such operators."""

    __add__, __radd__ = _both("plus")
    __sub__, __rsub__ = _both("minus")
    __mul__, __rmul__ = _both("element_times")
    __truediv__, __rtruediv__ = _both("element_divide")
    __matmul__, __rmatmul__ = _both("times")

    def __neg__(self) -> Any:
        return _ops().negate(self)

    def __abs__(self) -> Any:
        return _ops().abs(self)

    def __getitem__(self, key: Any) -> Any:
        return _ops().slices_of(self, key)

    __array_priority__ = 10.0  # makes numpy leave `array + variable` to the variable
    __array_ufunc__ = None


def _ops() -> Any:
    from convolve.cntk import ops

    return ops
