"""The model as a choice, through claims: each lease has the model of its trial, and so has the end of the study."""

from typing import Any

from service.use_cases import experience, studies, trials
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken

MODELS: dict[str, Any] = {
    "small": {"backbone": "glyphnet", "weights": "default"},
    "big": {"backbone": "resnet18", "weights": "none"},
}
RATE = {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
STAGES = {"kind": "int", "low": 1, "high": 3, "when": {"model": "small"}}


def begin(service: Service, name: str = "digits", **changes: Any) -> None:
    given: dict[str, Any] = {
        "model": {"choices": MODELS},
        "space": {"learning_rate": RATE, "frozen_stages": STAGES},
        "budget": {"trials": 10},
        "finish": {"refit": True, "ensemble": 2},
    }
    service.study(name, **(given | changes))


def test_each_lease_has_the_model_of_its_trials_up_to_the_end(either: Service) -> None:
    begin(either, first_trials=[{"model": "small"}, {"model": "big"}])
    worker, names = either.worker(), list[str]()
    for number in range(8):
        lease = either.lease(worker)
        names.append(str(lease.hyperparameters["model"]))
        assert lease.model.model_dump(exclude_defaults=True) == {
            name: value for name, value in MODELS[names[-1]].items() if value != "default"
        }
        assert ("frozen_stages" in lease.hyperparameters) == (names[-1] == "small")
        either.checkpoint(lease, 3, best=3)
        either.complete(lease, 0.9 - number / 10)
    assert names[:2] == ["small", "big"]
    for backbone in ("glyphnet", "resnet18"):
        refit = either.lease(worker)
        (member,) = refit.members
        assert (refit.kind, refit.model.backbone, member.model) == (
            *("refit", backbone),
            refit.model,
        )
        either.complete(refit, 0.1)
    final = either.lease(worker)
    assert (final.kind, final.model.backbone) == ("final", "glyphnet")
    assert [one.model and one.model.backbone for one in final.members] == [
        "glyphnet",
        "resnet18",
    ]
    either.complete_final(final, 0.9)
    best = studies.best(either.context, "digits")
    assert (best.trial.number, best.model) == (0, final.model)
    assert broken(either.context.database) == {}


def test_a_study_of_several_models_teaches_by_the_one_that_won(service: Service) -> None:
    search = {"known_recipes": True, "transfer": "done_studies", "pruner": "none"}
    begin(service, search=search, finish={"refit": False, "ensemble": 1}, budget={"trials": 4})
    for _ in range(4):
        lease = service.lease()
        service.complete(lease, 0.9 if lease.hyperparameters["model"] == "big" else 0.5)
    service.complete_final(service.lease(), 0.9)
    kinds = {one.family: one.studies for one in experience.priors(service.context).kinds}
    assert (kinds["from_scratch"], kinds["small_convnet"]) == (1, 0)


def test_first_trials_are_the_best_known_recipe_of_each_model(either: Service) -> None:
    begin(either, search={"known_recipes": True, "pruner": "none"})
    leases = [either.lease() for _ in range(2)]
    assert [lease.hyperparameters["model"] for lease in leases] == ["small", "big"]
    first = [trials.read(either.context, "digits", number) for number in (0, 1)]
    assert {one.proposed_by for one in first} == {"known_recipe:warm_cosine"}


def test_what_is_taken_over_from_a_study_of_several_models_is_its_best_ones(
    service: Service,
) -> None:
    first = [{"model": "big", "learning_rate": rate} for rate in (1e-3, 2e-3)]
    first.append({"model": "small", "learning_rate": 4e-3})
    ended = {"budget": {"trials": 3}, "finish": {"refit": False, "ensemble": 1}}
    begin(service, "earlier", first_trials=first, space={"learning_rate": RATE}, **ended)
    for number in range(3):
        service.complete(service.lease(), (0.9, 0.5, 0.8)[number])
    service.complete_final(service.lease(), 0.9)
    search = {"transfer": "auto", "pruner": "none", "sampler": "random"}
    other = {"backbone": "resnet18", "weights": "none"}
    service.study(
        "next",
        model=other,
        space={"learning_rate": RATE},
        search=search,
        probed=False,
        budget={"trials": 30},
    )
    service.begin(service.lease())
    starts = studies.read(service.context, "next").document.starts or ()
    # The second best is of another model.
    assert [dict(one.values) for one in starts if one.proposed_by == "study:earlier"] == [
        {"learning_rate": 1e-3}
    ]


def test_a_space_by_itself_has_what_matters_for_each_model(either: Service) -> None:
    models = {"small": {"backbone": "glyphnet"}, "deep": {"backbone": "vit_b_16"}}
    begin(
        either,
        model={"choices": models},
        space="auto",
        search={"sampler": "gp", "pruner": "none"},
    )
    worker, seen = either.worker(), set[tuple[str, bool]]()
    for number in range(8):
        lease = either.lease(worker)
        values = lease.hyperparameters
        seen.add((str(values["model"]), "layer_decay" in values))
        assert lease.recipe.layer_decay == values.get("layer_decay", 1.0)
        either.complete(lease, 0.5 + number / 100)
    assert seen == {("small", False), ("deep", True)}
