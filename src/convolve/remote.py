"""Remote files, at `s3://...` or `https://...`: they are read from copies in the cache, which fsspec downloads.

A copy is complete or absent: its size must match what the store says, and its tag must not change during the download.
Failed requests are repeated after growing pauses. Within one process, an address stands for one version of its object.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from convolve.atomic import keep_in_use, replacing
from convolve.cache import cache_folder, limit_bytes, mark_used, trim
from convolve.errors import DataError, MissingDataError, UsageError, install_hint
from convolve.names import portable

KIND = "remote"  # of the cache
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each further attempt

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):[/\\]{1,2}(?=[^/\\])")  # a Path has one slash left; C:\ is a drive
_PART = 1 << 24  # bytes of one request
_AHEAD = 2  # objects that are fetched before they are needed
_MARK_SECONDS = 1.0
_TIMEOUTS = (20, 60)  # seconds to connect, and without a byte
_REFUSED, _GONE = (401, 403), (404, 410, "404", "NoSuchKey", "NoSuchBucket")
_CODES = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "403", "Forbidden"}

_NO_LIST = "ask its owner; if the server does not list folders, name the files: x-{000..146}.tar"

T = TypeVar("T")


class State(NamedTuple):
    """The size of an object, and what distinguishes this version of it."""

    size: int
    tag: str


_lock = threading.Lock()
_states: dict[str, State] = {}
_locks: dict[str, threading.Lock] = {}
_marked: dict[str, float] = {}
_following: dict[str, list[str]] = {}
_fetching: dict[str, Future[Path]] = {}
_pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="remote")


def address(path: str | Path) -> str | None:
    """The address that `path` represents, with its two slashes; None if it is a local path."""
    found = _ADDRESS.match(str(path))
    if found is None or found[1].lower() == "file":
        return None
    return f"{found[1].lower()}://" + str(path)[found.end() :].replace("\\", "/")


def shown(path: Path) -> str:
    """A path, or its address, as messages show it."""
    return address(path) or str(path)


def state(url: str) -> State:
    """The version of the object at `url` when this process first asked. Raises `DataError`."""
    if url not in _states:
        _states[url] = _state_now(url)
    return _states[url]


def states(urls: Sequence[str]) -> list[State]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(state, urls))


def names(url: str) -> tuple[list[str], list[str]]:
    """The addresses of the objects and folders in the folder `url`; empty if there are none."""
    found: list[dict[str, Any]] = _ask(url, lambda store, path: store.ls(path, detail=True), missing=[])
    base, host = url.rstrip("/"), url.split("://", maxsplit=1)[0]
    told = [(str(each["name"]).rstrip("/"), each.get("type")) for each in found]
    whole = [(name if "://" in name else f"{host}://{name.lstrip('/')}", kind) for name, kind in told]
    inside = sorted((name, kind) for name, kind in whole if name != base and name.startswith(f"{base}/"))
    # In a page of links, a folder ends with a slash, which fsspec reports; anything else is an object.
    return [n for n, kind in inside if kind != "directory"], [n for n, kind in inside if kind == "directory"]


def matching(url: str) -> list[str]:
    """The addresses of the objects that match the pattern `url`, sorted."""
    folder, _, pattern = url.rpartition("/")
    from fnmatch import fnmatchcase

    return [name for name in names(folder)[0] if fnmatchcase(name.rpartition("/")[2], pattern)]


def exists(url: str) -> bool:
    try:
        return bool(state(url))
    except MissingDataError:
        return False


def local(path: str | Path) -> Path:
    """`path`, or a copy in the cache of the object at that address."""
    url = address(path)
    return Path(path) if url is None else copy(url)


def copy(url: str) -> Path:
    """The copy of an object in the cache, downloaded if missing. It may be removed again when others need the space."""
    with _lock:
        following = _following.pop(url, [])
    for each in following:
        _fetch_ahead(each)
    return _copy(url)


def _copy(url: str) -> Path:
    known = state(url)
    path = _path(url, known)
    with _lock:
        lock = _locks.setdefault(url, threading.Lock())
    if time.monotonic() - _marked.get(url, -_MARK_SECONDS) > _MARK_SECONDS or not path.exists():
        with lock:
            if not path.exists():
                _fetch(url, known, path)
            mark_used(path)
            _marked[url] = time.monotonic()
    return path


def expect(urls: Sequence[str]) -> None:
    """Announce objects that are needed in this order: each is downloaded while those before it are read."""
    with _lock:
        _following.clear()
        _following.update({url: list(urls[at + 1 : at + 1 + _AHEAD]) for at, url in enumerate(urls)})


def put(path: Path, url: str) -> None:
    """Upload the file at `path` to `url`, and read it back to check."""
    _ask(url, lambda store, there: store.put_file(str(path), there))
    _states.pop(url, None)
    with path.open("rb") as file, copy(url).open("rb") as written:
        if hashlib.file_digest(file, "sha256").digest() != hashlib.file_digest(written, "sha256").digest():
            raise DataError(f"{url}: the uploaded object differs from the file; upload it again")


def local_model(path: Path) -> Path:
    """`path`, or for an address the copy of that file, or of all files in that folder under their own names."""
    url = address(path)
    if url is None:
        return path
    files = names(url)[0] or [url]
    key = hashlib.sha256(repr([(file, state(file)) for file in files]).encode()).hexdigest()[:24]
    folder = cache_folder(KIND) / key
    for file in files:
        name = file.rpartition("/")[2]
        if not (folder / name).exists():
            _fetch(file, state(file), folder / name)
    mark_used(folder)
    keep_in_use(folder)
    return folder / url.rpartition("/")[2] if files == [url] else folder


def _path(url: str, known: State) -> Path:
    key = hashlib.sha256(repr((url, known)).encode()).hexdigest()[:24]
    return cache_folder(KIND) / f"{key}-{portable(url.rpartition('/')[2][-80:])}"


def _fetch_ahead(url: str) -> None:
    """A failure here is ignored; it recurs and is reported when the object is needed."""
    with _lock:
        begun = _fetching.get(url)
        if begun is None or begun.done():
            _fetching[url] = _pool.submit(_copy, url)


def _fetch(url: str, known: State, path: Path) -> None:
    if known.size > limit_bytes():
        what = f"{url}: {known.size:,} bytes, more than the cache may hold"
        raise UsageError(f"{what}; enlarge it with CONVOLVE_CACHE_GIB={known.size / 2**30 * 4:.1f}")
    trim(known.size)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            for start in range(0, known.size, _PART):
                file.write(_part(url, start, min(start + _PART, known.size), known.size))
        now = _state_now(url)
        if now != known:
            what = f"the object was changed while it was read ({known.size:,} bytes then, {now.size:,} now)"
            raise DataError(f"{url}: {what}; leave the object unchanged, and start over")


def _part(url: str, start: int, end: int, size: int) -> bytes:
    """The bytes from `start` to `end`, all of them; if the server has no ranges, cut out of the whole object."""

    def ask(store: Any, path: str) -> bytes:
        content: bytes = store.cat_file(path, start=start, end=end)
        if len(content) == size > end - start:
            content = content[start:end]
        if len(content) != end - start:
            raise OSError(f"{len(content):,} bytes arrived of {end - start:,}")
        return content

    return _ask(url, ask)


def _state_now(url: str) -> State:
    about = _ask(url, lambda store, path: store.info(path))
    if about.get("size") is None or about.get("type") == "directory":
        raise DataError(
            f"{url}: the server does not say how large it is, or it is a folder; give the address of a file"
        )
    tags = (str(about.get(name, "")) for name in ("ETag", "etag", "Last-Modified", "LastModified", "mtime"))
    return State(int(about["size"]), next(filter(None, tags), ""))


def _ask(url: str, question: Callable[[Any, str], T], missing: T | None = None) -> T:
    """The store's answer; temporary failures are retried. Raises `DataError` with the way out."""
    store, path = _store(url)
    for pause in (*PAUSES, None):
        try:
            return question(store, path)
        except Exception as error:  # each store has its own exceptions
            cause = error.__cause__ or error
            status = getattr(cause, "status", None)
            code = getattr(cause, "response", None) or {}
            code = str(code.get("Error", {}).get("Code", "")) if isinstance(code, dict) else ""
            if (
                isinstance(error, PermissionError)
                or status in _REFUSED
                or code in _CODES
                or "Credentials" in repr(cause)
            ):
                raise _refused(url, cause) from None
            is_told = cause is error or status in _GONE or code in _GONE  # unless it is a connection failure
            if isinstance(error, FileNotFoundError) and is_told:
                if missing is not None:
                    return missing
                raise MissingDataError(f"{url} does not exist; correct the address") from None
            if pause is None:
                said = " ".join(str(cause).split())[:200] or type(cause).__name__
                what = f"{url}: cannot be read, after {len(PAUSES) + 1} attempts ({said})"
                raise DataError(f"{what}; check the connection, and repeat the command") from None
            time.sleep(pause)
    raise AssertionError


def _refused(url: str, cause: BaseException) -> DataError:
    said = " ".join(str(cause).split())[:120]
    way = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" if url.startswith("s3:") else _NO_LIST
    return DataError(f"{url}: the credentials were refused ({said}); {way}")


def _store(url: str) -> tuple[Any, str]:
    """fsspec's file system for `url`, and the path in it."""
    scheme = url.split("://", maxsplit=1)[0]
    more: dict[str, Any] = {}
    try:
        from fsspec.core import url_to_fs

        if scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            timeout = ClientTimeout(total=None, sock_connect=_TIMEOUTS[0], sock_read=_TIMEOUTS[1])
            more = {"client_kwargs": {"timeout": timeout}}
        elif scheme in ("s3", "s3a"):
            more = {"config_kwargs": {"connect_timeout": _TIMEOUTS[0], "read_timeout": _TIMEOUTS[1]}}
        store, path = url_to_fs(url, use_listings_cache=False, **more)
    except ImportError as error:
        raise UsageError(f"{url}: reading remote files needs fsspec ({error}): {install_hint('remote')}") from None
    except ValueError as error:
        raise UsageError(f"{url}: {error}; give a path, s3://... or https://...") from None
    return store, path
