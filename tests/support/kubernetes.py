"""The files of deploy/kubernetes as an engine sees them: built by kustomize, then checked against closed schemas."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jsonschema
import kubernetes_validate
import yaml

REPOSITORY = Path(__file__).parents[2]
SHIPPED = REPOSITORY / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")
KEDA = json.loads(Path(__file__).with_name("keda_schema.json").read_text())
SECRETS = {
    "token.env": "TRIMTAB_TOKEN=0123456789abcdef0123456789abcdef\n",
    "database.env": "TRIMTAB_DATABASE_URL=postgresql+psycopg2://owner:secret@db:5432/trimtab\n",
}

Document = dict[str, Any]


class Refused(Exception):
    """An engine does not take the files; says which, where in them, and why."""


def copy(folder: Path) -> Path:
    """Copy the files into a folder, with the secrets that a person would write beside them; returns where they are."""
    files = folder / "kubernetes"
    shutil.copytree(SHIPPED, files, ignore=shutil.ignore_patterns("*.env"))
    for name, text in SECRETS.items():
        (files / "base" / name).write_text(text)
    return files


def build(folder: Path) -> list[Document]:
    """Build a folder with kustomize, offline.

    Raises:
        Refused: kustomize does not take it.
    """
    answer = subprocess.run(
        [str(KUBECTL), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0 or answer.stderr:
        raise Refused(f"kustomize: {answer.stderr.strip()}")
    return list(yaml.safe_load_all(answer.stdout))


def check(documents: Sequence[Document], version: str) -> None:
    """See that a cluster of this version, with KEDA, takes the documents, and knows each of their fields.

    Raises:
        Refused: it does not.
    """
    faults = [fault for document in documents for fault in _faults(document, version)]
    if faults:
        raise Refused("\n".join(faults))


def _faults(document: Document, version: str) -> Iterator[str]:
    if document["apiVersion"].startswith("keda.sh/"):
        schema = {"$ref": f"#/$defs/{document['kind']}", "$defs": KEDA["$defs"]}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
            yield _words(document, error)
    for kind in _as_kubernetes_sees_it(document):
        try:
            kubernetes_validate.validate(kind, version, strict=True)
        except jsonschema.ValidationError as error:
            yield _words(document, error)


def _as_kubernetes_sees_it(document: Document) -> Iterator[Document]:
    if document["kind"] == "ScaledJob":
        yield {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": document["metadata"]["name"]},
            "spec": document["spec"]["jobTargetRef"],
        }
    elif not document["apiVersion"].startswith("keda.sh/"):
        yield document


def _words(document: Document, error: jsonschema.ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    return f"{document['kind']} {document['metadata']['name']}: {where}: {error.message}"


def one(documents: Sequence[Document], kind: str, name: str | None = None) -> Document:
    """Return the one document of a kind; where there are several, the one whose name begins so."""
    (found,) = [
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"].startswith(name or "")
    ]
    return found


def pods(documents: Sequence[Document]) -> dict[str, Document]:
    """Return the pods' specs that documents would start, by `service` and `worker`."""
    service = one(documents, "Deployment")["spec"]["template"]["spec"]
    worker = one(documents, "ScaledJob")["spec"]["jobTargetRef"]["template"]["spec"]
    return {"service": service, "worker": worker}


def references(node: object) -> Iterator[tuple[str, str]]:
    """Find the names by which a document speaks of others, with the kinds of those."""
    if isinstance(node, list):
        for each in cast(list[Any], node):
            yield from references(each)
    if not isinstance(node, dict):
        return
    for key, value in cast(Document, node).items():
        match key:
            case "secretRef":
                yield "Secret", value["name"]
            case "configMapRef":
                yield "ConfigMap", value["name"]
            case "persistentVolumeClaim":
                yield "PersistentVolumeClaim", value["claimName"]
            case "authenticationRef":
                yield "TriggerAuthentication", value["name"]
            case "secretTargetRef":
                yield from (("Secret", each["name"]) for each in value)
            case _:
                yield from references(value)
