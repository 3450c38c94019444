"""Decode seeded damaged images: `python fuzz_images.py COUNT [SEED]`.

Every file must either decode or raise a `DataError` of one line that names it, quickly and in bounded memory. The
script exits with 0 and one line of counts, or fails with what went wrong; where a decoder crashes, `faulthandler`
says where.
"""

from __future__ import annotations

import faulthandler
import io
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

from convolve.errors import DataError
from convolve.formats.decode import MAX_PIXELS, Decoding, decode_image

SECONDS_A_FILE = 20  # of processor time, which a loaded machine leaves as it is: 67 million pixels
MEMORY_BYTES = 1 << 30  # MAX_PIXELS in blue, green, red and the decoder's own copies
Damage = Callable[[bytes, np.random.Generator], bytes]


def encode(form: str, picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def heic(picture: Image.Image) -> bytes:
    try:
        import pillow_heif
    except ImportError:
        return encode("PNG", picture)
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file)
    return file.getvalue()


def whole_files() -> list[bytes]:
    """One image of every kind and variant that people have."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((64, 48))
    wide = Image.fromarray(rng.integers(0, 65536, (48, 64), dtype=np.uint16))
    frames = [Image.fromarray(np.roll(np.asarray(noise), 8 * k, axis=1)) for k in range(4)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 50}
    _, wide_color_png = cv2.imencode(".png", rng.integers(0, 65536, (48, 64, 3), dtype=np.uint16))
    return [
        encode("JPEG", noise),
        encode("JPEG", noise, progressive=True),
        encode("JPEG", noise, restart_marker_blocks=2),
        encode("JPEG", noise.convert("CMYK")),
        encode("JPEG", noise.convert("L")),
        encode("PNG", noise),
        encode("PNG", wide),
        wide_color_png.tobytes(),
        encode("PNG", noise.convert("RGBA")),
        encode("PNG", noise.quantize(16)),
        encode("PNG", frames[0], **animated),
        encode("BMP", noise),
        encode("BMP", noise.quantize(16)),
        encode("GIF", noise),
        encode("GIF", frames[0], **animated),
        encode("WEBP", noise),
        encode("WEBP", noise, lossless=True),
        encode("WEBP", frames[0], **animated),
        encode("TIFF", noise),
        encode("TIFF", noise, compression="tiff_lzw"),
        encode("TIFF", noise, compression="jpeg"),
        encode("TIFF", noise.convert("CMYK")),
        encode("TIFF", noise.convert("1"), compression="group4"),
        encode("TIFF", wide),
        encode("PPM", noise),
        encode("PPM", noise.convert("1")),
        encode("JPEG2000", noise),
        encode("JPEG2000", noise, no_jp2=True),
        encode("AVIF", noise),
        encode("AVIF", noise.convert("RGBA")),
        encode("AVIF", frames[0], **animated),
        heic(noise),
    ]


def truncated(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(1, len(content))]


def zero_tail(content: bytes, rng: np.random.Generator) -> bytes:
    left = int(rng.integers(1, len(content)))
    return content[:left] + bytes(len(content) - left)


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(len(content), size=rng.integers(1, 9)):
        damaged[place] ^= 1 << rng.integers(8)
    return bytes(damaged)


def header_noise(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(min(len(content), 64), size=rng.integers(1, 5)):
        damaged[place] = rng.integers(256)
    return bytes(damaged)


def huge(content: bytes, rng: np.random.Generator) -> bytes:
    """The width and height of the header replaced, with the checksum that PNG wants."""
    width, height = (int(side) for side in rng.choice([0, 1, 8191, 8193, 30000, 65500, 65535], size=2))
    for form in (">HH", "<HH", ">II", "<II"):
        for sides in ((48, 64), (64, 48)):
            content = content.replace(struct.pack(form, *sides), struct.pack(form, height, width), 1)
    content = content.replace(b"64 48", f"{width} {height}".encode(), 1)
    if content.startswith(b"\x89PNG"):
        content = content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]
    return content


def wrong_type(content: bytes, rng: np.random.Generator) -> bytes:
    beginnings = [
        b"",
        b"\0",
        b"hello\n",
        b"<html>",
        b"%PDF-1.4",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"GIF89a",
        b"P6 9",
    ]
    beginning = beginnings[rng.integers(len(beginnings))]
    return beginning + (content[rng.integers(64) :] if rng.random() < 0.5 else rng.bytes(int(rng.integers(200))))


def spliced(content: bytes, rng: np.random.Generator) -> bytes:
    start, end, target = (int(place) for place in rng.integers(len(content), size=3))
    return content[:target] + content[min(start, end) : max(start, end)] + content[target:]


def nothing(content: bytes, rng: np.random.Generator) -> bytes:
    return content if rng.random() < 0.8 else b""


DAMAGES: list[Damage] = [truncated, zero_tail, flipped, header_noise, huge, wrong_type, spliced, nothing]


def damaged_files(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(seed)
    files = whole_files()
    for index in range(count):
        damage = DAMAGES[index % len(DAMAGES)]
        yield f"{index}-{damage.__name__}.img", damage(files[rng.integers(len(files))], rng)


def outcome(name: str, content: bytes) -> str:
    """ "decoded" or "refused"; anything else that happens is a failure."""
    started = time.process_time()
    try:
        image_HWC = decode_image(content, name, Decoding(gray=len(content) % 2 == 0))
    except DataError as error:
        assert str(error).startswith(f"{name}: "), f"{name}: not named in {str(error)!r}"
        assert "\n" not in str(error), f"{name}: more than one line: {str(error)!r}"
        return "refused"
    finally:
        assert time.process_time() - started < SECONDS_A_FILE, f"{name}: took too long"
    assert image_HWC.dtype == np.uint8, name
    assert image_HWC.ndim == 3, name
    assert 0 < image_HWC.size <= 3 * MAX_PIXELS, name
    return "decoded"


def main(count: int, seed: int = 0) -> None:
    faulthandler.enable()
    cv2.setNumThreads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    counts = Counter(outcome(name, content) for name, content in damaged_files(count, seed))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown < MEMORY_BYTES, f"memory grew by {grown >> 20} MB"
    assert min(counts["decoded"], counts["refused"]) >= count // 10, f"a fuzz that tests nothing: {counts}"
    print(f"{count} files: {counts['decoded']} decoded, {counts['refused']} refused by name; at most {grown >> 20} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
