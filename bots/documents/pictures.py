"""Pictures, made fit for a model: one frame, upright, not larger than a model looks at, and without metadata
(a photo tells where it was taken).
"""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, ImageOps

from bots.documents.results import Read, Unreadable

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
LONGEST_SIDE_PX: Final = 1568
MOST_PIXELS: Final = 60_000_000
MOST_PNG_BYTES: Final = 1_500_000


def read(data: bytes) -> Read:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise Unreadable("too_large")
            is_photo = picture.format == "JPEG"
            return Read(image=_encoded(_plain(picture), is_photo=is_photo))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unreadable("too_large") from None
    except (OSError, ValueError, SyntaxError):
        raise Unreadable("broken") from None


def _plain(picture: Image.Image) -> Image.Image:
    """Upright, small, and on white where it is transparent."""
    upright = ImageOps.exif_transpose(picture)
    upright.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layered = upright.convert("RGBA")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")


def _encoded(picture: Image.Image, *, is_photo: bool) -> bytes:
    """PNG keeps the letters of a screenshot sharp; photos are a tenth as JPEG."""
    if not is_photo:
        png = _saved(picture, "PNG", optimize=True)
        if len(png) <= MOST_PNG_BYTES:
            return png
    return _saved(picture, "JPEG", quality=88)


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()
