"""What a user's code depends on beside its own text: closures, attributes, bound arguments, globals that it reads.

It is told as a text that is the same in every process: no addresses, no order of sets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import re
import string
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import dspy
from pydantic import BaseModel

from ..lms.identity import lm_identity, without_secrets
from .code_text import SCALARS, attributes_in, code_text, folder_of, globals_in, imports_in, place_of, source_tells
from .source import source_text

__all__ = ["DSPYS_OWN", "beside_source", "digest", "of_dspy_or_ours", "state_text", "whole_text"]

# What DSPy itself keeps in a module, and changes as it runs.
DSPYS_OWN = frozenset({"_compiled", "callbacks", "history"})

Named = Callable[[Any], str | None]
"""Tells a value that has a name of its own; None for any other."""

_BY_FIELDS = (SimpleNamespace, BaseModel, dspy.Example, string.Template, textwrap.TextWrapper)
"""Instances of these are told by what they hold, whoever wrote their class."""
_DEEPEST = 40
_MOST = 200_000
"""Values that one object of a library may be made of, to be told by them: its identity is asked for each candidate."""
_BIG = 1 << 28
"""Bytes of an array inside an object of a library beyond which each so many numbers are read."""
_HANDLE = ("close", "aclose", "shutdown", "__enter__", "__aenter__")
"""What has one of these is a client, a pool, a file: of the process, not of the program."""
_MACHINERY = ("_thread", "threading", "queue", "_queue", "asyncio", "concurrent", "multiprocessing", "weakref")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


def digest(text: str) -> str:
    """Gives a hash of a text, 16 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def of_dspy_or_ours(value: Any) -> bool:
    """Whether a class, a function or an instance is DSPy's or progspace's: their versions tell what these do.

    >>> of_dspy_or_ours(dspy.Predict("text -> label"))
    True
    """
    return str(getattr(value, "__module__", "")).partition(".")[0] in ("dspy", "progspace")


def state_text(owner: Any, named: Named = lambda _: None) -> str:
    """Tells what a function's or an object's result depends on beside its source; empty where there is no such thing.

    An LM is told by its identity, without secrets.

    >>> def within(most):
    ...     return lambda example, prediction: len(prediction.title) <= most
    >>> state_text(within(2)) == state_text(within(9))
    False
    >>> state_text(len)
    ''
    """
    reader = _Reader(_home(owner), named)
    if told := reader.named(owner):
        return told
    if isinstance(owner, functools.partial):
        return reader.told(owner.args) + reader.told(sorted(owner.keywords.items()))
    if inspect.ismethod(owner):
        return reader.told(owner.__self__) + _joined(reader.function(owner.__func__))
    function = owner if inspect.isfunction(owner) else getattr(owner, "__wrapped__", None)  # of functools.cache, say
    if inspect.isfunction(function):
        return _joined(reader.function(function))
    if isinstance(owner, type):
        return reader.told(owner)
    return "" if inspect.isroutine(owner) else _joined({**reader.owner(type(owner)), **reader.held(owner)})


def whole_text(value: Any, named: Named = lambda _: None, *, home: str | None = None) -> str:
    """Tells a value itself, its source included, and what its result depends on.

    Args:
        value: A class, a function, or anything that an object holds.
        named: Tells what has a name of its own.
        home: The module that holds it; None for the one that it is from, and for none where that is DSPy's or ours.

    >>> whole_text({"b": (1, 2), "a": None})
    "{'a': None, 'b': (1, 2)}"
    """
    if home is None:
        home = "" if of_dspy_or_ours(value) else _home(value)
    return _Reader(home, named).told(value)


def beside_source(kind: type) -> str:
    """Tells what a class of the user's depends on beside its own text: its bases, and what its methods read.

    >>> beside_source(type("Plain", (), {"size": 2}))
    ''
    """
    told = _Reader(_home(kind), lambda _: None).owner(kind)
    apart = (".defaults", ".code") if source_text(kind) is not None else (".defaults",)
    return _joined({name: each for name, each in told.items() if "." in name and not name.endswith(apart)})


def _home(owner: Any) -> str:
    while isinstance(owner, functools.partial):
        owner = owner.func
    return str(getattr(owner, "__module__", None) or "")


def _joined(parts: Mapping[str, str]) -> str:
    return "".join(f"\n{name}={told}" for name, told in parts.items())


def _path(owner: Any) -> str:
    return f"{getattr(owner, '__module__', '')}.{getattr(owner, '__qualname__', type(owner).__qualname__)}"


class _TooLarge(Exception):  # noqa: N818 — never leaves this file
    """An object of a library is made of too many values to be told by them."""


class _Reader:
    """Tells values, as seen from the module of one piece of the user's code."""

    def __init__(self, home: str, named: Named) -> None:
        self._home, self._named = home, named
        self._open: list[int] = []
        self._known: dict[int, tuple[Any, str]] = {}  # with the value, whose address no other then takes
        self._left: int | None = None  # of what an object of a library may be made of; None outside of any

    def named(self, value: Any) -> str | None:
        """Names what has an identity of its own."""
        if isinstance(value, dspy.BaseLM):
            return json.dumps(lm_identity(value), sort_keys=True, default=repr)
        return self._named(value)

    def told(self, value: Any) -> str:
        """Tells any value; one that is inside itself, or cannot be told, by its type."""
        if type(value) in SCALARS:
            return repr(value)
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._open or len(self._open) > _DEEPEST:
            return _path(type(value))
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise _TooLarge
        self._open.append(id(value))
        try:
            text = self.named(value) or self._told(value)
        except _TooLarge:
            raise
        except Exception:  # of the user's own properties, or a library's
            text = _path(type(value))
        finally:
            self._open.pop()
        self._known[id(value)] = value, text
        return text

    def _told(self, value: Any) -> str:
        if isinstance(value, ModuleType):
            return value.__name__
        if isinstance(value, enum.Enum):
            return f"{_path(type(value))}.{value.name}={self.told(value.value)}"
        if isinstance(value, type):
            return f"{_path(value)}@{digest(self._class(value))}" if self._own(_home(value)) else _path(value)
        if inspect.ismethod(value):
            return f"{self.told(value.__self__)}.{self.told(value.__func__)}"
        if inspect.isfunction(value):
            text = _joined(self.function(value))
            if self._own(_home(value)):
                text += source_text(value) or code_text(value.__code__)
            return f"{_path(value)}@{digest(text)}" if text else _path(value)
        if isinstance(value, functools.partial):
            return f"{self.told(value.func)}+{self.told(value.args)}{self.told(value.keywords)}"
        if inspect.isfunction(wrapped := getattr(value, "__wrapped__", None)):  # by functools.cache, say
            return self.told(wrapped)
        if inspect.isroutine(value):
            owner = getattr(value, "__self__", None)
            text = _path(type(owner)) if isinstance(owner, ModuleType | type | None) else self.told(owner)
            return _path(value) if text == _path(type(owner)) else f"{text}.{value.__name__}"
        return self._collection(value) or self._instance(value)

    def _collection(self, value: Any) -> str:
        kind = "" if type(value) in (dict, list, tuple, set, frozenset) else _path(type(value))
        if isinstance(value, Mapping):
            items = sorted(f"{self.told(key)}: {self.told(each)}" for key, each in value.items())  # one made from a set
            return f"{kind}{{{', '.join(items)}}}"
        if isinstance(value, set | frozenset):
            return f"{kind}{{{', '.join(sorted(map(self.told, value)))}}}"
        if isinstance(value, list | tuple):
            text = ", ".join(map(self.told, value))
            return kind + (f"[{text}]" if isinstance(value, list) else f"({text},)" if len(value) == 1 else f"({text})")
        if isinstance(value, str | bytes):
            return f"{kind}{value!r}"
        return ""

    def _instance(self, value: Any) -> str:
        kind = type(value)
        if self._own(_home(kind)) or dataclasses.is_dataclass(value) or isinstance(value, _BY_FIELDS):
            return f"{self.told(kind)}@{digest(_joined(self.held(value)))}"
        if isinstance(value, re.Pattern):
            return f"{value.pattern!r}{value.flags}"
        # An array, a tensor, a DataFrame, a picture of PIL's: their repr leaves things out.
        if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
            return f"{_path(kind)}@{digest(self._array(value))}"
        text = repr(value)
        # By convention what begins so tells no value; addresses and numbers of threads stand in it.
        opaque = text.startswith("<") or _ADDRESS.search(text)
        if (opaque or getattr(value, "__dict__", None)) and (made := self._made_of(value)):
            return f"{_path(kind)}@{digest(made)}"
        return _path(kind) if opaque else f"{_path(kind)}:{text}"

    def _array(self, value: Any) -> str:
        import numpy as np
        from numpy.lib.recfunctions import repack_fields

        kind = ""
        value = value.detach().cpu() if hasattr(value, "detach") else value  # a tensor of torch
        try:
            array = np.asarray(value)
        except TypeError:  # numpy has no bfloat16
            kind, array = str(value.dtype), np.asarray(value.float())
        if array.dtype.names:
            array = repack_fields(array)  # between fields stands whatever was there in memory
        if array.dtype.hasobject:
            content = self.told(array.tolist())
        else:
            step = 1 + array.nbytes // _BIG if self._left is not None else 1
            content = hashlib.sha256(np.ascontiguousarray(array.reshape(-1)[::step]).view(np.uint8).data).hexdigest()
        return f"{kind}{array.dtype}{array.shape}{self._names(value)}{content}"

    def _made_of(self, value: Any) -> str:
        """Tells an object of a library by what pickling keeps of it; empty where that is no part of a program.

        What its authors drop there, what it remembers and what it makes when it is first used are left out: its
        identity is the same before and after. So is what a client, or anything that other threads share, is made of.
        """
        kind = type(value)
        root = _home(kind).partition(".")[0]
        if root in sys.stdlib_module_names or root == "progspace" or _home(kind).startswith("numpy.random"):
            return ""  # what is known by its name, and what is another each time that it was asked
        if _is_live(value):
            return ""
        outermost, self._left = self._left is None, _MOST if self._left is None else self._left
        try:
            return self._kept(value)
        except _TooLarge:
            if not outermost:
                raise
            return ""
        finally:
            if outermost:
                self._left = None

    def _kept(self, value: Any) -> str:
        if isinstance(value, dspy.Adapter):
            return self._unlike_plain(value)
        if hasattr(value, "tocsr"):  # a sparse matrix, which remembers whether it is in order
            matrix = value.tocsr(copy=True)
            matrix.sum_duplicates()
            return self.told([matrix.shape, matrix.indptr, matrix.indices, matrix.data])
        if hasattr(value, "get_n_calls"):  # scikit-learn's trees count; what they are made of stands beside them
            return ""
        kept = value.__reduce_ex__(2)
        if isinstance(kept, str):
            return kept
        _, args, state, items, pairs = (*kept, None, None, None)[:5]
        both = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        fields = {name: each for part in both if isinstance(part, dict) for name, each in part.items()}
        if any(map(_is_live, fields.values())) and not of_dspy_or_ours(value):
            return ""
        told = self._lasting(value, fields)
        told += [self.told(part) for part in both if not isinstance(part, dict | None)]
        told += [self.told(list(each)) for each in (items, pairs) if each is not None]
        if len(args) > 1 or args[:1] != (type(value),):
            told.append(self.told(args))
        return "\n".join(told)

    def _lasting(self, value: Any, fields: Mapping[str, Any]) -> list[str]:
        """Tells what use does not change."""
        kind, beside = type(value), {id(each) for each in fields.values()}
        of_dspy = DSPYS_OWN | {"stage"} if of_dspy_or_ours(kind) else frozenset()
        told = []
        for name, each in without_secrets(fields).items():
            remembered = "cache" in name or isinstance(getattr(kind, name, None), functools.cached_property)
            if each is None or remembered or name in of_dspy or (type(each) is int and each in beside):
                continue
            if type(each) is dict and all(isinstance(key, str) for key in each):
                each = without_secrets(each)
            text = self.told(each)
            if text != _path(type(each)):  # what tells nothing may be there only once it is used
                told.append(f"{name}={text}")
        return sorted(told)

    def _unlike_plain(self, adapter: dspy.Adapter) -> str:
        """Tells what an adapter of DSPy's has that it has not by default."""
        try:
            plain = self._lasting(adapter, vars(type(adapter)()))
        except TypeError:  # it has no default
            plain = []
        return "\n".join(each for each in self._lasting(adapter, vars(adapter)) if each not in plain)

    def _names(self, value: Any) -> str:
        return "".join(self.told(list(getattr(value, each))) for each in ("columns", "index") if _iterable(value, each))

    def held(self, instance: Any) -> dict[str, str]:
        """Tells what an instance holds, but what it has only worked out."""
        kind = type(instance)
        slots = [name for each in kind.__mro__ for name in _slots(each) if hasattr(instance, name)]
        held = {**{name: getattr(instance, name) for name in slots}, **getattr(instance, "__dict__", {})}
        return {
            f"self.{name}": self.told(value)
            for name, value in held.items()
            if not isinstance(getattr(kind, name, None), functools.cached_property)
            and not (name == "stage" and isinstance(instance, dspy.Retrieve))  # made by chance
        }

    def owner(self, kind: type) -> dict[str, str]:
        """Tells what a class depends on beside its source: what its methods do, its attributes, its own bases."""
        made = source_text(kind) is not None
        parts = {f"base.{base.__qualname__}": self.told(base) for base in kind.__mro__[1:] if self._own(_home(base))}
        for name, value in vars(kind).items():
            if name == "_value2member_map_" and issubclass(kind, enum.Flag):
                continue  # which keeps what was combined once
            function = _function(value)
            if function is not None:
                if made and function.__code__.co_filename == "<string>":
                    continue  # a dataclass's __init__, which follows from the source
                code = {} if made else {"code": code_text(function.__code__)}
                told = {**code, **self._function(function)}
                parts.update({f"{name}.{key}": each for key, each in told.items()})
            elif not name.startswith(("__", "_abc_")) and not hasattr(value, "__get__"):
                parts[name] = self.told(value)
        return parts

    def _class(self, kind: type) -> str:
        return (source_text(kind) or "") + _joined(self.owner(kind))

    def function(self, function: Any) -> dict[str, str]:
        """Tells what a function depends on beside its source, and its code where that does not tell it."""
        parts = self._function(function)
        return parts if source_tells(function, function.__code__) else {**parts, "code": code_text(function.__code__)}

    def _function(self, function: Any) -> dict[str, str]:
        code, parts = function.__code__, dict[str, str]()
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not yet filled
                continue
            if name != "__class__" and not isinstance(value, ModuleType):
                parts[f"closure.{name}"] = self.told(value)
        defaults = {**dict(enumerate(function.__defaults__ or ())), **(function.__kwdefaults__ or {})}
        if any(value is not None for value in defaults.values()):
            parts["defaults"] = self.told(defaults)
        parts.update({f"own.{name}": self.told(value) for name, value in vars(function).items()})
        read = function.__globals__
        if not self._own(str(read.get("__name__") or "")):
            return parts
        counted = set(globals_in(code, "STORE_GLOBAL"))  # what it writes itself it is not made of
        for name in dict.fromkeys(globals_in(code)):
            if name in counted:
                continue
            value = read.get(name)
            others = isinstance(value, ModuleType | type) or inspect.isroutine(value)
            if isinstance(value, ModuleType) and self._own(value.__name__):
                parts.update(self._members(f"global.{name}", value, code))
            elif name in read and (not others or self._own(_home(value))):
                parts[f"global.{name}"] = self.told(value)
        for module in self._imported(code, read):
            parts.update(self._members(f"import.{module.__name__}", module, code))
        return parts

    def _members(
        self, path: str, module: ModuleType, code: CodeType, within: Sequence[ModuleType] = ()
    ) -> dict[str, str]:
        """Tells what code reads of a module of the user's, and of those in it."""
        parts = {}
        for name in attributes_in(code):
            if name not in vars(module):
                continue
            value = vars(module)[name]
            parts[f"{path}.{name}"] = self.told(value)
            if isinstance(value, ModuleType) and self._own(value.__name__) and value not in within:
                parts.update(self._members(f"{path}.{name}", value, code, (*within, module, value)))
        return parts

    def _imported(self, code: CodeType, read: Mapping[str, Any]) -> Iterator[ModuleType]:
        """Gives the user's modules that code imports as it runs; imported now, they are the same before and after."""
        if place_of(self._home.partition(".")[0]) is None:
            return  # a library's own code
        package = read.get("__package__") or str(read.get("__name__") or "").rpartition(".")[0]
        for name, level, names in imports_in(code):
            with contextlib.suppress(Exception, SystemExit):  # of the user's module: what imports it raises it as well
                path = importlib.util.resolve_name("." * level + name, package)
                if self._own(path):
                    module = importlib.import_module(path)
                    for each in names or ():
                        if each not in vars(module) and hasattr(module, "__path__"):
                            importlib.import_module(f"{path}.{each}")
                    yield module

    def _own(self, module: str) -> bool:
        """Whether the user wrote a module: it is the one of what is told of, or in the same package or folder."""
        root = module.partition(".")[0]
        if module == self._home or root in ("builtins", "dspy", "progspace"):
            return module == self._home
        if root == self._home.partition(".")[0]:
            return True
        folder = folder_of(self._home)
        return folder is not None and (folder == folder_of(module) or folder == place_of(root))


def _is_live(value: Any) -> bool:
    """Whether a value is of the process, not of the program: a client, a lock, a thread."""
    kind = type(value)
    return _home(kind).partition(".")[0] in _MACHINERY or any(hasattr(kind, name) for name in _HANDLE)


def _slots(kind: type) -> list[str]:
    names = vars(kind).get("__slots__", ())
    return [name for name in ([names] if isinstance(names, str) else names) if not name.startswith("__")]


def _function(value: Any) -> Any:
    """Gives the function in what a class holds; None where there is none."""
    for name in ("__func__", "fget", "func"):
        value = getattr(value, name, value)
    return value if inspect.isfunction(value) else None


def _iterable(value: Any, name: str) -> bool:
    return hasattr(getattr(value, name, None), "__iter__")
