"""An upload on its way to pixels, and what it may cost: so much that nobody else has to go without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from starlette.exceptions import HTTPException
from starlette.requests import Request

from convolve.formats.decode import MAX_PIXELS, decode_image, without_color
from convolve.serve.batching import Prepared
from convolve.transforms.preprocess import Preprocess, fit_image


@dataclass(frozen=True)
class Limits:
    """`held_bytes`: of all uploads under way together; who does not fit in waits for a turn."""

    upload_bytes: int = 32 << 20  # a photograph of 60 megapixels
    pixels: int = MAX_PIXELS
    held_bytes: int = 256 << 20
    upload_seconds: float = 30.0
    answer_seconds: float = 60.0


class Budget:
    """Bytes that may be held at the same time."""

    def __init__(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free, and hold them."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._free_bytes >= size)
            self._free_bytes -= size
        try:
            yield
        finally:
            async with self._changed:
                self._free_bytes += size
                self._changed.notify_all()


def upload_size(request: Request, limits: Limits) -> int:
    """Bytes that the request says it will send. Raises HTTPException where it says none, or too many."""
    declared = request.headers.get("content-length")
    if declared is None:
        raise HTTPException(411, "say how long the image is, with the header Content-Length")
    size = int(declared)  # digits: the protocol has seen to that
    if size > limits.upload_bytes:
        raise HTTPException(413, f"the upload has {size:,} bytes, more than the limit of {limits.upload_bytes:,}")
    if size == 0:
        raise HTTPException(400, "the upload is empty; send an image as the body of the request")
    return size


async def read_upload(request: Request, limits: Limits) -> bytes:
    """The body of a request of permitted size. Raises HTTPException where it does not arrive in time."""
    try:
        async with asyncio.timeout(limits.upload_seconds):
            return await request.body()
    except TimeoutError:
        late = f"the upload took longer than {limits.upload_seconds:g} s"
        raise HTTPException(408, late, {"Connection": "close"}) from None


def fitted_image(encoded: bytes, preprocess: Preprocess, limits: Limits) -> Prepared:
    """An encoded image as `convolve predict` makes it.

    Raises FormatError for what is no image, DataError for one that is too large or too narrow.
    """
    decoding = replace(preprocess.decoding(limits.pixels), gray=False)
    image_HWC = decode_image(encoded, "the image", decoding)
    return Prepared(*fit_image(without_color(image_HWC), preprocess))
