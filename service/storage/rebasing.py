"""A study makes way for one that begins anew, in SQL."""

from sqlalchemy import Connection, text

from trimtab.contract.studies import StudyDocument


def rename(connection: Connection, study_id: int, document: StudyDocument) -> None:
    """Give a study the name of this document, which is its own under that name; the caller holds its row.

    Raises:
        IntegrityError: a study of this name exists.
    """
    connection.execute(
        text("""
            WITH optuna AS (UPDATE public.studies SET study_name = :name WHERE study_id = :study_id)
            UPDATE trimtab.studies SET name = :name, document = CAST(:document AS json) WHERE study_id = :study_id"""),
        {
            "study_id": study_id,
            "name": document.name,
            "document": document.model_dump_json(),
        },
    )
