"""Submit a study, follow it, take the winner's model: `python examples/from_python.py` while `trimtab up` runs."""

from pathlib import Path

import yaml

from trimtab import Client
from trimtab.contract.studies import StudyDocument


def main() -> None:
    """Run the study of examples/digits.yaml."""
    text = Path(__file__).with_name("digits.yaml").read_text()
    document = StudyDocument.model_validate(yaml.safe_load(text))
    with Client() as client:  # TRIMTAB_SERVER and TRIMTAB_TOKEN, else http://127.0.0.1:8000
        study = client.create_study(document)
        for event in client.events(study.name):
            print(event.kind, "" if event.trial_number is None else event.trial_number)  # noqa: T201
        best = client.best(study.name)
        model = client.download_model(study.name, f"{study.name}.safetensors")
    print(best.trial, best.final, model, sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
