"""Routes of data sets that people upload."""

from typing import Annotated

from fastapi import APIRouter, Path

from service.api.bodies import JsonRoute
from service.api.dependencies import ServiceContext
from service.use_cases import datasets
from trimtab.contract.message import Name
from trimtab.contract.uploads import DatasetUpload, UploadedDataset, UploadedDatasets

router = APIRouter(prefix="/v1/datasets", route_class=JsonRoute, tags=["datasets"])

DatasetName = Annotated[Name, Path(alias="dataset")]


@router.get("")
def list_datasets(context: ServiceContext) -> UploadedDatasets:
    """Data sets that were uploaded, by their names."""
    return datasets.listed(context)


@router.put("/{dataset}")
def name_dataset(
    name: DatasetName, upload: DatasetUpload, context: ServiceContext
) -> UploadedDataset:
    """Let a name stand for uploaded bytes; studies that were created before keep what it stood for."""
    return datasets.name(context, name, upload)


@router.delete("/{dataset}", status_code=204)
def forget_dataset(name: DatasetName, context: ServiceContext) -> None:
    """Delete a name; its bytes stay for as long as a study needs them."""
    datasets.forget(context, name)
