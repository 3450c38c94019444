"""CNTK's seeds: each random parameter and each dropout takes the next number, in the order of creation."""

SENTINEL = 2**64 - 3  # a seed that CNTK chooses: SentinelValueForAutoSelectRandomSeed
_state = {"next": 0, "fixed": False}


def taken(seed: int | None = None) -> int:
    """`seed`, or the next one if CNTK is to choose."""
    if seed is not None and seed != SENTINEL:
        return seed
    found = _state["next"]
    if not _state["fixed"]:
        _state["next"] += 1
    return found


def reset(seed: int) -> None:
    _state.update(next=seed, fixed=False)


def fixed(seed: int) -> None:
    """Everything created from now on takes this one."""
    _state.update(next=seed, fixed=True)


def last() -> int:
    return _state["next"]


def is_fixed() -> bool:
    return bool(_state["fixed"])
