# SPDX-License-Identifier: GPL-3.0-or-later
"""Values out of what the engine sends, checked: texts, numbers, lists, each within bounds. Free of bpy.

Every function raises :class:`WireError` with a sentence where a value is not what the protocol says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from .messages import WireError

TEXT_LIMIT: Final = 16_384  # characters of any one string
LIST_LIMIT: Final = 200_000  # entries of any one list
T = TypeVar("T")


def cleaned(text: str) -> str:
    """Text with every lone surrogate written out, so that UTF-8 can hold it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def as_map(value: object, what: str) -> Mapping[str, Any]:
    """An object, by its keys."""
    if not isinstance(value, dict):
        raise WireError(f"The engine's {what} is not an object.")
    return value


def as_list(value: object, what: str) -> list[Any]:
    """A list of no more entries than any may have."""
    if not isinstance(value, list) or len(value) > LIST_LIMIT:
        raise WireError(f"The engine's {what} is not a list of at most {LIST_LIMIT} entries.")
    return value


def text_of(data: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A text of an object; ``default`` where it is null or absent."""
    value = data.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise WireError(f"The engine's “{key}” is not a text.")
    return cleaned(value)


def number_of(data: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A finite number of an object; ``default`` where it is null or absent."""
    value = data.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise WireError(f"The engine's “{key}” is not a number.")
    try:
        return float(value)
    except OverflowError:
        raise WireError(f"The engine's “{key}” is too large a number.") from None


def whole_of(data: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A number of an object, whole."""
    return int(number_of(data, key, None if default is None else float(default)))


def flag_of(data: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """True or false of an object; ``default`` where it is absent."""
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise WireError(f"The engine's “{key}” is neither true nor false.")
    return value


def numbers_of(value: object, count: int, what: str) -> tuple[float, ...]:
    """A list of so many finite numbers."""
    entries = as_list(value, what)
    if len(entries) != count:
        raise WireError(f"The engine's {what} has {len(entries)} numbers instead of {count}.")
    if all(type(entry) in (float, int) and abs(entry) < 1e300 for entry in entries):  # nearly always, of thousands
        return tuple(map(float, entries))
    return tuple(number_of({what: entry}, what) for entry in entries)


def many_of(data: Mapping[str, Any], key: str, parse: Callable[[object], T]) -> tuple[T, ...]:
    """Every entry of a list of an object, parsed; none where it is absent."""
    return tuple(parse(entry) for entry in as_list(data.get(key, []), key))


def one_text(value: object) -> str:
    """An entry of a list that is a text."""
    return text_of({"entry": value}, "entry")


def paths_of(data: Mapping[str, Any], key: str) -> dict[str, str]:
    """Texts by texts; none where it is null or absent."""
    value = data.get(key)
    return {} if value is None else {one_text(k): one_text(v) for k, v in as_map(value, key).items()}
