"""Data sets that people upload to the service, for workers to fetch: a name for bytes that are there."""

from datetime import datetime

from trimtab.contract.message import Message, Name, Sha256


class DatasetUpload(Message):
    """What a data set's name stands for from now on; its bytes must have been uploaded before."""

    sha256: Sha256


class UploadedDataset(Message):
    """A data set at the service. Studies name it `trimtab://NAME`, and keep what that stood for when they were created."""

    name: Name
    sha256: Sha256
    bytes: int
    uploaded_at: datetime


class UploadedDatasets(Message):
    """All of them, by their names."""

    datasets: tuple[UploadedDataset, ...]
