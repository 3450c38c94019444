"""The content of a request: a plain image, or one or several in a form, in JSON or in a zip."""

import base64
import json
import zipfile
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from convolve.errors import FormatError, legible
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip

MOST_PARTS = 1000  # images in one request: what they cost beside their bytes stays small
FIELD = "image"  # of a form
_ZIPS = (b"PK\3\4", b"PK\5\6")  # how a zip begins; the second is an empty one


class Part(NamedTuple):
    """An image file in a request. `read` gives its bytes, in the thread that decodes it."""

    name: str
    read: Callable[[], bytes]


class Parts(NamedTuple):
    """`is_list`: the request can contain several images, so its answer is a list even for one."""

    images: list[Part]
    is_list: bool


async def parts_of(headers: Headers, body: bytes, limit_bytes: int) -> Parts:
    """The images in `body`; its zips unpack to at most `limit_bytes`. Raises HTTPException."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "a body with a Content-Encoding is not supported; send it unencoded, or as a zip")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await _form(headers, body)
    elif kind == "application/json":
        found = _json(body)
    else:
        found = Parts([Part("the image", lambda: body)], False)
    return _unpacked(found, limit_bytes)


# -- forms -------------------------------------------------------------------------------------------------------------


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62  # uploads are never written to disk


async def _form(headers: Headers, body: bytes) -> Parts:
    try:
        form = await _InMemory(headers, _once(body), max_files=MOST_PARTS, max_fields=MOST_PARTS).parse()
    except (MultiPartException, FormParserError) as error:
        status = 413 if "maximum" in str(error).lower() else 400
        raise HTTPException(status, f"the form cannot be read: {error}") from None
    for field, value in form.multi_items():
        if field != FIELD:
            raise HTTPException(
                400, f"the form has a field {legible(field)!r}; images go into {FIELD!r}, all else into the address"
            )
        if not isinstance(value, UploadFile):
            raise HTTPException(400, f"the field {FIELD!r} holds text; send a file, as curl -F {FIELD}=@photo.jpg does")
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise HTTPException(400, f"the form is empty; send a file, as curl -F {FIELD}=@photo.jpg does")
    return Parts([Part(file.filename or "the image", partial(_whole, file.file)) for file in files], len(files) > 1)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


# -- JSON --------------------------------------------------------------------------------------------------------------


def read_json(text: bytes) -> dict[str, Any]:
    """An object in JSON. Raises HTTPException."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the JSON cannot be read: {error}") from None
    if not isinstance(said, dict):
        raise HTTPException(400, "the JSON must be an object")
    return said


def _json(body: bytes) -> Parts:
    said = read_json(body)
    if list(said) not in (["image"], ["images"]):
        raise HTTPException(400, 'the JSON must be {"image": BASE64} or {"images": [BASE64, ...]}')
    is_list = "images" in said
    texts = said["images"] if is_list else [said["image"]]
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
        raise HTTPException(400, "images in JSON are files in base64, each a string")
    names = [f"images[{number}]" for number in range(len(texts))] if is_list else ["image"]
    return Parts([Part(*named) for named in zip(names, map(in_base64, names, texts), strict=True)], is_list)


def in_base64(name: str, text: str) -> Callable[[], bytes]:
    """What reads a file in base64, which may be a data URI."""

    def read() -> bytes:
        try:
            encoded = text.partition(",")[2] if text.startswith("data:") else text
            return base64.b64decode("".join(encoded.split()), validate=True)
        except ValueError:
            raise FormatError(name, "", "is not base64") from None

    return read


# -- zips --------------------------------------------------------------------------------------------------------------


def _unpacked(found: Parts, limit_bytes: int) -> Parts:
    """Each zip replaced by the files in it."""
    images: list[Part] = []
    is_list = found.is_list
    for part in found.images:
        try:
            content = part.read()
        except FormatError:  # base64 that is none: said where the image is asked about
            images.append(part)
            continue
        if content.startswith(_ZIPS):
            images, is_list = [*images, *_members(part.name, content, limit_bytes)], True
        else:
            images.append(Part(part.name, partial(bytes, content)))
        if len(images) > MOST_PARTS:
            raise HTTPException(413, f"more than {MOST_PARTS:,} images in one request")
    return Parts(images, is_list)


def _members(name: str, content: bytes, limit_bytes: int) -> Iterator[Part]:
    if content.count(b"PK\1\2") > MOST_PARTS:  # before Python makes an object of each
        raise HTTPException(413, f"{name}: more than {MOST_PARTS:,} files in the zip")
    try:
        archive = Zip(BytesIO(content))
    except ZIP_DAMAGE as error:
        raise FormatError(name, "", f"a damaged zip ({error}); pack it again") from None
    members = [member for member in archive.infolist() if not (member.is_dir() or _is_hidden(member.filename))]
    if (size := sum(member.file_size for member in members)) > limit_bytes:
        raise HTTPException(413, f"{name}: {size:,} bytes when unpacked, and the limit is {limit_bytes:,}")
    if not members:
        raise FormatError(name, "", "the zip holds no images")
    for member in members:
        if _head(archive, member).startswith(_ZIPS):
            raise FormatError(name, legible(member.filename), "a zip inside a zip is not supported; send its images")
        yield Part(member.filename, partial(_read, archive, member, member.file_size))


def _is_hidden(name: str) -> bool:
    """What macOS and editors leave in a zip beside the files."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _head(archive: Zip, member: zipfile.ZipInfo) -> bytes:
    try:
        return _read(archive, member, 4)
    except FormatError:  # said where the image is asked about
        return b""


def _read(archive: Zip, member: zipfile.ZipInfo, size: int) -> bytes:
    """The first `size` bytes: no more are unpacked, whatever size the member claims."""
    name = legible(member.filename)
    try:
        with archive.open(member) as file:
            return file.read(size)
    except ZIP_DAMAGE as error:  # RuntimeError: encrypted
        raise FormatError(name, "", f"cannot be unpacked ({error}); pack the zip again") from None
