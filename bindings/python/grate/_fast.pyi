"""Optional, in C: see `_fast.c` and `_accelerate.py`."""

from typing import Any

Decision: Any

def bind(*layout: Any) -> None: ...
def replace(place: int, kind: type, slow: Any, doc: bytes) -> None: ...
