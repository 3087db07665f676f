"""The teacher that a study names: settled once, when the study is created."""

from sqlalchemy import Connection

from service.storage import artifacts, studies
from trimtab.contract.final_report import FinalScores
from trimtab.contract.problems import StudyNotFound, TeacherNotReady
from trimtab.contract.studies import StudyDocument
from trimtab.contract.teachers import Artifact, StudyTeacher


def settled(connection: Connection, document: StudyDocument) -> StudyDocument:
    """Fill in which model teaches, so that every trial has the same one, whatever becomes of its study.

    Raises:
        StudyNotFound: there is no study of the teacher's name.
        TeacherNotReady: it has no model, or another one than the document insists on.
    """
    teacher = document.teacher
    if not isinstance(teacher, StudyTeacher):
        return document
    model = _model(connection, teacher.name)
    if teacher.model not in (None, model):
        raise TeacherNotReady(
            f"The model of {teacher.name!r} is {model.sha256}, and not the one that `teacher.model` insists on; "
            "leave that out to take this one."
        )
    settled = teacher.model_copy(update={"model": model})
    return document.model_copy(update={"teacher": settled})


def _model(connection: Connection, name: str) -> Artifact:
    row = studies.by_name(connection, name)
    if row is None:
        raise StudyNotFound(f"There is no study named {name!r} that could be the teacher.")
    if row.final is None:
        reason = row.problem or f"it is {row.state}."
        raise TeacherNotReady(f"The teacher, the study {name!r}, has no model: {reason}")
    sha256 = FinalScores.model_validate(row.final).model_sha256
    return Artifact(sha256=sha256, bytes=artifacts.size(connection, sha256))
