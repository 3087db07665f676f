"""OSS Vizier as people run it: its gRPC service on a durable SQLite file, and clients that speak to it.

It shares no dependency with us (protobuf, jax), so a venv of its own runs this file as a script; it imports nothing of ours.

`vizier_peer.py serve FILE PORT ALGORITHM FINISHED REPORTS` fills one study and serves it until end-of-file on stdin.
`vizier_peer.py work ADDRESS CLIENTS SECONDS PATIENCE REPORTS warm|cold` lives trials once a line comes on stdin, and prints
one JSON object.

A trial is SuggestTrials, an AddTrialMeasurement per report, and CompleteTrial, all by Vizier's own client. It asks for no
verdict after a report: Vizier's only early stopping without configuration picks a running trial at random, and asking
would cost it one more call with a Pythia policy in it. Its server holds one lock per study over each suggestion, reads all trials
of the study for it, and rewrites the whole trial for each measurement; each write is one SQLite commit.
"""
# Vizier is installed when the benchmark runs, never beside our own tools.
# pyright: basic, reportMissingImports=false

import json
import math
import os
import sys
import threading
import time

import grpc
from vizier._src.service import vizier_client
from vizier._src.service import vizier_service_pb2_grpc as rpc
from vizier._src.service.vizier_server import DefaultVizierServer
from vizier.service import pyvizier as vz
from vizier.service.protos import study_pb2

STUDY = "owners/bench/studies/bench"
METRIC = "accuracy"
SPACE = {
    "learning_rate": (1e-5, 1e-1),
    "weight_decay": (1e-6, 1e-1),
    "warmup_epochs": (1e-2, 1e1),
}


def config(algorithm):
    """The study that our own has: three log ranges, one metric to maximise."""
    found = vz.StudyConfig(algorithm=algorithm)
    for name, (low, high) in SPACE.items():
        found.search_space.root.add_float_param(name, low, high, scale_type=vz.ScaleType.LOG)
    goal = vz.ObjectiveMetricGoal.MAXIMIZE
    found.metric_information.append(vz.MetricInformation(name=METRIC, goal=goal))
    return found


def finished_trial(number, reports):
    """A completed trial with its curve, as `filling.py` stores them for the other ways."""
    turns = zip(SPACE.items(), map(math.sqrt, (2, 3, 4)), strict=True)
    parameters = {
        name: low * (high / low) ** (0.5 + 0.5 * math.sin(number * turn))
        for (name, (low, high)), turn in turns
    }
    value = 0.5 + 0.4 * math.sin(number)
    trial = vz.Trial(id=number, parameters=parameters)
    for step in range(reports):
        part = value * (step + 1) / reports
        trial.measurements.append(vz.Measurement({METRIC: part}, steps=step))
    trial.complete(vz.Measurement({METRIC: value}))
    proto = vz.TrialConverter.to_proto(trial)
    proto.name = f"{STUDY}/trials/{number}"
    return proto


def fill(datastore, algorithm, finished, reports):
    """Store the study and its finished trials, all in one transaction of Vizier's own tables."""
    active = study_pb2.Study.State.ACTIVE
    spec = config(algorithm).to_proto()
    datastore.create_study(
        study_pb2.Study(name=STUDY, display_name="bench", study_spec=spec, state=active)
    )
    rows = [
        {
            "trial_name": trial.name,
            "owner_id": "bench",
            "study_id": "bench",
            "trial_id": int(trial.id),
            "serialized_trial": trial.SerializeToString(),
        }
        for trial in (finished_trial(number, reports) for number in range(1, finished + 1))
    ]
    datastore._connection.execute(datastore._trials_table.insert(), rows)
    datastore._connection.commit()


def serve(file, port, algorithm, finished, reports):
    """Run Vizier's server with its default settings, the database apart."""
    url = f"sqlite:///{file}"
    server = DefaultVizierServer(host="localhost", port=int(port), database_url=url)
    fill(server.datastore, algorithm, int(finished), int(reports))
    print("ready", flush=True)  # noqa: T201
    sys.stdin.read()
    os._exit(0)


def live_one(client, reports, timed):
    """Live one trial; `timed` runs each verb's call."""
    (trial,) = timed("claim", lambda: client.get_suggestions(1))
    for step in range(reports):
        report = (step, float(step), [{METRIC: 0.5 + step / 100}], trial.id)
        timed(
            "report", lambda report=report: client.report_intermediate_objective_value(*report)
        )
    final = vz.Measurement({METRIC: 0.6})
    timed("settle", lambda: client.complete_trial(trial.id, final))


def live(client, until, reports, ms, trials):
    """Live one trial after another."""

    def timed(verb, call):
        started = time.perf_counter()
        answer = call()
        ms[verb].append(1e3 * (time.perf_counter() - started))
        return answer

    while time.monotonic() < until:
        live_one(client, reports, timed)
        trials.append(time.monotonic())


def work(address, clients, seconds, patience, reports, warm):
    """Let so many threads live trials; those begun are waited for, as long as patience lasts."""
    stub = rpc.VizierServiceStub(grpc.insecure_channel(address))
    each = [
        vizier_client.VizierClient(STUDY, f"client-{number}", stub) for number in range(clients)
    ]
    ms = {"claim": [], "report": [], "settle": []}
    trials = []
    if warm:
        live_one(each[0], reports, lambda _verb, call: call())
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    cpu, started = time.process_time(), time.monotonic()
    threads = [
        threading.Thread(
            target=live, args=(client, started + seconds, reports, ms, trials), daemon=True
        )
        for client in each
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, started + seconds + patience - time.monotonic()))
    unfinished = sum(thread.is_alive() for thread in threads)
    return {
        "trials": len(trials),
        "unfinished": unfinished,
        "seconds": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu,
        "ms": ms,
    }


def main(argv):
    """Dispatch the two verbs."""
    if argv[0] == "serve":
        serve(*argv[1:])
    address, clients, seconds, patience, reports, warm = argv[1:]
    lengths = float(seconds), float(patience), int(reports)
    found = work(address, int(clients), *lengths, warm == "warm")
    print(json.dumps(found), flush=True)  # noqa: T201
    os._exit(0)  # threads that were not waited for


if __name__ == "__main__":
    main(sys.argv[1:])
