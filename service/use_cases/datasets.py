"""Data sets that people have uploaded; and what the address of a study's data set comes to, settled when it is created."""

from typing import Any

from sqlalchemy import Connection, Row

from service.storage import artifacts, datasets
from service.use_cases.context import Context
from trimtab.contract.data_addresses import (
    UPLOADED,
    divided,
    fault_of,
    place_of,
    scheme_of,
    uploaded_as,
)
from trimtab.contract.problems import ArtifactNotFound, DatasetNotFound, FieldError, Invalid
from trimtab.contract.studies import StudyDocument
from trimtab.contract.tasks import Task
from trimtab.contract.uploads import DatasetUpload, UploadedDataset, UploadedDatasets


def name(context: Context, name: str, upload: DatasetUpload) -> UploadedDataset:
    """Let a name stand for uploaded bytes, whatever it stood for before: studies keep what they began with.

    Raises:
        ArtifactNotFound: these bytes were not uploaded.
    """
    with context.database.transaction() as connection:
        if artifacts.missing(connection, [upload.sha256]):
            raise ArtifactNotFound(f"Upload these artifacts first: {upload.sha256}")
        datasets.name(connection, name, upload.sha256)
        return _shape(datasets.listed(connection, name)[0])


def listed(context: Context) -> UploadedDatasets:
    """All data sets, by their names."""
    with context.database.statements() as connection:
        return UploadedDatasets(
            datasets=tuple(_shape(row) for row in datasets.listed(connection))
        )


def forget(context: Context, name: str) -> None:
    """Delete a name; the bytes stay for as long as a study needs them.

    Raises:
        DatasetNotFound: there is no data set of this name.
    """
    with context.database.statements() as connection:
        if not datasets.forget(connection, name):
            raise DatasetNotFound(f"There is no data set named {name!r}.")


def settled(connection: Connection, document: StudyDocument) -> StudyDocument:
    """Fill in the content that a data set's name stands for, so that every trial gets the same.

    Raises:
        Invalid: the data set's address is none that a worker could fetch from.
        DatasetNotFound, ArtifactNotFound: nothing was uploaded under it.
    """
    # Asked here and not where documents are parsed: one that was stored by an older release must stay readable.
    if not isinstance(document.task, Task):
        return document
    dataset = document.task.dataset
    address = place_of(dataset) or ""
    if fault := fault_of(dataset):
        pointer = f"/task/dataset/{'root' if 'root' in type(dataset).model_fields else 'path'}"
        raise Invalid(errors=[FieldError(pointer=pointer, code="address", message=fault)])
    if scheme_of(address) != UPLOADED:
        return document
    sha256, (_, inside) = _content(connection, address), divided(address)
    path = f"{UPLOADED}://{sha256}{'#' * bool(inside)}{inside}"
    task = document.task.model_copy(
        update={"dataset": dataset.model_copy(update={"path": path})}
    )
    return document.model_copy(update={"task": task})


def _content(connection: Connection, address: str) -> str:
    sha256 = uploaded_as(address)
    if sha256 is not None:
        if artifacts.missing(connection, [sha256]):
            raise ArtifactNotFound(f"Nothing was uploaded that has the sha256 {sha256}.")
        return sha256
    name = divided(address)[0].removeprefix(f"{UPLOADED}://")
    found = datasets.listed(connection, name)
    if not found:
        raise DatasetNotFound(
            f"There is no data set named {name!r} at this service: upload it with `trimtab data upload`, or look at "
            "`trimtab data list`."
        )
    # It is needed from now on, also where its name is deleted before this is stored.
    artifacts.missing(connection, [found[0].sha256])
    return found[0].sha256


def _shape(row: Row[Any]) -> UploadedDataset:
    return UploadedDataset(
        name=row.name, sha256=row.sha256, bytes=row.bytes, uploaded_at=row.uploaded_at
    )
