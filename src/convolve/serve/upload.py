"""An upload and its limits: no upload may take so much that others cannot be served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO

from starlette.exceptions import HTTPException
from starlette.requests import Request

from convolve.formats.decode import MAX_PIXELS, decode_image, without_color
from convolve.serve.batching import Prepared
from convolve.transforms.preprocess import Preprocess, fit_image


@dataclass(frozen=True)
class Limits:
    """`held_bytes`: what has arrived of all uploads under way; `upload_bytes` of them are kept for the oldest."""

    upload_bytes: int = 32 << 20  # a photograph of 60 megapixels
    pixels: int = MAX_PIXELS
    held_bytes: int = 256 << 20
    upload_seconds: float = 30.0
    answer_seconds: float = 60.0


class Uploads:
    """Reads the bodies of requests.

    All uploads in progress together stay within `Limits.held_bytes`. A body whose next bytes do not fit waits. The
    oldest always has room to finish, so that they never all wait.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held_bytes: dict[Request, int] = {}  # the oldest first
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """The body, which counts as held until the block ends.

        Raises HTTPException if it is empty, too long, or late.
        """
        self._check_size(int(request.headers.get("content-length", 0)))  # digits: the protocol has seen to that
        try:
            body = await self._read(request)
            if not body:
                raise HTTPException(400, "the upload is empty; send an image as the body of the request")
            yield body
        finally:
            self._held_bytes.pop(request, None)
            self._changed.set()

    async def _read(self, request: Request) -> bytes:
        body = BytesIO()
        try:
            async with asyncio.timeout(self._limits.upload_seconds) as deadline:
                async for part in request.stream():
                    self._check_size(body.tell() + len(part))
                    await self._hold(request, len(part), deadline)
                    body.write(part)
        except TimeoutError:
            late = f"the upload took longer than {self._limits.upload_seconds:g} s"
            raise HTTPException(408, late, {"Connection": "close"}) from None
        return body.getvalue()  # shares its memory

    def _check_size(self, size: int) -> None:
        if size > (limit := self._limits.upload_bytes):
            raise HTTPException(413, f"the upload has {size:,} bytes or more, and the limit is {limit:,}")

    async def _hold(self, request: Request, size: int, deadline: asyncio.Timeout) -> None:
        """Wait until `size` more bytes fit, and hold them; the upload's deadline moves by the waiting time."""
        left = (deadline.when() or 0) - (clock := asyncio.get_running_loop()).time()
        while not self._fits(request, size):
            deadline.reschedule(None)
            self._changed.clear()
            await self._changed.wait()
            deadline.reschedule(clock.time() + left)
        self._held_bytes[request] = self._held_bytes.get(request, 0) + size

    def _fits(self, request: Request, size: int) -> bool:
        held = self._held_bytes
        shared = self._limits.held_bytes - self._limits.upload_bytes  # the rest is the oldest's
        oldest = next(iter(held), request)
        return oldest is request or sum(held.values()) - held[oldest] + size <= shared


def fitted_image(encoded: bytes, preprocess: Preprocess, limits: Limits, name: str = "the image") -> Prepared:
    """An encoded image, called `name`, as `convolve predict` makes it.

    Raises FormatError for what is no image, DataError for one that is too large or too narrow.
    """
    decoding = replace(preprocess.decoding(limits.pixels), gray=False)
    image_HWC = decode_image(encoded, name, decoding)
    return Prepared(*fit_image(without_color(image_HWC), preprocess))
