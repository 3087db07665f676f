#!/usr/bin/env bash
# Pillow 12.0.0 (https://pypi.org/project/pillow/12.0.0/), PIL/PngImagePlugin.py, `chunk_tRNS`, and Image.convert.
#
# A grey PNG may name one grey that is transparent (chunk tRNS, PNG specification, 11.3.2.1), in the picture's own depth: 15 is
# white in a picture of 4 bits. Pillow scales the pixels to 8 bits when it decodes them, 15 to 255, but not that number. Converted
# to RGBA, the white pixels stay opaque, and what is transparent is what happens to be 15 of 255. The same picture with 8 bits
# is right.
#
# Seen (Python 3.11, Pillow 12.0.0): the alpha of a white pixel whose grey is named as transparent
#   4 bits: 255, 8 bits: 0
#
# Exits with 0 while this is so, and with 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==12.0.0
"$folder/venv/bin/python" - <<'PY'
import io
import struct
import zlib

from PIL import Image


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def alpha_of_white(bits: int) -> int:
    """A picture of two pixels, black and white, whose white is transparent."""
    white = 2**bits - 1
    row = bytes([white]) if bits == 4 else bytes([0, white])
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)),
            chunk(b"tRNS", struct.pack(">H", white)),
            chunk(b"IDAT", zlib.compress(b"\0" + row)),
            chunk(b"IEND", b""),
        ]
    )
    return Image.open(io.BytesIO(content)).convert("RGBA").getpixel((1, 0))[3]


few, many = alpha_of_white(4), alpha_of_white(8)
print(f"4 bits: {few}, 8 bits: {many}")
raise SystemExit(0 if (few, many) == (255, 0) else "this has changed")
PY
