"""Data sets at the service: uploaded by people, fetched by workers."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from trimtab.client.packing import Packed, pack
from trimtab.client.wire import Wire
from trimtab.contract.uploads import DatasetUpload, UploadedDataset, UploadedDatasets


class DatasetVerbs:
    """The verbs of data sets that are uploaded."""

    _wire: Wire

    def upload_dataset(self, path: str | Path, name: str) -> UploadedDataset:
        """Upload a file, or a folder as a tar file, and let a name stand for it; what is there already is not sent again.

        Raises:
            OSError: It cannot be read or packed.
            problems.Sha256Mismatch: A file has changed while it was sent.
        """
        packed = pack(Path(path))
        self._send(packed)
        response = self._wire.send("PUT", _of(name), DatasetUpload(sha256=packed.sha256))
        return self._wire.parse(UploadedDataset, response)

    def datasets(self) -> UploadedDatasets:
        """Return the data sets that were uploaded, by their names."""
        return self._wire.parse(UploadedDatasets, self._wire.send("GET", "/v1/datasets"))

    def forget_dataset(self, name: str) -> None:
        """Delete a data set's name; studies that need its bytes keep them."""
        self._wire.send("DELETE", _of(name))

    @contextmanager
    def open_artifact(self, sha256: str) -> Generator[Iterator[bytes]]:
        """Open the bytes of this sha256 to read them as they come; they are not compared with it."""
        with self._wire.stream(f"/v1/artifacts/{sha256}", {}) as response:
            yield self._read(response.iter_bytes())

    def _read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        with self._wire.named_errors():
            yield from chunks

    def _send(self, packed: Packed) -> None:
        headers = {
            "Content-Length": str(packed.size),
            "Content-Type": "application/octet-stream",
        }
        address = f"/v1/artifacts/{packed.sha256}"
        self._wire.retry(lambda: self._wire.put(address, packed.chunks(), headers))


def _of(name: str) -> str:
    return f"/v1/datasets/{quote(name, safe='')}"
