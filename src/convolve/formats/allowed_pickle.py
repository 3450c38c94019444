"""Read pickles of plain values, numpy arrays and PyTorch's tensors; nothing that they name is imported or executed.

Python's unpickler does whatever a file tells it to. Here it has only the opcodes that such values need, and a file can
call only the functions of `_ALLOWED`, all of them ours. Objects of other classes, such as an argparse.Namespace or a
whole network, become `Skipped` if the caller allows it: their content is kept, and no class is looked up. `torch.load`
is no alternative: before PyTorch 2.10, a file could overwrite memory even with `weights_only=True` (CVE-2026-24747),
because its types and sizes were trusted. This is Python's unpickler written in Python: the C version allocates as large
a memo as a file asks for and cannot check keys, and hashing a deeply nested tuple ends the process. Memory stays below
a small multiple of the file's size plus 100 bytes times `MAX_OPCODES`.
"""

import functools
import io
import math
import mmap
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from convolve.errors import FormatError

MAX_OPCODES = 2_000_000  # CIFAR-100 needs 0.4 million, a checkpoint about 30 per tensor
MAX_DIMENSIONS = 32
_ENTRY_BYTES = 100  # bytes of a dict's entry, with its key
_NUMBER_TYPE = re.compile(r"[|<>](b1|[iu][1248]|f[248])\Z")


class Storage(NamedTuple):
    """Bytes stored elsewhere in a checkpoint, under `key`: `elements` values of one type."""

    dtype: str
    key: str
    elements: int


class Tensor(NamedTuple):
    """A part of a storage, as the file claims it, in elements: only known to be whole numbers from 0."""

    dtype: str
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Skipped:
    """An object of a class that is not looked up: its entries, and its attributes, if it has any."""

    def __init__(self) -> None:
        self.entries: dict[Any, Any] = {}
        self.attributes: dict[Any, Any] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def update(self, entries: dict[Any, Any]) -> None:
        self.entries.update(entries)

    def append(self, _entry: Any) -> None:
        """Ignored: subclasses of list hold no tensors of a network."""

    extend = append


@dataclass(frozen=True)
class _Unknown:
    """Any other name. Only those in `_HARMLESS` may be called, which returns nothing."""

    name: str

    def __call__(self, *_: Any) -> Any:
        return Skipped() if self.name in _HARMLESS else _refuse_name(self.name)


@dataclass(frozen=True)
class _Named:
    """A number type of PyTorch, which a file names but does not call."""

    text: str


@dataclass(eq=False)
class _NumberType:
    """A numpy type; its byte order is set afterwards."""

    code: str
    order: str = "|"

    def numpy(self) -> np.dtype[Any]:
        if not _NUMBER_TYPE.match(self.order + self.code):
            _refuse(f"an array of type {self.code[:20]!r}")
        return np.dtype(self.order + self.code)


def read_pickle(content: bytes, name: object) -> Any:
    """The value in `content`: lists, tuples, dicts, bytes, texts, numbers and numpy arrays, nothing else.

    Raises `FormatError` with the byte offset; `name` stands for the file in messages.
    """
    return AllowedUnpickler(content, name).value(plain=True)


def to_pickle(value: Any) -> bytes:
    """Write a pickle that `read_pickle` reads."""
    return pickle.dumps(value, protocol=4)  # protocol 5 writes arrays in another form


class AllowedUnpickler(pickle._Unpickler):
    """Reads the pickle at the position of `content`. `storages`, by key, are those that its tensors lie in."""

    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    memo: dict[int, Any]

    def __init__(self, content: bytes | mmap.mmap, name: object, part: str = "", skips: bool = False) -> None:
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        super().__init__(file, encoding="bytes")  # texts of Python 2 may have any encoding
        self.name, self.part, self.skips = name, part, skips
        self.opcodes = _Opcodes(file, _OPCODES | _FOR_OBJECTS if skips else _OPCODES)
        self.dispatch = self.opcodes  # type: ignore[misc, assignment]
        self.bytes_to_copy = 4 * len(content)
        self.storages: dict[str, Storage] = {}

    def value(self, plain: bool = False) -> Any:
        try:
            value = self.load()
            if plain:
                _require_plain(value)
            return value
        except pickle.UnpicklingError as error:
            what = str(error)
        except EOFError:
            what = "the file ends too early"
        except Exception as error:  # any exception that damaged bytes can cause; only the functions below have run
            what = f"damaged ({type(error).__name__})"
        finally:
            self.memo.clear()  # these functions refer back to this object
        place = f"byte {self.opcodes.at}{' of ' if self.part else ''}{self.part}"
        raise FormatError(self.name, place, f"{what}: not a pickle of plain values and arrays")

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _ALLOWED:
            return functools.partial(_ALLOWED[full], self)
        if full in _NAMED:
            return _NAMED[full]
        runs = module in ("builtins", "__builtin__") and full not in _HARMLESS
        return _Unknown(full) if self.skips and not runs else _refuse_name(full)

    def persistent_load(self, pid: Any) -> Storage | _Unknown:
        match pid:
            case ("module" | b"module", _Unknown() as kind, *_) if self.skips:
                return kind  # the older form stores the classes' source code with them
            case ("storage" | b"storage", _Named(dtype), str() | bytes() as key, _, int() as elements, *rest):
                storage = Storage(dtype, _text(key), *_whole_numbers(elements))
                if not any(rest) and self.storages.setdefault(storage.key, storage) == storage:
                    return storage
        return _refuse("a storage of a kind that is not known")

    # The functions that a file may call, see `_ALLOWED`

    def _array(self, _class: object, _shape: object, _code: object) -> NDArray[Any]:
        return np.empty(0, np.uint8)  # its content follows later, see `_build`

    def _number_type(self, code: str | bytes, *_: object) -> _NumberType:
        return _NumberType(_text(code))

    def _number(self, kind: _NumberType, content: bytes) -> Any:
        return np.frombuffer(content, kind.numpy(), 1)[0].item()

    def _bytes(self, text: str = "", _encoding: object = None) -> bytes:
        """Python 3 writes bytes as a text to be encoded in Latin-1, or as `bytes()`."""
        self._copying(len(text))
        return text.encode("latin-1")

    def _dict(self, items: list[tuple[Any, Any]] | tuple[()] = ()) -> dict[Any, Any]:
        self._copying(len(items) * _ENTRY_BYTES)
        return {_key(key): value for key, value in items}

    def _first(self, value: Any, *_: object) -> Any:
        return value

    def _tensor(self, storage: Storage, offset: int, shape: Any, strides: Any, *more: object) -> Tensor:
        """The result of `_rebuild_tensor` in all its versions; `more`: requires_grad, hooks, a type and so on."""
        match [item for item in more[2:] if item]:
            case [] if isinstance(storage, Storage):
                dtype = storage.dtype
            case [_Named(dtype)] if isinstance(storage, Storage):
                pass
            case _:
                _refuse("a tensor of a kind that is not known")
        if not len(shape) == len(strides) <= MAX_DIMENSIONS:
            _refuse(f"a tensor of {len(shape)} dimensions with {len(strides)} strides")
        _whole_numbers(offset, *shape, *strides)
        return Tensor(dtype, storage, offset, tuple(shape), tuple(strides))

    def _copying(self, size_bytes: int) -> None:
        """A call costs a file only a few bytes, and could copy the same long value each time."""
        self.bytes_to_copy -= size_bytes
        if self.bytes_to_copy < 0:
            _refuse("the same bytes again and again")

    # Opcodes for which Python's own methods would do too much, see `_OPCODES`

    def _frame(self) -> None:
        self.read(8)  # how much to read ahead

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_key(key)] = value

    def _set_items(self) -> None:
        items = _pairs(self.pop_mark())
        self.stack[-1].update(items)

    def _dict_to_mark(self) -> None:
        items = _pairs(self.pop_mark())  # which replaces the stack
        self.append(items)

    def _new_object(self) -> None:
        _, kind = self.stack.pop(), self.stack.pop()
        if type(kind) is not _Unknown:
            _refuse("an object of a kind that is not known")
        self.stack.append(Skipped())

    def _new_object_with_keywords(self) -> None:
        self.stack.pop()
        self._new_object()

    def _empty_set(self) -> None:
        self.append(Skipped())

    def _add_items(self) -> None:
        self.pop_mark()

    def _frozen_set(self) -> None:
        self.pop_mark()
        self.append(Skipped())

    def _build(self) -> None:
        match self.stack.pop(), self.stack[-1]:
            case (3, str() | bytes() as order, None, None, None, *_), _NumberType() as kind:
                kind.order = _text(order)
            case (1, shape, _NumberType() as kind, int() as by_column, bytes() as data), np.ndarray() as array:
                dtype = kind.numpy()
                if len(shape) > MAX_DIMENSIONS or math.prod(_whole_numbers(*shape)) * dtype.itemsize != len(data):
                    _refuse(f"an array of shape {str(shape[:4])[:60]} in {len(data)} bytes")
                array.__setstate__((1, shape, dtype, bool(by_column), data))  # type: ignore[arg-type]
            case dict() as attributes, Skipped() as skipped:
                skipped.attributes = attributes
            case _, dict() | Skipped():
                pass  # attributes of an OrderedDict: a state_dict keeps the versions of its modules there
            case _:
                _refuse("the state of an object")


class _Opcodes:
    """The opcode table of the unpickler: lookups are counted here, and the position of the last one is recorded."""

    def __init__(self, file: io.BytesIO | mmap.mmap, known: dict[int, Callable[[Any], None]]) -> None:
        self.file, self.known, self.at, self.left = file, known, 0, MAX_OPCODES

    def __getitem__(self, code: int) -> Callable[[AllowedUnpickler], None]:
        self.at = self.file.tell() - 1
        self.left -= 1
        if self.left < 0:
            _refuse(f"more than {MAX_OPCODES} opcodes")
        return self.known.get(code) or _refuse(f"opcode {code:#04x}, which plain values do not need")


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(what)


def _refuse_name(name: str) -> NoReturn:
    _refuse(f"it names {name[:80]!r}, which is neither imported nor executed")


def _text(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "replace")


def _whole_numbers(*numbers: Any) -> tuple[int, ...]:
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
        _refuse("a size that is no whole number")
    return numbers


def _key(key: Any) -> Any:
    """A key that can be hashed quickly; small numbers are their own hash."""
    if type(key) in (str, bytes) or (type(key) is int and 0 <= key < 1 << 60):
        return key
    _refuse("a key that is neither text nor a whole number")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _require_plain(value: Any) -> None:
    to_do, seen = [value], set()
    while to_do:
        item = to_do.pop()
        if type(item) in (list, tuple, dict):
            if id(item) not in seen:
                seen.add(id(item))
                to_do.extend(item.values() if type(item) is dict else item)
        elif type(item) not in (type(None), bool, int, float, str, bytes, np.ndarray):
            _refuse(f"a {type(item).__name__.strip('_').lower()} where a value belongs")


_ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray._reconstruct": AllowedUnpickler._array,
    "numpy._core.multiarray._reconstruct": AllowedUnpickler._array,
    "numpy.core.multiarray.scalar": AllowedUnpickler._number,
    "numpy._core.multiarray.scalar": AllowedUnpickler._number,
    "numpy.dtype": AllowedUnpickler._number_type,
    "_codecs.encode": AllowedUnpickler._bytes,
    "__builtin__.bytes": AllowedUnpickler._bytes,
    "collections.OrderedDict": AllowedUnpickler._dict,
    "torch.Size": AllowedUnpickler._first,
    "torch.device": AllowedUnpickler._first,
    "torch._utils._rebuild_parameter": AllowedUnpickler._first,
    "torch._utils._rebuild_tensor": AllowedUnpickler._tensor,
    "torch._utils._rebuild_tensor_v2": AllowedUnpickler._tensor,
    "torch._utils._rebuild_tensor_v3": AllowedUnpickler._tensor,
}
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool", "Byte": "uint8",
    "Char": "int8", "Short": "int16", "Int": "int32", "Long": "int64",
}  # fmt: skip
_NEWER_TYPES = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")  # they have no storages of their own
_NAMED: dict[str, object] = {"numpy.ndarray": object(), "torch.storage.UntypedStorage": _Named("uint8")}
_NAMED |= {f"torch.{name}": _Named(name) for name in (*_STORAGES.values(), *_NEWER_TYPES)}
_NAMED |= {f"torch.{name}Storage": _Named(dtype) for name, dtype in _STORAGES.items()}

_OF_PYTHON = ("set", "frozenset", "list", "dict", "tuple", "int", "float", "str", "bool", "complex", "object")
_HARMLESS = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _OF_PYTHON} | {
    "collections.Counter", "collections.defaultdict", "collections.deque", "datetime.date", "datetime.datetime",
    "datetime.timedelta", "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath",
    "pathlib._local.PosixPath", "pathlib._local.WindowsPath", "copyreg._reconstructor", "copy_reg._reconstructor",
}  # fmt: skip

_AS_THEY_ARE = (
    "PROTO MARK STOP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL "
    "STACK_GLOBAL REDUCE BINPERSID"
)
_OPCODES: dict[int, Callable[[Any], None]] = {
    code: pickle._Unpickler.dispatch[code] for name in _AS_THEY_ARE.split() for code in getattr(pickle, name)
}
_OPCODES |= {
    pickle.FRAME[0]: AllowedUnpickler._frame,
    pickle.SETITEM[0]: AllowedUnpickler._set_item,
    pickle.SETITEMS[0]: AllowedUnpickler._set_items,
    pickle.DICT[0]: AllowedUnpickler._dict_to_mark,
    pickle.BUILD[0]: AllowedUnpickler._build,
}
_FOR_OBJECTS: dict[int, Callable[[Any], None]] = {
    pickle.NEWOBJ[0]: AllowedUnpickler._new_object,
    pickle.NEWOBJ_EX[0]: AllowedUnpickler._new_object_with_keywords,
    pickle.EMPTY_SET[0]: AllowedUnpickler._empty_set,
    pickle.ADDITEMS[0]: AllowedUnpickler._add_items,
    pickle.FROZENSET[0]: AllowedUnpickler._frozen_set,
}
