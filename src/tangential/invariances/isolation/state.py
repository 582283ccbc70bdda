"""State that a run of the model may change, recorded and put back: whatever can be reached from some roots.

The analysis compares runs with each other, so each must start from the same state, and the user must find everything as
it was. Models keep state in more places than buffers: parameters that `forward` updates or clips, a teacher that
follows the weights, counters and lists in attributes, tensors of a class, tables at module level or in an `lru_cache`,
closures of hooks and of `forward=`, objects in the batch.

`State` walks from its roots through containers, attributes, closures and classes, and through the module-level names
that the functions on the way use (the names of their code, found without running anything). On the way it records the
contents of every mutable container and the values of every tensor. Putting back changes the very same objects, so that
whoever else holds them sees them as before; what did not change is not touched. Each `lru_cache` on the way is replaced
by an empty one until `release`, so that no float64 table stays behind in the user's. Packages that hold no state of the
user's (torch, NumPy, the standard library) are not entered.
"""

from __future__ import annotations

import functools
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tangential.invariances.isolation.reachable import is_foreign, mentioned, methods_used, namespaces
from tangential.invariances.isolation.undo import MISSING, Undo, access, generator_undo, tensor_undo

_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size, range, slice)
_DEEPEST = 4
"""Calls from a module's `forward` to a function whose names are still looked up."""
_CACHE = type(functools.lru_cache(lambda: None))


class State:
    """What can be reached from a model and from how it is called, as it is now.

    Args:
        model: Roots whose random generators are put back by `restore`, too.
        call: Roots whose random generators are put back by `release` alone, for outputs that a generator outside of the
            model decides are random.
        except_for: Tensors that are left out, for they are looked after elsewhere.

    Attributes:
        tensors: The tensors on the way.

    Examples:
        >>> seen = [1]
        >>> state = State([seen])
        >>> seen.append(2); state.restore(); seen
        [1]
    """

    def __init__(self, model: Iterable[Any], call: Iterable[Any] = (), except_for: Iterable[Tensor] = ()):
        self.tensors: list[Tensor] = []
        self._undo: list[Undo] = []
        self._undo_at_the_end: list[Undo] = []
        self._caches: dict[int, Any] = {}
        self._slots: dict[tuple[int, str], Any] = {}
        self._seen = {id(tensor): tensor for tensor in except_for}
        self._kinds: set[int] = set()
        self._depth = 0
        numpy = sys.modules.get("numpy")
        self._recorders: list[tuple[Any, Callable[[Any], Iterable[Any]]]] = [
            (Tensor, self._tensor),
            (numpy.ndarray if numpy else (), self._array),
            (dict, self._dict),
            ((list, deque, set, bytearray), self._collection),
            ((tuple, frozenset), iter),
            (types.FunctionType, self._function),
            (type, self._class),
            ((_CACHE, types.MethodType, functools.partial, staticmethod, classmethod, property), _inside),
        ]
        try:
            self._walk(list(model), self._undo)
            self._walk(list(call), self._undo_at_the_end)
        except BaseException:
            self.release()
            raise
        finally:
            self._recorders.clear()  # they hold this object, which would outlive its last use and the tensors with it

    def restore(self) -> None:
        """Put containers and tensors back, and the random generators of the model."""
        for undo in self._undo:
            undo()

    def release(self) -> None:
        """Put back everything, caches and random generators included."""
        try:
            self._release()
        except BaseException:  # such as a second Ctrl-C; putting back twice does no harm
            self._release()
            raise

    def _release(self) -> None:
        self.restore()
        for undo in reversed(self._undo_at_the_end):
            undo()

    def _walk(self, roots: list[Any], generators: list[Undo]) -> None:
        todo = [(root, 0) for root in roots]
        while todo:
            thing, self._depth = todo.pop()
            if not isinstance(thing, _PLAIN) and id(thing) not in self._seen:
                self._seen[id(thing)] = thing  # held, so that no other object gets its id
                found = () if generator_undo(thing, generators) else self._record(thing)
                todo.extend((each, self._depth) for each in found)

    def _record(self, thing: Any) -> Iterable[Any]:
        """Record one object.

        Returns:
            What can be reached from it.
        """
        for kinds, record in self._recorders:
            if isinstance(thing, kinds):
                return record(thing)
        return () if is_foreign(thing) else self._object(thing)

    def _tensor(self, tensor: Tensor) -> Iterable[Any]:
        undo = tensor_undo(tensor)
        if undo is not None:
            self.tensors.append(tensor)
            self._undo.append(undo)
        hooks = (tensor._backward_hooks, tensor._post_accumulate_grad_hooks)  # pyright: ignore[reportAttributeAccessIssue]
        return [tensor.grad if tensor.is_leaf else None, *hooks, vars(tensor)]

    def _array(self, array: Any) -> Iterable[Any]:
        values = array.copy()
        if array.flags.writeable:
            self._undo.append(lambda: array.__setitem__(..., values))
        return ()

    def _dict(self, thing: dict[Any, Any]) -> Iterable[Any]:
        # Past what a subclass makes of these methods; an OrderedDict has its own.
        kind: Any = OrderedDict if isinstance(thing, OrderedDict) else dict
        for key, value in list(kind.items(thing)):
            if isinstance(value, _CACHE):
                self._replace_cache(value, functools.partial(kind.__setitem__, thing, key))
        saved = dict(kind.items(thing))

        def undo() -> None:
            if not _same_items(kind.items(thing), saved.items()):
                kind.clear(thing)
                for key, value in saved.items():
                    kind.__setitem__(thing, key, value)

        self._undo.append(undo)
        return [*saved.values(), *(key for key in saved if not isinstance(key, _PLAIN))]

    def _collection(self, thing: Any) -> Iterable[Any]:
        saved = list(thing)

        def undo() -> None:
            if len(thing) != len(saved) or any(a is not b for a, b in zip(thing, saved, strict=True)):
                thing.clear()
                (thing.update if isinstance(thing, set) else thing.extend)(saved)

        self._undo.append(undo)
        return () if isinstance(thing, bytearray) else saved

    def _function(self, function: types.FunctionType) -> Iterable[Any]:
        if is_foreign(function):
            return ()
        found: list[Any] = [function.__defaults__, function.__kwdefaults__, function.__dict__]
        for cell in function.__closure__ or ():
            found.append(self._slot(cell, "cell_contents"))
        self._depth += 1
        if self._depth <= _DEEPEST:
            names = mentioned(function)
            found += [self._slot(space, name) for space in namespaces(function, names) for name in names & space.keys()]
        return found

    def _class(self, kind: type) -> Iterable[Any]:
        if is_foreign(kind):
            return kind.__mro__[1:]
        saved = set(vars(kind))

        def undo() -> None:
            for name in vars(kind).keys() - saved:
                if not name.startswith("__"):  # Python's own notes, such as those of copying
                    type.__delattr__(kind, name)

        self._undo.append(undo)
        names = [name for name, value in vars(kind).items() if not name.startswith("__") and _holds_state(value)]
        return [*kind.__mro__[1:], *(self._slot(kind, name) for name in names)]

    def _object(self, thing: Any) -> Iterable[Any]:
        slots = [name for kind in type(thing).__mro__ for name in _slots(kind) if hasattr(thing, name)]
        found = [self._slot(thing, name) for name in slots]
        own = getattr(thing, "__dict__", None)
        if isinstance(thing, nn.Module):
            found += [value for name, value in vars(nn.modules.module).items() if name.startswith("_global_")]
        new = id(type(thing)) not in self._kinds
        self._kinds.add(id(type(thing)))
        methods = [self._slot(kind, name) for kind, name in methods_used(type(thing))] if new else []
        return [*found, *methods, type(thing), *([own] if isinstance(own, dict) else [])]

    def _slot(self, owner: Any, name: str) -> Any:
        """Record one attribute, cell or module-level name.

        Returns:
            Its value.
        """
        read, write = access(owner, name)
        value = read()
        if (id(owner), name) in self._slots:
            return value
        self._slots[id(owner), name] = owner
        if isinstance(value, _CACHE):
            value = self._replace_cache(value, write)

        def undo() -> None:
            if read() is not value:
                write(value)

        self._undo.append(undo)
        return None if value is MISSING else value

    def _replace_cache(self, cache: Any, write: Callable[[Any], None]) -> Any:
        """Put an empty cache of the same function in the place of one."""
        if is_foreign(cache.__wrapped__):
            return cache
        if id(cache) not in self._caches:
            options = cache.cache_parameters()
            empty = functools.lru_cache(options["maxsize"], options["typed"])(cache.__wrapped__)
            self._caches[id(cache)] = functools.update_wrapper(empty, cache.__wrapped__)
        self._undo_at_the_end.append(lambda: write(cache))
        write(self._caches[id(cache)])
        return self._caches[id(cache)]


def _inside(thing: Any) -> Iterator[Any]:
    """What wrappers of functions wrap."""
    for name in ("__wrapped__", "__func__", "__self__", "func", "args", "keywords", "fget", "fset"):
        yield getattr(thing, name, None)


def _slots(kind: type) -> Collection[str]:
    slots = vars(kind).get("__slots__", ())
    return [slots] if isinstance(slots, str) else [s for s in slots if s not in ("__dict__", "__weakref__")]


def _holds_state(value: Any) -> bool:
    """Whether an attribute of a class is a value rather than code; code is entered where it is called."""
    return not isinstance(value, (types.FunctionType, staticmethod, classmethod, property, type)) and not hasattr(
        type(value), "__set__"
    )


def _same_items(now: Iterable[tuple[Any, Any]], saved: Collection[tuple[Any, Any]]) -> bool:
    now = list(now)
    return len(now) == len(saved) and all(a is b and x is y for (a, x), (b, y) in zip(now, saved, strict=True))
