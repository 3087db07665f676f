"""Files and folders in buckets, by fsspec's libraries: s3:// by s3fs, gs:// by gcsfs.

A folder is read as the tar file of its objects, in the order of their names: its bytes follow from what is listed, so that
an earlier try is gone on with as that of any file is.
"""

import hashlib
import importlib
import tarfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from worker.fetching.errors import ExtraMissing, FetchError, NoRights, NotThere, Unanswered
from worker.fetching.transfers import Opened, Part, Version

_RANGE_BYTES = 8 << 20
_BATCH, _BATCH_BYTES = 128, 16 << 20
"""So many small objects are asked for at a time: one after the other, they would mostly wait."""
_BLOCK = 512
_LIBRARIES = {"s3": ("s3fs", "S3FileSystem"), "gs": ("gcsfs", "GCSFileSystem")}


@dataclass(frozen=True, slots=True)
class _Object:
    """One object: its place in the bucket, its name in the folder, and its size and version as listed."""

    path: str
    name: str
    size: int
    version: str


class Buckets:
    """Fetches from buckets.

    Args:
        scheme: The scheme of their addresses.
    """

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme

    @contextmanager
    def opened(
        self, address: str, known: Version | None, part: Part | None
    ) -> Generator[Opened | None]:
        """Open an object, or all objects below a name; None where none of them has changed."""
        with _named(address):
            files, objects = self._look(address)
            version = _version_of(objects)
        if known == version:
            yield None
            return
        offset = part.bytes if part is not None and part.version == version else 0
        yield Opened(version, offset, _chunks(address, files, objects, offset))

    def _look(self, address: str) -> tuple[Any, Sequence[_Object]]:
        path = _path(address)
        files = self._files(address)
        try:
            return files, _listed(address, files, path)
        except Exception as error:
            if type(error).__name__ != "NoCredentialsError":
                raise
        # Without any credentials, what is open to everybody is still to be had.
        files = self._files(address, anon=True)
        return files, _listed(address, files, path)

    def _files(self, address: str, **options: Any) -> Any:
        module, name = _LIBRARIES[self._scheme]
        try:
            library = importlib.import_module(module)
        except ImportError as error:
            raise ExtraMissing(address, module, self._scheme) from error
        return getattr(library, name)(
            skip_instance_cache=True, use_listings_cache=False, **options
        )


def _path(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.netloc}{parts.path}".rstrip("/")


def _listed(address: str, files: Any, path: str) -> Sequence[_Object]:
    info: Mapping[str, Any] = files.info(path)
    if info["type"] == "file":
        return [_object(info, "")]
    found: Mapping[str, Mapping[str, Any]] = files.find(path, detail=True)
    objects = [
        _object(each, name.removeprefix(path).lstrip("/"))
        for name, each in sorted(found.items())
        # Some tools make an empty object for each folder.
        if each["type"] == "file" and not name.endswith("/")
    ]
    if not objects:
        raise NotThere(address, "there is no object below this name")
    return objects


def _object(info: Mapping[str, Any], name: str) -> _Object:
    version = info.get("ETag") or info.get("etag") or info.get("md5Hash") or ""
    return _Object(str(info["name"]), name, int(info["size"]), str(version))


def _version_of(objects: Sequence[_Object]) -> Version:
    if not objects[0].name:
        return Version(etag=objects[0].version or None, bytes=objects[0].size)
    told = "\n".join(f"{each.name} {each.size} {each.version}" for each in objects)
    size = sum(len(piece) for each in objects for piece in _around(each))
    return Version(
        etag=hashlib.sha256(told.encode()).hexdigest(),
        bytes=size + sum(each.size for each in objects) + len(_END),
    )


_END = bytes(2 * _BLOCK)


def _around(each: _Object) -> tuple[bytes, bytes]:
    """Return what stands before and behind an object in a tar file."""
    member = tarfile.TarInfo(each.name)
    member.size = each.size
    header = member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header, bytes(-each.size % _BLOCK)


def _chunks(
    address: str, files: Any, objects: Sequence[_Object], offset: int
) -> Iterator[bytes]:
    """Yield the bytes of an object, or of the tar file of several, from an offset on."""
    with _named(address):
        if not objects[0].name:
            yield from _content(address, files, objects[0], offset)
            return
        for batch in _batches(objects):
            size = sum(each.size + sum(map(len, _around(each))) for each in batch)
            if offset < size:
                yield from _skipped(_tar(address, files, batch, offset), offset)
            offset = max(0, offset - size)
        yield _END[offset:]


def _batches(objects: Sequence[_Object]) -> Iterator[list[_Object]]:
    batch: list[_Object] = []
    for each in objects:
        if batch and (
            len(batch) == _BATCH or sum(one.size for one in (*batch, each)) > _BATCH_BYTES
        ):
            yield batch
            batch = []
        batch.append(each)
    yield batch


def _tar(address: str, files: Any, batch: Sequence[_Object], offset: int) -> Iterator[bytes]:
    if len(batch) == 1:
        (each,) = batch
        header, padding = _around(each)
        # A large object is not read from its beginning once more: what it has before the offset is only counted.
        known = min(each.size, max(0, offset - len(header)))
        yield header
        yield bytes(known)
        yield from _content(address, files, each, known)
        yield padding
        return
    contents: Mapping[str, bytes] = files.cat([each.path for each in batch])
    for each in batch:
        header, padding = _around(each)
        yield header + _whole(address, each, contents[each.path]) + padding


def _content(address: str, files: Any, each: _Object, offset: int) -> Iterator[bytes]:
    for start in range(offset, each.size, _RANGE_BYTES):
        end = min(each.size, start + _RANGE_BYTES)
        piece: bytes = files.cat_file(each.path, start=start, end=end)
        if len(piece) != end - start:
            raise _changed(address, each)
        yield piece


def _whole(address: str, each: _Object, content: bytes) -> bytes:
    if len(content) != each.size:
        raise _changed(address, each)
    return content


def _changed(address: str, each: _Object) -> FetchError:
    return Unanswered(address, f"{each.path} has changed since it was listed")


def _skipped(pieces: Iterator[bytes], offset: int) -> Iterator[bytes]:
    for piece in pieces:
        if offset < len(piece):
            yield piece[offset:]
        offset = max(0, offset - len(piece))


@contextmanager
def _named(address: str) -> Generator[None]:
    """Raise what a library meets as `FetchError`; its own classes are known by their names, since it may not be there."""
    try:
        yield
    except FetchError:
        raise
    except FileNotFoundError as error:
        bucket = urlsplit(address).netloc
        lacks = (
            f"there is no bucket {bucket}" if _no_bucket(error) else "there is no such object"
        )
        raise NotThere(address, lacks) from error
    except PermissionError as error:
        raise NoRights(address, str(error) or "403") from error
    except (OSError, TimeoutError) as error:
        # How gcsfs tells of rights that are missing.
        if str(error).startswith("Forbidden"):
            raise NoRights(address, str(error).strip()) from error
        raise Unanswered(address, str(error) or type(error).__name__) from error
    except Exception as error:
        raise _of_library(address, error) from error


def _no_bucket(error: BaseException) -> bool:
    return "bucket does not exist" in str(error) or "NoSuchBucket" in str(error)


def _of_library(address: str, error: Exception) -> Exception:
    name, words = type(error).__name__, str(error)
    if getattr(error, "code", None) in (401, 403):
        return NoRights(address, words)
    if (
        name in ("NoCredentialsError", "PartialCredentialsError", "RefreshError")
        or "403" in words
    ):
        return NoRights(address, words)
    if name in ("ParamValidationError", "InvalidBucketName"):
        return NotThere(address, words)
    if type(error).__module__.split(".")[0] in ("botocore", "aiohttp", "gcsfs", "google"):
        return Unanswered(address, words or name)
    return error
