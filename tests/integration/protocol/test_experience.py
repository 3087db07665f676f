"""Studies that are done move the priors of the next ones of their kind, in its document and nowhere else."""

from typing import Any

from service.use_cases import experience, studies
from tests.support.protocol import Service
from trimtab.contract.experience import KindPriors
from trimtab.contract.studies import StudyDocument

KNOWN = {"known_recipes": True, "transfer": "done_studies", "pruner": "none"}


def created(service: Service, name: str, **changes: Any) -> StudyDocument:
    given: dict[str, Any] = {"space": "auto", "search": KNOWN, "budget": {"trials": 9}}
    service.study(name, **(given | changes))
    return studies.read(service.context, name).document


def done(service: Service, name: str, *, best: float = 0.9, **changes: Any) -> None:
    """A study whose second trial wins."""
    created(service, name, **changes)
    for number in range(9):
        service.complete(service.lease(), best if number == 1 else 0.3)
    service.complete_final(service.lease(), best)


def small(service: Service) -> KindPriors:
    return experience.priors(service.context).kinds[0]


def centre(document: StudyDocument) -> Any:
    return document.space["learning_rate"].prior


def recipes(document: StudyDocument) -> list[str]:
    return [one.proposed_by.partition(":")[2] for one in document.starts or ()]


def test_three_studies_move_the_centre_and_the_order_and_fewer_do_not(service: Service) -> None:
    for number in range(2):
        done(service, f"done-{number}")
    two = created(service, "two", priority=1)
    assert (centre(two), recipes(two)[0]) == (2e-3, "warm_cosine")
    done(service, "done-2")
    three = created(service, "three", priority=1)
    # The second known recipe of small networks, at 1e-3, won each time: as far as half of 0.4 decades allow.
    assert (centre(three), recipes(three)[0]) == (1.26e-3, "fast_head")
    assert len(recipes(three)) == 3
    told = small(service)
    assert (told.family, told.studies, told.centre, told.usual_centre) == (
        *("small_convnet", 3),
        *(1.26e-3, 2e-3),
    )
    assert [(one.name, one.wins) for one in told.recipes] == [
        *(("fast_head", 3), ("warm_cosine", 0), ("plain", 0)),
    ]
    other = created(service, "other", priority=1, model={"backbone": "resnet18"})
    assert (centre(other), recipes(other)[0]) == (5e-4, "fast_head")
    off = created(service, "off", priority=1, search=KNOWN | {"transfer": "none"})
    assert (centre(off), recipes(off)[0]) == (2e-3, "warm_cosine")
    assert centre(studies.read(service.context, "two").document) == 2e-3


def test_studies_that_may_have_guessed_teach_nothing(service: Service) -> None:
    for number in range(3):
        done(service, f"guessed-{number}", best=0.6)
    assert small(service).studies == 0
    assert centre(created(service, "next", priority=1)) == 2e-3


def test_rates_of_sgd_count_as_a_tenth(service: Service) -> None:
    for number in range(3):
        done(service, f"done-{number}", fixed={"epochs": 4, "optimizer": "sgd"})
    assert small(service).centre == 1.26e-3
    sgd = created(service, "sgd", priority=1, fixed={"epochs": 4, "optimizer": "sgd"})
    assert centre(sgd) == 1.26e-2


def test_what_won_among_equals_is_what_the_study_says(service: Service) -> None:
    created(service, "equals")
    for curve in ((0.9, 0.9, 0.3, 0.35), (0.1, 0.2, 0.3, 0.4)):
        lease = service.lease()
        service.report(lease, *curve)
        service.complete(lease, 0.9)
    for _ in range(7):
        service.complete(service.lease(), 0.5)
    service.complete_final(service.lease(), 0.9)
    assert studies.best(service.context, "equals").trial.number == 1
    wins = {one.name: one.wins for one in small(service).recipes}
    assert (wins["warm_cosine"], wins["fast_head"]) == (0, 1)
