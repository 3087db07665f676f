"""The catalogue of bad input as data: each request with the exact answer, and what has no place here with its reason."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.support.documents import a_document


@dataclass(frozen=True)
class Bad:
    """One bad request; `$lease`, `$settled` and `$worker` stand for those of the world."""

    item: int
    what: str
    status: int
    slug: str
    pointer: str | None = None
    body: Any = None
    path: str = "/v1/studies"
    method: str = "POST"
    says: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])


def of_study(
    item: int, what: str, pointer: str, slug: str = "invalid", says: str = "", **changes: Any
) -> Bad:
    return Bad(
        item, what, 422, slug, pointer, a_document(**{"name": "fresh"} | changes), says=says
    )


def of_range(
    item: int, what: str, dimension: Any, slug: str = "invalid", at: str = "", says: str = ""
) -> Bad:
    pointer = f"/space/weight_decay{at}"
    return of_study(item, what, pointer, slug, says, space={"weight_decay": dimension})


def a_float(**changes: Any) -> dict[str, Any]:
    return {"kind": "float", "low": 0.0, "high": 1.0} | changes


def an_int(**changes: Any) -> dict[str, Any]:
    return {"kind": "int", "low": 1, "high": 9} | changes


def choices(*values: Any) -> dict[str, Any]:
    return {"kind": "choices", "choices": list(values)}


def raw(body: str | bytes) -> bytes:
    return body if isinstance(body, bytes) else body.encode()


def a_claim(**changes: Any) -> dict[str, Any]:
    return {"worker_id": "$worker", "claim_id": str(uuid4())} | changes


def reports(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {"reports": [{"step": step, "value": value} for step, value in pairs]}


def checkpoint(step: Any, **changes: Any) -> dict[str, Any]:
    return {"checkpoint": {"step": step, "sha256": "$artifact", "bytes": 5} | changes}


TRANSPORT = [
    Bad(1, "broken JSON", 400, "malformed-json", body=raw('{"name":'), says="line 1"),
    Bad(2, "trailing garbage", 400, "malformed-json", body=raw("{} {}")),
    Bad(3, "empty body", 400, "malformed-json", body=raw("")),
    Bad(4, "not UTF-8", 400, "malformed-json", body=raw(b'{"name": "\xff"}'), says="UTF-8"),
    Bad(4, "UTF-16", 400, "malformed-json", body='{"a": 1}'.encode("utf-16")),
    Bad(5, "33 levels", 400, "malformed-json", body=raw("[" * 33 + "]" * 33), says="32"),
    Bad(5, "100,000 levels", 400, "malformed-json", body=raw("[" * 100_000)),
    Bad(
        6, "101 digits", 400, "malformed-json", body=raw('{"a": ' + "1" * 101 + "}"), says="100"
    ),
    Bad(
        6,
        "101 digits of a float",
        400,
        "malformed-json",
        body=raw('{"a": 0.' + "1" * 101 + "}"),
    ),
    Bad(7, "a key twice", 400, "duplicate-key", body=raw('{"name": "a", "name": "b"}')),
    Bad(7, "a key twice, within", 400, "duplicate-key", body=raw('{"a": [{"b": 1, "b": 1}]}')),
    *(
        Bad(
            8,
            literal,
            422,
            "non-finite",
            body=raw('{"budget": {"wall_time_s": ' + literal + "}}"),
        )
        for literal in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")
    ),
    Bad(9, "1 MiB and a byte", 413, "payload-too-large", body=b" " * (2**20 + 1)),
    Bad(9, "16 MiB on a lease", 413, "payload-too-large", path="/v1/leases", body=b" " * 2**24),
    Bad(
        10,
        "no JSON by its type",
        415,
        "unsupported-media-type",
        body=b"{}",
        headers={"Content-Type": "text/plain"},
    ),
    Bad(
        10,
        "a form",
        415,
        "unsupported-media-type",
        body=b"a=1",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    Bad(10, "no type", 415, "unsupported-media-type", body=b"{}", headers={"Content-Type": ""}),
    of_study(
        11, "unknown field", "/serch", "unknown-field", "did you mean 'search'?", serch={}
    ),
    of_study(
        11,
        "unknown field within",
        "/budget/trails",
        "unknown-field",
        "did you mean 'trials'?",
        budget={"trials": 1, "trails": 1},
    ),
    of_range(
        11,
        "unknown field of a range",
        a_float(stp=0.1),
        "unknown-field",
        "/stp",
        "did you mean 'step'?",
    ),
    Bad(
        11,
        "unknown field of an outcome",
        422,
        "unknown-field",
        "/vale",
        {"kind": "completed", "value": 0.5, "vale": 1},
        "/v1/leases/$lease/outcome",
        "PUT",
        "did you mean 'value'?",
    ),
    Bad(
        26,
        "a lone surrogate in a key",
        422,
        "invalid",
        "",
        a_document(name="fresh") | {"\ud800": 1},
    ),
    of_study(26, "a lone surrogate in a hyperparameter's name", "/fixed", fixed={"\ud800": 1}),
    of_study(
        12,
        "text for a number",
        "/budget/wall_time_s",
        "wrong-type",
        budget={"trials": 1, "wall_time_s": "1.5"},
    ),
    of_study(12, "true for a number", "/lease_ttl_s", "wrong-type", lease_ttl_s=True),
    of_study(12, "a number for text", "/name", "wrong-type", name=7),
    of_study(
        12,
        "a number for true",
        "/space/weight_decay/log",
        "wrong-type",
        space={"weight_decay": a_float(log=1)},
    ),
    Bad(12, "a list for a document", 422, "wrong-type", "", []),
    Bad(12, "null for a document", 422, "wrong-type", "", raw("null")),
    Bad(13, "wrong method", 405, "method-not-allowed", method="PUT", body={}),
    Bad(
        13,
        "wrong method of a verb",
        405,
        "method-not-allowed",
        path="/v1/leases/$lease/outcome",
        body={},
    ),
    Bad(14, "unknown path", 404, "not-found", path="/v1/experiments", method="GET"),
    Bad(14, "a slash too many", 404, "not-found", path="/v1/studies/", method="GET"),
    Bad(15, "another host", 400, "bad-host", method="GET", headers={"Host": "evil.example"}),
    Bad(
        15,
        "a host that begins like ours",
        400,
        "bad-host",
        method="GET",
        headers={"Host": "localhost.evil.example"},
    ),
    Bad(
        15,
        "a host that looks like an address",
        400,
        "bad-host",
        method="GET",
        headers={"Host": "127.0.0.1.evil.example:80"},
    ),
    Bad(
        20,
        "same key, other body",
        422,
        "idempotency-key-reused",
        body=a_document(name="fresh"),
        headers={"Idempotency-Key": "key-of-the-world"},
    ),
    *(
        Bad(
            22,
            f"no UUID for a lease: {verb}",
            422,
            "invalid",
            "/path/lease",
            body,
            f"/v1/leases/7{verb}",
            method,
        )
        for method, verb, body in [
            ("POST", "/reports", reports((0, 0.5))),
            ("POST", ":heartbeat", None),
            ("POST", "/checkpoints", checkpoint(0)),
            ("POST", ":release", {"reason": "drain"}),
            ("PUT", "/outcome", {"kind": "pruned"}),
        ]
    ),
    Bad(
        22,
        "no UUID for a claim",
        422,
        "wrong-type",
        "/claim_id",
        a_claim(claim_id="7"),
        "/v1/leases",
    ),
    Bad(
        22,
        "no UUID for a worker",
        422,
        "wrong-type",
        "/worker_id",
        a_claim(worker_id="../7"),
        "/v1/leases",
    ),
]

STUDIES = [
    *(
        of_study(item, what, "/name", name=name)
        for item, what, name in [
            (23, "empty name", ""),
            (23, "blank name", " "),
            (24, "name of 64", "a" * 64),
            (24, "name of 100,000", "a" * 100_000),
            (25, "NUL in a name", "a\0b"),
            (26, "lone surrogate in a name", "a\ud800b"),
            (27, "slash", "a/b"),
            (27, "dots", ".."),
            (27, "newline at the end", "ab\n"),
            (27, "escape", "a\x1bb"),
            (27, "letters beyond ASCII", "größe"),
            (27, "an SQL quote", "a'; DROP TABLE x; --"),
        ]
    ),
    Bad(25, "NUL in a label", 422, "invalid", "/label", {"label": "a\0", "device": "cpu"}, "/v1/workers"),
    Bad(25, "NUL in a device", 422, "invalid", "/device", {"label": "a", "device": "c\0"}, "/v1/workers"),
    Bad(26, "lone surrogate in a device", 422, "invalid", "/device", {"label": "a", "device": "c\udfff"}, "/v1/workers"),
    Bad(25, "NUL in a metric's name", 422, "invalid", "/reports/0/metrics/a\0", {"reports": [{"step": 9, "value": 0.5, "metrics": {"a\0": 1.0}}]}, "/v1/leases/$lease/reports"),
    of_study(25, "NUL in a path", "/task/dataset/path", task={"kind": "classification", "dataset": {"kind": "image_folder", "path": "/a\0"}}),
    Bad(25, "NUL in an address", 404, "study-not-found", path="/v1/studies/a%00b", method="GET"),
    Bad(28, "name taken", 409, "study-exists", body=a_document(name="world")),
    Bad(29, "name taken, other space", 409, "study-exists", body=a_document(name="world", space={"weight_decay": a_float()})),
    *(
        of_study(31, f"{trials!r} trials", "/budget/trials", slug, budget={"trials": trials})
        for trials, slug in [(0, "invalid"), (-1, "invalid"), (10**6 + 1, "invalid"), (1.0, "wrong-type"), (1.5, "wrong-type"), ("5", "wrong-type"), (True, "wrong-type")]
    ),
    *(of_study(31, f"{seconds!r} s of wall time", "/budget/wall_time_s", budget={"trials": 1, "wall_time_s": seconds}) for seconds in (0, -1.5)),
    of_study(31, "a refit that the budget does not pay", "/finish", says="needs a budget of 2 trials", budget={"trials": 1}, finish={"refit": True}),
    of_study(31, "an ensemble of more trials than the budget has", "/finish", says="needs 3 trials to average", budget={"trials": 2}, finish={"refit": False, "ensemble": 3}),
    of_study(31, "seeds that the budget does not pay", "/finish", says="needs a budget of 4 trials or more, and this one has 3: 1 to choose from, and 3 for the refits", budget={"trials": 3}, finish={"refit": True, "seeds": 3}),
    of_study(31, "seeds without refits", "/finish/seeds", says="give `refit: true` beside them", budget={"trials": 9}, finish={"refit": False, "seeds": 2}),
    *(of_study(31, f"{seeds} seeds", "/finish/seeds", budget={"trials": 90}, finish={"seeds": seeds}) for seeds in (0, 11)),
    *(of_study(31, f"an ensemble of {size}", "/finish/ensemble", finish={"ensemble": size}) for size in (0, 11)),
    of_study(31, "refits of more trials than are averaged", "/finish/refits", says="give `ensemble: 3` or more", budget={"trials": 9}, finish={"ensemble": 2, "refits": 3}),
    of_study(31, "a number of refits where none is wanted", "/finish/refits", says="give `refit: true` beside them", budget={"trials": 9}, finish={"refit": False, "ensemble": 2, "refits": 1}),
    of_study(31, "a refit of no trial", "/finish/refits", budget={"trials": 9}, finish={"refits": 0}),
    of_study(11, "unknown field of the finish", "/finish/refitt", "unknown-field", "did you mean 'refit'?", finish={"refitt": True}),
    of_study(32, "unknown sampler", "/search/sampler", says="'tpe', 'gp', 'random' or 'grid'", search={"sampler": "tpee"}),
    *(of_study(32, f"priors of strength {strength}", "/search/prior_strength", says=says, search={"prior_strength": strength}) for strength, says in ((-1, "greater than or equal to 0"), (1001, "less than or equal to 1000"))),
    of_study(32, "unknown pruner", "/search/pruner", says="did you mean 'median'?", search={"pruner": "medain"}),
    of_study(32, "unknown kind of pruner", "/search/pruner/kind", says="did you mean 'median'?", search={"pruner": {"kind": "medain"}}),
    of_study(32, "a pruner without its kind", "/search/pruner/kind", says="required", search={"pruner": {"startup_trials": 3}}),
    of_study(32, "a pruner that is a number", "/search/pruner", "wrong-type", "'auto' or an object with a `kind`", search={"pruner": 5}),
    of_study(32, "a parameter of another pruner", "/search/pruner/startup_trials", "unknown-field", "known here: kind", search={"pruner": {"kind": "none", "startup_trials": 3}}),
    of_study(32, "unknown parameter of a pruner", "/search/pruner/startup_trial", "unknown-field", "did you mean 'startup_trials'?", search={"pruner": {"kind": "median", "startup_trial": 3}}),
    of_study(32, "a pruner that waits for -1 trials", "/search/pruner/startup_trials", says="greater than or equal to 1", search={"pruner": {"kind": "median", "startup_trials": -1}}),
    of_study(32, "a pruner that waits for half a trial", "/search/pruner/startup_trials", "wrong-type", "integer", search={"pruner": {"kind": "median", "startup_trials": 0.5}}),
    of_study(32, "a pruner's parameter beside its long form", "/search/startup_trials", says="within `pruner`", search={"pruner": {"kind": "median"}, "startup_trials": 3}),
    of_study(32, "unknown option", "/search/prunner", "unknown-field", "did you mean 'pruner'?", search={"prunner": "none"}),
    of_study(32, "a grid without an end", "/space/weight_decay", says="step", search={"sampler": "grid"}, space={"weight_decay": a_float()}),
    of_study(57, "a range that is none", "/space/learning_rate", says="close", space={"learning_rate": a_float(low=1e-3, high=1e-3 * (1 + 2.3e-16), log=True)}),
    of_study(34, "empty space", "/space", says="1 to 200", space={}),
    of_study(35, "201 hyperparameters", "/space", says="1 to 200", space={f"p{n}": a_float() for n in range(201)}),
    *(
        Bad(36, f"unknown study: {method} {verb}", 404, "study-not-found", path=f"/v1/studies/nobody{verb}", method=method)
        for method, verb in [("GET", ""), ("DELETE", ""), ("POST", ":pause"), ("POST", ":resume"), ("POST", ":stop"), ("POST", ":cancel"), ("GET", "/trials"), ("GET", "/trials/0"), ("GET", "/best"), ("GET", "/model"), ("GET", "/events")]
    ),
    Bad(36, "unknown trial", 404, "trial-not-found", path="/v1/studies/world/trials/999", method="GET"),
    Bad(36, "a trial's number beyond Postgres", 422, "invalid", "/path/number", path="/v1/studies/world/trials/2147483648", method="GET"),
    Bad(36, "a name that no study can have", 404, "study-not-found", path="/v1/studies/No%20Body", method="GET"),
    Bad(37, "resuming a study that is over", 409, "study-not-active", path="/v1/studies/over:resume"),
    Bad(37, "pausing a study that is over", 409, "study-not-active", path="/v1/studies/over:pause"),
    Bad(36, "unknown study: PATCH", 404, "study-not-found", body={"priority": 1}, path="/v1/studies/nobody", method="PATCH"),
    Bad(37, "other budget for a study that is over", 409, "study-not-active", body={"budget": {"trials": 99}}, path="/v1/studies/over", method="PATCH", says="under another name"),
    Bad(37, "an edit that changes nothing", 422, "invalid", "", {"budget": {}}, "/v1/studies/world", "PATCH", "such as budget.trials, or priority"),
    Bad(11, "unknown field of an edit", 422, "unknown-field", "/budget/trails", {"budget": {"trails": 9}}, "/v1/studies/world", "PATCH", "did you mean 'trials'?"),
    Bad(12, "text for the trials of an edit", 422, "wrong-type", "/budget/trials", {"budget": {"trials": "9"}}, "/v1/studies/world", "PATCH"),
    Bad(37, "no wall time", 422, "invalid", "/budget/wall_time_s", {"budget": {"wall_time_s": "soon"}}, "/v1/studies/world", "PATCH"),
    Bad(36, "unknown study: a trial to add", 404, "study-not-found", body={"values": {}}, path="/v1/studies/nobody/trials"),
    Bad(36, "unknown trial to stop", 404, "trial-not-found", path="/v1/studies/world/trials/999:stop"),
    Bad(36, "unknown trial to try again", 404, "trial-not-found", path="/v1/studies/world/trials/999:retry"),
    Bad(37, "a trial for a study that is over", 409, "study-not-active", body={"values": {}}, path="/v1/studies/over/trials"),
    Bad(12, "a list as a value to try", 422, "wrong-type", None, {"values": {"weight_decay": [1]}}, "/v1/studies/world/trials"),
    Bad(8, "NaN as a value to try", 422, "non-finite", None, raw('{"values": {"weight_decay": NaN}}'), "/v1/studies/world/trials"),
    Bad(11, "unknown field of a trial to add", 422, "unknown-field", "/vales", {"vales": {}}, "/v1/studies/world/trials", says="did you mean 'values'?"),
    Bad(37, "a value of no searched name", 422, "invalid", "/values/momentum", {"values": {"momentum": 0.9}}, "/v1/studies/world/trials", says="is not searched"),
    Bad(38, "a deleted study", 404, "study-not-found", path="/v1/studies/deleted", method="GET"),
    Bad(38, "deleting under a running trial", 409, "study-not-idle", path="/v1/studies/world", method="DELETE"),
]  # fmt: skip

SPACES = [
    of_range(39, "low above high", a_float(low=2.0)),
    of_range(39, "low above high, whole", an_int(low=10)),
    of_range(41, "log from 0", a_float(log=True)),
    of_range(41, "log from below 0", a_float(low=-1.0, log=True)),
    of_range(41, "log of whole numbers from 0", an_int(low=0, log=True)),
    of_range(42, "step 0", a_float(step=0.0)),
    of_range(42, "step below 0", a_float(step=-0.1)),
    of_range(42, "step 0, whole", an_int(step=0), at="/step"),
    Bad(42, "step NaN", 422, "non-finite", body=raw('{"space": {"x": {"kind": "float", "low": 0, "high": 1, "step": NaN}}}')),
    of_range(43, "step and log", a_float(low=0.1, step=0.1, log=True)),
    of_range(43, "step and log, whole", an_int(step=2, log=True)),
    of_range(44, "step beyond the range", a_float(step=2.0)),
    of_range(44, "step that does not divide", a_float(step=0.3)),
    of_range(44, "step that does not divide, whole", an_int(step=3)),
    of_range(44, "more steps than can be counted", a_float(high=10.0, step=1e-300)),
    of_range(45, "range beyond a float", a_float(low=-1.7e308, high=1.7e308)),
    Bad(45, "bound without an end", 422, "non-finite", body=raw('{"space": {"x": {"kind": "float", "low": 0, "high": 1e309}}}')),
    of_range(46, "text for a bound", a_float(low="0"), "wrong-type", "/low"),
    of_range(46, "true for a bound", a_float(high=True), "wrong-type", "/high"),
    of_range(46, "true for a whole bound", an_int(low=True), "wrong-type", "/low"),
    of_range(47, "1.5 for a whole bound", an_int(low=1.5), "wrong-type", "/low"),
    of_range(47, "1.0 for a whole bound", an_int(low=1.0), "wrong-type", "/low"),
    of_range(48, "beyond 2^53", an_int(high=2**53 + 1), at="/high"),
    of_range(48, "beyond -2^53", an_int(low=-(2**53) - 1), at="/low"),
    of_range(49, "no choices", choices(), at="/choices"),
    of_range(50, "the same choice twice", choices("a", "a")),
    of_range(49, "no choices at all", {"kind": "choices"}, at="/choices", says="Field required"),
    of_range(11, "an unknown field of choices", choices(1) | {"choice": 1}, "unknown-field", "/choice", "did you mean 'choices'?"),
    of_range(50, "1, 1.0 and true", choices(1, 1.0, True)),
    of_range(51, "a list as a choice", choices([1]), "wrong-type", "/choices/0"),
    of_range(51, "an object as a choice", choices(1, {}), "wrong-type", "/choices/1"),
    Bad(52, "NaN as a choice", 422, "non-finite", body=raw('{"space": {"x": {"kind": "choices", "choices": [NaN]}}}')),
    of_range(53, "one text as choices", {"kind": "choices", "choices": "abc"}, "wrong-type", "/choices"),
    of_range(54, "1,001 choices", choices(*range(1001)), at="/choices"),
    of_study(54, "over 64 KiB of space", "/space", says="64 KiB", space={"optimizer": choices(*(f"{n:01000}" for n in range(100)))}),
    of_range(54, "a choice of 1,025 characters", choices("a" * 1025), at="/choices/0"),
    of_study(56, "fixed beyond its range", "/fixed/momentum", fixed={"momentum": 1.5}),
    of_study(56, "fixed by a wrong name", "/fixed/momentun", says="did you mean 'momentum'?", fixed={"momentun": 0.5}),
    of_study(56, "fixed to a wrong type", "/fixed/epochs", "wrong-type", fixed={"epochs": "12"}),
    of_study(56, "fixed to a list", "/fixed/epochs", "wrong-type", fixed={"epochs": [12]}),
    of_study(56, "fixed and sampled", "/fixed/batch_size", fixed={"batch_size": 16}),
    Bad(57, "a name twice", 400, "duplicate-key", body=raw('{"space": {"x": {"kind": "int"}, "x": {"kind": "int"}}}')),
    of_study(57, "an empty name", "/space/", says="known here", space={"": a_float()}),
    of_study(57, "a name of 300", f"/space/{'n' * 200}", space={"n" * 300: a_float()}),
    of_range(57, "a range of no kind", {"low": 0.0, "high": 1.0}, at="/kind", says="Field required"),
    of_range(57, "a range of an unknown kind", a_float(kind="flaot"), at="/kind", says="'float', 'int', 'choices'"),
    of_range(57, "values that no worker takes", a_float(high=11.0), says="float >= 0"),
    of_study(57, "real numbers for whole ones", "/space/batch_size", says="int >= 1", space={"batch_size": a_float(low=1.0, high=2.0)}),
]  # fmt: skip

LEASE = "/v1/leases/$lease"
SETTLED = "/v1/leases/$settled"
NOBODY = f"/v1/leases/{uuid4()}"
VERBS: list[tuple[str, str, Any]] = [
    ("POST", "/reports", reports((0, 0.5))),
    ("POST", ":heartbeat", None),
    ("POST", "/checkpoints", checkpoint(9)),
    ("POST", ":release", {"reason": "drain"}),
]
NO_NUMBERS: list[Any] = [None, [], [0.5], {}, "0.5", True]
TRIALS = [
    *(Bad(58, f"unknown lease: {verb}", 404, "lease-not-found", None, body, NOBODY + verb, method) for method, verb, body in VERBS),
    Bad(58, "unknown lease: settle", 404, "lease-not-found", None, {"kind": "pruned"}, NOBODY + "/outcome", "PUT"),
    Bad(58, "unknown worker", 404, "worker-not-found", None, a_claim(worker_id=str(uuid4())), "/v1/leases"),
    *(Bad(59, f"lost lease: {verb}", 409, "lease-lost", None, body, SETTLED + verb, method) for method, verb, body in VERBS),
    Bad(60, "completed twice, other value", 409, "result-conflict", None, {"kind": "completed", "value": 0.6}, SETTLED + "/outcome", "PUT"),
    Bad(60, "completed, then failed", 409, "result-conflict", None, {"kind": "failed", "error": "oom"}, SETTLED + "/outcome", "PUT"),
    *(
        Bad(62, f"{value!r} for a value", 422, "wrong-type", "/value", {"kind": "completed", "value": value}, LEASE + "/outcome", "PUT")
        for value in NO_NUMBERS
    ),
    *(
        Bad(62, f"{value!r} for an intermediate value", 422, "wrong-type", "/reports/0/value", reports((9, value)), LEASE + "/reports")
        for value in NO_NUMBERS[1:]
    ),
    Bad(62, "no value", 422, "invalid", "/value", {"kind": "completed"}, LEASE + "/outcome", "PUT"),
    Bad(62, "an unknown outcome", 422, "invalid", "/kind", {"kind": "done"}, LEASE + "/outcome", "PUT", "'completed', 'pruned', 'infeasible', 'failed'"),
    Bad(62, "no outcome", 422, "invalid", "/kind", {}, LEASE + "/outcome", "PUT"),
    Bad(62, "an unknown failure", 422, "invalid", "/error", {"kind": "failed", "error": "oops"}, LEASE + "/outcome", "PUT"),
    Bad(63, "10**400", 400, "malformed-json", None, raw('{"kind": "completed", "value": 1' + "0" * 400 + "}"), LEASE + "/outcome", "PUT"),
    Bad(63, "1e400", 422, "non-finite", None, raw('{"kind": "completed", "value": 1e400}'), LEASE + "/outcome", "PUT"),
    Bad(63, "NaN", 422, "non-finite", None, raw('{"kind": "completed", "value": NaN}'), LEASE + "/outcome", "PUT"),
    Bad(63, "NaN reported", 422, "non-finite", None, raw('{"reports": [{"step": 9, "value": NaN}]}'), LEASE + "/reports"),
    *(
        Bad(64, f"step {step!r}", 422, slug, "/reports/0/step", reports((step, 0.5)), LEASE + "/reports")
        for step, slug in [(-1, "invalid"), (1.0, "wrong-type"), (1.5, "wrong-type"), ("2", "wrong-type"), (True, "wrong-type"), (2**31, "invalid"), (None, "wrong-type")]
    ),
    Bad(65, "same step, other value", 409, "step-conflict", None, reports((3, 0.25)), LEASE + "/reports"),
    Bad(65, "a batch with one conflict", 409, "step-conflict", None, reports((4, 0.5), (3, 0.25)), LEASE + "/reports"),
    Bad(65, "a batch against itself", 409, "step-conflict", None, reports((4, 0.5), (4, 0.25)), LEASE + "/reports"),
    Bad(66, "1,001 points", 413, "too-many-points", None, reports(*((n, 0.5) for n in range(1001))), LEASE + "/reports"),
    Bad(66, "no points", 422, "invalid", "/reports", {"reports": []}, LEASE + "/reports"),
    Bad(67, "step 100,000", 422, "invalid", "/reports/0/step", reports((100_000, 0.5)), LEASE + "/reports"),
    Bad(72, "no sha256", 422, "invalid", "/checkpoint/sha256", checkpoint(9, sha256="../../etc/passwd"), LEASE + "/checkpoints"),
    Bad(72, "a sha256 in capitals", 422, "invalid", "/checkpoint/sha256", checkpoint(9, sha256="A" * 64), LEASE + "/checkpoints"),
    Bad(72, "no bytes", 422, "invalid", "/checkpoint/bytes", checkpoint(9, bytes=0), LEASE + "/checkpoints"),
    Bad(72, "never uploaded", 404, "artifact-not-found", None, checkpoint(9, sha256="0" * 64), LEASE + "/checkpoints"),
    Bad(72, "an address that leads out", 404, "not-found", None, path="/v1/artifacts/..%2F..%2Fpasswd", method="GET"),
    Bad(73, "a checkpoint that goes back", 409, "checkpoint-goes-back", None, checkpoint(2), LEASE + "/checkpoints"),
    of_study(0, "weights at an address", "/model/weights", says="the path of a file", model={"backbone": "resnet18", "weights": "https://a.test/evil.pkl"}),
    of_study(84, "unknown backbone", "/model/backbone", says="'resnet18'", model={"backbone": "resnet81"}),
    of_study(84, "unknown data set", "/task/dataset/name", says="'digits'", task={"kind": "classification", "dataset": {"kind": "builtin", "name": "mnist"}}),
    of_study(85, "a callable for a backbone", "/model/backbone", model={"backbone": "os.system"}),
    of_study(85, "code for a hyperparameter", "/fixed/__import__", fixed={"__import__": "os"}),
]  # fmt: skip

# Not part of the catalogue, but of these routes.
PARAMETERS = [
    Bad(0, "a page of none", 422, "invalid", "/query/page_size", path="/v1/studies?page_size=0", method="GET"),
    Bad(0, "a page of 1,001", 422, "invalid", "/query/page_size", path="/v1/studies/world/trials?page_size=1001", method="GET"),
    *(
        Bad(0, f"a page token that is none of ours: {token}", 422, "invalid", "/query/page_token", path=f"/v1/studies?page_token={token}", method="GET")
        for token in ("x", "%C3%BC", "cDEyMzQ1Njc4OTA%3D", "LTE%3D", "")
    ),
    Bad(0, "an unknown state", 422, "invalid", "/query/state", path="/v1/studies/world/trials?state=ended", method="GET"),
    Bad(0, "an Idempotency-Key of 256", 422, "invalid", "/header/Idempotency-Key", a_document(name="fresh"), headers={"Idempotency-Key": "k" * 256}),
    Bad(0, "a blank Idempotency-Key", 422, "invalid", "/header/Idempotency-Key", a_document(name="fresh"), headers={"Idempotency-Key": ""}),
    *(
        Bad(0, f"a cursor that is none of ours: {cursor}", 422, "invalid", "/header/Last-Event-ID", path="/v1/studies/world/events", method="GET", headers={"Last-Event-ID": cursor})
        for cursor in ("x", "1", "-1-2", "1-2-3", "9" * 19 + "-1", "")
    ),
    Bad(0, "memory beyond Postgres", 422, "invalid", "/memory_bytes", {"label": "a", "device": "cpu", "memory_bytes": 2**63}, "/v1/workers"),
    Bad(0, "no capacity", 422, "invalid", "/capacity", {"label": "a", "device": "cpu", "capacity": 0}, "/v1/workers"),
    Bad(0, "a wait of a minute and more", 422, "invalid", "/wait_s", a_claim(wait_s=60.5), "/v1/leases"),
    Bad(0, "beside a study without a name", 422, "invalid", "/beside", a_claim(beside=""), "/v1/leases"),
    Bad(0, "beside a study by its number", 422, "wrong-type", "/beside", a_claim(beside=7), "/v1/leases"),
    Bad(0, "a worker that holds all it may", 409, "worker-busy", None, a_claim(), "/v1/leases"),
    Bad(0, "the best of nothing", 404, "no-completed-trial", path="/v1/studies/over/best", method="GET"),
    Bad(0, "no model yet", 404, "no-model", path="/v1/studies/world/model", method="GET"),
    Bad(0, "a need of no memory", 422, "invalid", "/needs/gpu_memory_gb", a_document(name="fresh", needs={"gpu_memory_gb": 0})),
    Bad(0, "a need in words", 422, "wrong-type", "/needs/gpu_memory_gb", a_document(name="fresh", needs={"gpu_memory_gb": "24 GB"})),
    Bad(0, "a need that nothing is known of", 422, "unknown-field", "/needs/gpus", a_document(name="fresh", needs={"gpu_memory_gb": 24, "gpus": 2})),
    Bad(0, "the demand of a device of less than nothing", 422, "invalid", "/query/gpu_memory_gb", path="/v1/demand?gpu_memory_gb=-1", method="GET"),
    Bad(0, "the demand of an endless device", 422, "invalid", "/query/gpu_memory_gb", path="/v1/demand?gpu_memory_gb=inf", method="GET"),
    Bad(0, "the demand of a worker without a device", 422, "invalid", "/query/devices", path="/v1/demand?devices=0", method="GET"),
    Bad(0, "an unknown worker that is to leave", 404, "worker-not-found", None, {}, "/v1/workers/00000000-0000-0000-0000-000000000000:drain"),
    Bad(0, "a release without a reason", 422, "invalid", "/reason", {}, LEASE + ":release"),
    Bad(0, "no share left to train on", 422, "invalid", "/task", a_document(name="fresh", task={"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}, "validation": 0.5, "test": 0.5})),
]  # fmt: skip

TABLE = [*TRANSPORT, *STUDIES, *SPACES, *TRIALS, *PARAMETERS]

ELSEWHERE = {
    9: "tests/integration/api/test_bad_input.py::test_a_body_without_a_length_is_counted",
    16: "tests/integration/api/test_authentication.py::test_nothing_answers_without_the_token",
    21: "tests/integration/api/test_idempotency.py::test_the_same_request_at_the_same_moment_has_one_effect",
    37: "tests/integration/api/test_rest_studies.py::test_a_stopped_study_proposes_nothing_more",
    40: "tests/integration/api/test_bad_input.py::test_a_range_of_one_value_is_a_range",
    69: "tests/integration/api/test_bad_input.py::test_a_long_message_is_cut_and_its_outcome_kept",
    70: "tests/integration/test_quarantine.py::test_it_gets_nothing_more_and_its_trials_do_not_pay",
    82: "tests/unit/training/test_weights.py::test_code_in_a_weights_file_is_never_run",
    83: "tests/unit/cli/test_study_documents.py::test_an_alias_bomb_is_refused_before_it_is_written_out",
    86: "tests/integration/api/test_readiness.py::test_a_service_waits_for_its_database_and_survives_its_absence",
    87: "tests/integration/api/test_readiness.py::test_a_full_disk_is_named",
    88: "tests/integration/api/test_readiness.py::test_a_database_of_a_newer_version_is_refused_in_words",
}

ABSENT = {
    17: "there is one shared token, and so no role that could be the wrong one",
    18: "requests are not rationed",
    19: "no request requires an Idempotency-Key: a repeated creation is refused by its name",
    30: "a study has one objective, which is maximised: directions cannot be said",
    33: "a study has one objective",
    55: "a study's space cannot be changed: there is no PATCH",
    61: "a trial has one value, which is a number and no list",
    68: "trials carry no attributes of a user's",
    71: "the service gives every worker process an id of its own, which no other process presents",
    74: "data sets are not named by URL",
    75: "data sets are not named by URL, and so nothing is resolved",
    76: "a path is the workers' to open, as their own user; the service opens none (weights and data sets: tests/unit/worker)",
    77: "the service does not see the workers' files; a worker settles with failed, data_missing",
    78: "archives are not read",
    79: "archives are not read",
    80: "pictures are the worker's: tests/unit/worker",
    81: "data sets are the worker's: tests/unit/worker",
}
