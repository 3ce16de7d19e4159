"""Read a pickle as a description: nothing that it names is imported, called or built.

PyTorch's files list their tensors in a pickle, which is a program. Here its instructions are followed
only as far as containers, numbers and text go. A name (``GLOBAL``) stays a name, a call stays a note of
what would be called with what; names beyond a short list of harmless ones refuse the file.

Containers are kept as lists, dictionaries as lists of pairs: nothing is hashed or compared, so that deep
nesting or colliding keys cost nothing.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO, cast

import torch

from panderm.weights.harmless import DTYPES, HARMLESS, STORAGE_TYPES
from panderm.weights.stored import PLAIN, HoldsCodeError, NotWholeError, Spec, Stored

# The longest list of weights read: that of a Large with its optimiser has 0.13 MB and 44,000 instructions.
LONGEST = 64 << 20  # bytes
MOST_STEPS = 1_000_000

_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as Python 2 wrote them
_DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict"}


class Pairs(list[tuple[Any, Any]]):
    """A dictionary as it was written: its keys and values in order, nothing hashed."""


class Bag(list[Any]):
    """A set as it was written."""


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """The name of something to import, which is not imported."""

    name: str


@dataclass(slots=True, eq=False)
class Made:
    """A note that something would be called: its name, and with what."""

    name: str
    args: Any


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of numbers of one type that the file stores elsewhere, and the part of it that is meant."""

    key: str
    dtype: torch.dtype
    numel: int
    start: int = 0
    stop: int | None = None

    @property
    def nbytes(self) -> int:
        """Its length in bytes."""
        return self.numel * self.dtype.itemsize


class Window:
    """A file from where it stands, for at most some bytes: no claimed length is believed."""

    def __init__(self, file: BinaryIO, most: int = LONGEST) -> None:
        self._file, self._left = file, most

    def read(self, n: int) -> bytes:
        """Return up to n bytes."""
        # A file allocates what it is asked for before it looks whether it has so much.
        parts, wanted = [], min(n, self._left)
        while wanted > 0:
            part = self._file.read(min(wanted, 1 << 20))
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        return self._count(b"".join(parts))

    def readline(self) -> bytes:
        """Return what is left of this line."""
        return self._count(self._file.readline(min(self._left, 1 << 20)))

    def _count(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left <= 0:
            raise NotWholeError("its list of weights is longer than one can be")
        return data


@dataclass
class Description:
    """What a pickle says: its one object, and every storage it names."""

    content: Any
    storages: dict[str, Storage]


def describe(file: BinaryIO) -> Description:
    """Follow a pickle from where the file stands to its end; nothing is run.

    Raises:
        HoldsCodeError: it names anything but plain data.
        NotWholeError: it is no pickle, is cut short, or is longer than a list of weights can be.
    """
    machine, window = _Machine(), cast("IO[bytes]", Window(file))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd escapes in text: the text is only data
            for step, (op, arg, _) in enumerate(pickletools.genops(window)):
                if step >= MOST_STEPS:
                    raise NotWholeError("its list of weights is longer than one can be")
                machine.follow(op.name, arg)
        return Description(machine.pop(), machine.storages)
    except (HoldsCodeError, NotWholeError):
        raise
    except Exception:  # bytes that are no pickle break its rules in a dozen ways
        raise NotWholeError("its list of weights cannot be read") from None


_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": Pairs,
    "EMPTY_SET": Bag,
}
_LITERALS_OF_PICKLE = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
"""
_LITERALS = frozenset(_LITERALS_OF_PICKLE.split())


@dataclass
class _Machine:
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)

    def follow(self, op: str, arg: Any) -> None:
        """Take one instruction."""
        if op in _LITERALS:
            self.stack.append(arg)
        elif op in _CONSTANTS:
            self.stack.append(_CONSTANTS[op]())
        elif op in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[arg])
        elif op in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            place = len(self.memo) if op == "MEMOIZE" else arg
            if not 0 <= place < 1 << 32:
                raise NotWholeError("its list of weights cannot be read")
            self.memo[place] = self.stack[-1]
        elif op == "MARK":
            self.marks.append(len(self.stack))
        elif op not in ("PROTO", "FRAME", "STOP"):
            getattr(self, f"_{op.lower()}", self._unknown)(arg)

    def pop(self) -> Any:
        """Take the last value, never one from below the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise NotWholeError("its list of weights cannot be read")
        return self.stack.pop()

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self, *kinds: type[Any]) -> Any:
        if type(self.stack[-1]) not in kinds:
            raise NotWholeError("its list of weights cannot be read")
        return self.stack[-1]

    def _unknown(self, _: Any) -> None:
        raise NotWholeError("its list of weights cannot be read")

    def _pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _tuple1(self, _: Any) -> None:
        self.stack.append((self.pop(),))

    def _tuple2(self, _: Any) -> None:
        last, first = self.pop(), self.pop()
        self.stack.append((first, last))

    def _tuple3(self, _: Any) -> None:
        last, middle, first = self.pop(), self.pop(), self.pop()
        self.stack.append((first, middle, last))

    def _list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def _frozenset(self, _: Any) -> None:
        self.stack.append(Bag(self._since_mark()))

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(Pairs(zip(items[::2], items[1::2], strict=True)))

    def _append(self, _: Any) -> None:
        self._add([self.pop()])

    def _appends(self, _: Any) -> None:
        self._add(self._since_mark())

    def _add(self, items: list[Any]) -> None:
        top = self._top(list, Made)
        if isinstance(top, list):  # else a deque, whose content is of no use here
            top.extend(items)

    def _additems(self, _: Any) -> None:
        items = self._since_mark()
        self._top(Bag).extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._top(Pairs).append((key, value))

    def _setitems(self, _: Any) -> None:
        items = self._since_mark()
        self._top(Pairs).extend(zip(items[::2], items[1::2], strict=True))

    def _global(self, arg: Any) -> None:
        self.stack.append(_named(*arg.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise HoldsCodeError("")
        self.stack.append(_named(module, name))

    def _inst(self, arg: Any) -> None:
        args = tuple(self._since_mark())
        self._call(_named(*arg.split(" ", 1)), args)

    def _obj(self, _: Any) -> None:
        what, *args = self._since_mark()
        self._call(what, tuple(args))

    def _newobj(self, _: Any) -> None:
        args, what = self.pop(), self.pop()
        self._call(what, args)

    _reduce = _newobj

    def _newobj_ex(self, _: Any) -> None:
        self.pop()
        self._newobj(_)

    def _call(self, what: Any, args: Any) -> None:
        if not isinstance(what, Name) or not isinstance(args, tuple):
            raise HoldsCodeError("")
        if what.name not in _DICTIONARIES:
            self.stack.append(Made(what.name, args))
            return
        pairs = next((arg for arg in args if isinstance(arg, list)), [])
        self.stack.append(Pairs((key, value) for key, value in pairs))

    def _build(self, _: Any) -> None:
        self.pop()  # attributes: of a Namespace, of a state dict; of no use here
        self._top(Pairs, Made)

    def _ext1(self, _: Any) -> None:
        raise HoldsCodeError("")

    _ext2 = _ext4 = _ext1

    def _binpersid(self, _: Any) -> None:
        storage = _storage(self.pop())
        self.storages.setdefault(storage.key, storage)
        self.stack.append(storage)


def _named(module: str, name: str) -> Name:
    full = f"{_RENAMED.get(module, module)}.{name}"
    if full not in HARMLESS:
        raise HoldsCodeError(full.removeprefix("builtins."))
    return Name(full)


def _storage(pid: Any) -> Storage:
    kind, what, key, _, numel, *view = pid
    if kind != "storage" or not isinstance(key, str) or type(numel) is not int or not 0 <= numel < 1 << 60:
        raise NotWholeError("its list of weights cannot be read")
    dtype = STORAGE_TYPES[what.name]
    if not view or view[0] is None:
        return Storage(key, dtype, numel)
    _, start, length = view[0]  # part of a storage, as the first versions of PyTorch wrote it
    return Storage(key, dtype, numel, start, start + length)


_PARAMETERS = (
    "torch.nn.parameter.Parameter",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
)


def tensor_of(value: object, find: Callable[[Storage], Stored]) -> Spec | None:
    """Return a described tensor of plain numbers, or None for anything else.

    Args:
        value: a value of a description.
        find: where a storage lies in the file.

    Raises:
        NotWholeError: a tensor that reaches beyond its storage.
    """
    for _ in range(4):  # a parameter holds its tensor, a tensor with attributes a call that makes it
        if not isinstance(value, Made):
            return None
        if value.name in _PARAMETERS:
            value = value.args[0] if value.args and isinstance(value.args, tuple) else None
        elif value.name == "torch._tensor._rebuild_from_type_v2":
            what, kind, args = (*value.args, None, None, None)[:3]
            plain = isinstance(kind, Name) and kind.name in ("torch.Tensor", "torch.nn.parameter.Parameter")
            value = Made(what.name, args) if plain and isinstance(what, Name) else None
        else:
            return _rebuilt(value, find)
    return None


def _rebuilt(made: Made, find: Callable[[Storage], Stored]) -> Spec | None:
    names = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
    name = made.name.removeprefix("torch._utils.")
    if name not in names or not isinstance(made.args, tuple) or len(made.args) < 4:
        return None
    storage, offset, shape, stride, *rest = made.args
    if isinstance(shape, Made) and shape.name == "torch.Size" and len(shape.args) == 1:
        shape = shape.args[0]
    if not isinstance(storage, Storage) or not _are_whole(shape) or not _are_whole(stride):
        return None
    dtype, extra = storage.dtype, rest[2:]
    if name == "_rebuild_tensor_v3":
        given = rest[2] if len(rest) > 2 else None
        if not isinstance(given, Name) or given.name not in DTYPES:
            return None
        dtype, extra = DTYPES[given.name], rest[3:]
    # The one thing beside is a flag for numbers kept negated or conjugated: not plain.
    if any(isinstance(flags, Pairs) and any(value for _, value in flags) for flags in extra):
        return None
    if not _are_whole((offset,)) or dtype not in PLAIN:
        return None
    stored = find(storage)
    if storage.stop is not None and storage.stop * dtype.itemsize > stored.size:
        raise NotWholeError("a tensor claims more numbers than are stored for it")
    spec = Spec(stored, dtype, storage.start + offset, tuple(shape), tuple(stride))
    spec.check()
    return spec


def _are_whole(values: object) -> bool:
    return isinstance(values, tuple | list) and all(type(value) is int for value in values)
