"""The handwritten digits that come with scikit-learn."""

import hashlib
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.data.images.picture_files import ImageHeader
from worker.data.source import Sample


class Digits:
    """1,797 grey digits of 8 x 8 pixels (Alpaydin and Kaynak, UCI, 1998); their 0 to 16 become 0 to 255."""

    classes: tuple[str, ...] = tuple("0123456789")

    @property
    def fingerprint(self) -> str:
        """The release of scikit-learn: its data files do not change within one."""
        return f"digits of scikit-learn {metadata.version('scikit-learn')}"

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every digit, named after its position."""
        _, labels = self._arrays
        return tuple(
            Sample(Path(f"digits/{row:04}"), int(label)) for row, label in enumerate(labels)
        )

    def locate(self, sample: Sample) -> Path:
        """Return the made-up name; these pictures are never broken."""
        return sample.path

    def digest(self, sample: Sample) -> str:
        """Return the sha256 of the 64 bytes."""
        return hashlib.sha256(self._pixels(sample).tobytes()).hexdigest()

    def header(self, sample: Sample) -> ImageHeader:
        """Return size and kind."""
        height, width = self._pixels(sample).shape
        return ImageHeader(width, height, grey=True)

    def read(self, sample: Sample) -> Image.Image:
        """Return the picture."""
        return Image.fromarray(self._pixels(sample))

    def _pixels(self, sample: Sample) -> NDArray[np.uint8]:
        images, _ = self._arrays
        return images[int(sample.path.name)]

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        # Imported here because scikit-learn costs seconds, and a filled cache does not need it.
        from sklearn import datasets

        bunch = cast(Any, datasets.load_digits())
        return np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(
            np.int64
        )
