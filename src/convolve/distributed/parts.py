"""A long command on several workers: each does its part, all see every result, worker 0 alone writes for the user.

Results lie in a folder that all workers see, in blocks whose limits do not depend on the number of workers: what is
there when a command is stopped is not done again by the next one, of whatever number of workers. There is no process
group: the workers meet once, and from then on look for files. All of them run the same commands in the same order.
Each counts in a file of its own that it is alive; the clocks of the hosts need not agree.
"""

import hashlib
import itertools
import json
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeVar

from convolve.atomic import cannot_write, keep_in_use, locked, read_whole, refuse_link, replacing, sweep
from convolve.cache import cache_folder
from convolve.data.team import ALONE, Team
from convolve.distributed.launcher import RankInfo, rank_info
from convolve.distributed.lost import TIMEOUT_SECONDS
from convolve.distributed.process_group import BETWEEN_STEPS, threads_of
from convolve.distributed.rendezvous import PATIENCE_SECONDS, WorkerInfo, rendezvous
from convolve.errors import ConvolveError, UsageError
from convolve.formats.allowed_pickle import read_pickle, to_pickle
from convolve.locks import is_locked
from convolve.training.workers import part

T = TypeVar("T")
Told = Callable[[str, int, int], None]  # hears of progress: what is done, how many of it, of how many

SILENCE_SECONDS = BETWEEN_STEPS * TIMEOUT_SECONDS  # the longest that one block may take, or what worker 0 alone does
BEAT_SECONDS, LOST_SECONDS = 5.0, 120.0  # a network disk may show a worker's file a minute late
_PAUSES_SECONDS = 0.02, 1.0  # between two looks for a file, the first one and the longest
_TELLING_SECONDS = 10.0
_OURS = re.compile(r"[0-9]+-[0-9]+\.block|(question|plan[0-9]+|failed|done|alive)\..+|worker[0-9]+\.lock")
_AGAIN = "the same command continues from the finished parts"


class _Block(NamedTuple):
    """The results `number` of a phase, which worker `rank` has to deliver."""

    path: Path
    rank: int
    items: range


class _Team(Team):
    """Worker `rank` of `size`."""

    def __init__(self, own: RankInfo, infos: list[WorkerInfo], token: str, tell: Told, stack: ExitStack) -> None:
        self.rank, self.size, self._token, self._tell, self._stack = own.rank, own.size, token, tell, stack
        self._hosts = [info.host for info in infos]
        here = [rank for rank, host in enumerate(self._hosts) if host == self._hosts[self.rank]]
        self.threads = threads_of(here.index(self.rank), [infos[rank].cores for rank in here])
        self._folder, self._phase = Path(), 0
        self._heard: dict[int, tuple[str, float]] = {}  # of each worker: what it counted last, and how long ago
        self._is_over, self._beating = threading.Event(), threading.Thread(target=self._beat, daemon=True)

    def begin(self, question: Callable[[], Mapping[str, str]], beside: Path | None = None) -> None:
        asked = {**question(), "version of convolve": metadata.version("convolve")}
        self._folder = _folder_of(beside)
        refuse_link(self._folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            keep_in_use(self._folder)  # nobody clears the cache meanwhile
            lock = self._lock_of(self.rank)
            lock.touch()
            self._stack.enter_context(locked(lock, wait=False))
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        self._beating.start()
        self._stack.callback(self._stop)
        self._say("question", json.dumps(asked))
        for rank in range(self.size) if self.rank == 0 else [0]:
            theirs = json.loads(self._hear("question", rank, TIMEOUT_SECONDS))
            for name, value in asked.items():
                if theirs.get(name) != value:
                    raise UsageError(
                        f"{name}: worker {rank} has another one than worker {self.rank}; all need the same"
                    )
        if self.rank == 0:
            self._take_over(json.dumps(asked), beside)

    def _take_over(self, question: str, beside: Path | None) -> None:
        """Keep what an earlier command left that asked the same."""
        kept, sign = self._folder / "question.json", f".{self._token}."
        is_same = kept.is_file() and kept.read_text("utf-8") == question
        if kept.exists() and not is_same and beside:
            raise UsageError(
                f"{self._folder} belongs to another command; repeat that command to continue it, or remove the folder"
            )
        for path in self._folder.iterdir():
            is_kept = sign in path.name or path.suffix == ".lock" or (is_same and path.suffix == ".block")
            if not is_kept and _OURS.fullmatch(path.name):
                path.unlink()
        sweep(self._folder)
        with replacing(kept) as temporary:
            temporary.write_text(question, "utf-8")

    def blocks(
        self,
        name: str,
        items: int,
        step: int,
        compute: Callable[[range], Iterator[T]],
        *,
        start: int = 0,
        for_all: bool = True,
    ) -> Iterator[T]:
        self._phase += 1
        blocks, is_due = self._plan(items, step, start), time.monotonic() + _TELLING_SECONDS
        for run in _runs([block for block in blocks if block.rank == self.rank and not block.path.exists()]):
            values = compute(range(run[0].items.start, run[-1].items.stop))
            for block, value in zip(run, values, strict=True):
                with replacing(block.path) as temporary:
                    temporary.write_bytes(to_pickle(value))
                if self.rank == 0 and time.monotonic() > is_due:
                    done = sum(1 for _ in self._folder.glob(f"{self._phase}-*.block"))
                    self._tell(name, min(done * step, items), items)
                    is_due = time.monotonic() + _TELLING_SECONDS
        for block in blocks if for_all or self.rank == 0 else []:
            last = max(each.items.stop for each in blocks if each.rank == block.rank) - 1
            what = f"{name}: {block.items.start:,} to {last:,} of {items:,}"
            self._wait_for(block.path, block.rank, SILENCE_SECONDS, what)
            yield read_pickle(read_whole(block.path, ConvolveError), block.path)

    def _plan(self, items: int, step: int, start: int) -> list[_Block]:
        """All blocks of a phase. Those that are missing are dealt out anew, neighbors to one worker."""
        paths = {at: self._folder / f"{self._phase}-{at // step:08}.block" for at in range(0, items, step)}
        if self.rank == 0:
            self._say(f"plan{self._phase}", json.dumps([at for at in paths if at >= start and not paths[at].exists()]))
        missing = json.loads(self._hear(f"plan{self._phase}", 0, SILENCE_SECONDS))
        owner = {at: rank for rank in range(self.size) for at in missing[part(len(missing), rank, self.size)]}
        return [
            _Block(path, owner.get(at, 0), range(at, min(at + step, items)))
            for at, path in paths.items()
            if at >= start
        ]

    def say_failed(self, error: BaseException) -> None:
        """Let the others know why nothing more will come of this worker."""
        with suppress(OSError, ConvolveError):
            if self._folder.name:
                self._say("failed", f"{error}" or type(error).__name__)

    def finish(self) -> None:
        """Remove what was kept, once nobody needs it any more."""
        if not self._folder.name:
            return
        self._stop()  # nothing is written into a folder that worker 0 removes
        self._say("done", "")
        if self.rank == 0:
            with suppress(ConvolveError):
                for rank in range(1, self.size):
                    self._hear("done", rank, SILENCE_SECONDS)
            with suppress(OSError):  # somebody else's files lie there, too
                sweep(self._folder)
                for path in filter(lambda path: _OURS.fullmatch(path.name), self._folder.iterdir()):
                    path.unlink()
                self._folder.rmdir()

    def _say(self, what: str, text: str) -> None:
        with replacing(self._told(what, self.rank)) as temporary:
            temporary.write_text(text, "utf-8", "surrogateescape")

    def _hear(self, what: str, rank: int, seconds: float) -> str:
        path = self._told(what, rank)
        self._wait_for(path, rank, seconds, f"its {what}")
        return path.read_text("utf-8", "surrogateescape")

    def _told(self, what: str, rank: int) -> Path:
        return self._folder / f"{what}.{self._token}.{rank}"

    def _lock_of(self, rank: int) -> Path:
        return self._folder / f"worker{rank}.lock"

    def _wait_for(self, path: Path, rank: int, seconds: float, what: str) -> None:
        """Until worker `rank` has written `path`. Raises ConvolveError that says `what` is missing."""
        pause, longest = _PAUSES_SECONDS
        seen, limit = 0, time.monotonic() + seconds
        while not path.exists():
            self._require_no_failure()
            if (found := sum(1 for _ in self._folder.iterdir())) != seen:  # somebody still works
                seen, limit = found, time.monotonic() + seconds
            is_gone, silent = self._is_gone(rank), self._silent_seconds(rank, pause)
            if (is_gone or silent > LOST_SECONDS or time.monotonic() > limit) and not path.exists():
                silent = silent if silent > LOST_SECONDS else seconds
                why = "has ended" if is_gone else f"has not answered for {silent:.0f} s on {self._hosts[rank]}"
                raise ConvolveError(
                    f"worker {rank} of {self.size} {why}, and its part is missing ({what}); {_AGAIN}. "
                    f"All workers must see {self._folder}"
                )
            time.sleep(pause)
            pause = min(1.5 * pause, longest)

    def _beat(self) -> None:
        """Count in a file that this worker is alive, until it has finished."""
        for count in itertools.count():
            with suppress(OSError):  # a full disk is met where it matters
                self._told("alive", self.rank).write_text(f"{count}")
            if self._is_over.wait(BEAT_SECONDS):
                return

    def _stop(self) -> None:
        """Count no more."""
        self._is_over.set()
        if self._beating.is_alive():
            self._beating.join()

    def _silent_seconds(self, rank: int, pause: float) -> float:
        """How long a worker that has begun says nothing, in pauses of this one: if all are stopped, nobody is lost."""
        try:
            said = self._told("alive", rank).read_text()
        except OSError:
            return 0.0
        before, silent = self._heard.get(rank, ("", 0.0))
        self._heard[rank] = said, (silent + pause if said == before else 0.0)
        return self._heard[rank][1]

    def _require_no_failure(self) -> None:
        for path in self._folder.glob(f"failed.{self._token}.*"):
            rank = path.suffix.removeprefix(".")
            if rank != str(self.rank):
                told = path.read_text("utf-8", "surrogateescape")
                raise ConvolveError(f"worker {rank} of {self.size} has failed ({told}); {_AGAIN}")

    def _is_gone(self, rank: int) -> bool:
        """Whether a worker of this host has ended: nobody holds its lock. Of other hosts only their silence tells."""
        is_near = rank != self.rank and self._hosts[rank] == self._hosts[self.rank]
        if not (is_near and self._told("question", rank).exists()):  # which it says locked
            return False
        with suppress(OSError):
            return is_locked(self._lock_of(rank)) is False
        return False


def _folder_of(beside: Path | None) -> Path:
    """Where this command's results are kept: the same folder for the same command."""
    if beside:
        return beside.absolute().with_name(f"{beside.name}.parts")
    command = "\0".join([str(Path.cwd()), *sys.argv[1:]])
    return cache_folder("parts") / hashlib.sha256(os.fsencode(command)).hexdigest()[:32]


def _runs(blocks: list[_Block]) -> Iterator[list[_Block]]:
    """Blocks that follow each other are computed at a stretch."""
    run: list[_Block] = []
    for block in blocks:
        if run and run[-1].items.stop != block.items.start:
            yield run
            run = []
        run.append(block)
    if run:
        yield run


@contextmanager
def open_team(tell: Told = lambda what, done, count: None) -> Iterator[Team]:
    """The workers that a launcher has started with this one. Of all but worker 0 nobody sees what they print.

    `tell` hears of what all have done so far, at each block of worker 0.
    """
    own = rank_info(os.environ)
    if own.size == 1:
        yield ALONE
        return
    with ExitStack() as stack:
        store, infos = stack.enter_context(rendezvous(own, os.environ))
        if own.rank == 0:
            store.set("token", secrets.token_hex(4))
        store.wait(["token"], timedelta(seconds=PATIENCE_SECONDS))
        team = _Team(own, infos, store.get("token").decode(), tell, stack)
        if own.rank:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        try:
            yield team
        except BaseException as error:
            team.say_failed(error)
            raise
        team.finish()
