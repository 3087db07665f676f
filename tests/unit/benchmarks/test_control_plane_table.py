import asyncio
import json
import math
from pathlib import Path

import pytest

from tests.benchmarks.control_plane import parsed
from tests.benchmarks.control_plane_table import cpu_ratios, figures, lines, rate_ratios
from tests.benchmarks.round_trips import Relay
from tests.benchmarks.samples import Sample, Sampler, Way, quantile, spread

Rounds = dict[tuple[Way, Sampler, int], list[Sample]]


def _sample(rate: float, service: float = 0.0, postgres: float = 0.0, client: float = 0.0):
    times = {"claim": [1.0, 3.0], "report": [2.0], "settle": [4.0]}
    return Sample(10, 0, rate, service, postgres, client, times)


NOTHING = Sample(0, 8, 0.0, math.nan, math.nan, math.nan, {})


@pytest.fixture
def rounds() -> Rounds:
    """Two rounds of all ways with 8 clients."""
    return {
        ("ours", "random", 8): [_sample(100, 5, 3, 1), _sample(100, 7, 3, 1)],
        ("rdb", "random", 8): [_sample(5, 0, 20, 60), _sample(5, 0, 40, 80)],
        ("grpc", "random", 8): [_sample(4, 90, 30, 200), _sample(4, 90, 30, 200)],
        ("vizier", "random", 8): [_sample(20, 40, 0, 10), _sample(22, 40, 0, 10)],
        ("ours", "tpe", 8): [_sample(60), _sample(90)],
        ("rdb", "tpe", 8): [_sample(2), _sample(4)],
        ("grpc", "tpe", 8): [_sample(3), _sample(3)],
    }


class TestRatios:
    def test_each_round_is_held_against_the_best_optuna_way_of_that_round(self, rounds: Rounds):
        assert rate_ratios(rounds, "tpe", 8) == [60 / 3, 90 / 4]

    def test_of_cpu_the_clients_of_rdb_count_as_its_service_and_no_others(self, rounds: Rounds):
        assert cpu_ratios(rounds, "rdb", 8) == [80 / 8, 120 / 10]
        assert cpu_ratios(rounds, "grpc", 8) == [120 / 8, 120 / 10]
        assert cpu_ratios(rounds, "vizier", 8) == [40 / 8, 40 / 10]

    def test_a_round_in_which_no_trial_ended_has_no_cpu_a_trial(self, rounds: Rounds):
        rounds["grpc", "random", 8][0] = NOTHING
        assert cpu_ratios(rounds, "grpc", 8) == [120 / 10]

    def test_another_checkout_is_held_against_this_one_round_by_round(self, rounds: Rounds):
        rounds["before", "random", 8] = [_sample(80, 8, 4, 1), _sample(125, 9, 3, 1)]
        rounds["before", "tpe", 8] = [_sample(60), _sample(90)]
        assert rate_ratios(rounds, "random", 8, ["before"]) == [100 / 80, 100 / 125]
        table = "\n".join(lines(rounds, 8))
        assert "CPU before / ours 1.350 (1.200..1.500)" in table
        assert "random: trials/s ours / before 1.025 (0.800..1.250)" in table

    def test_ways_that_were_not_measured_have_none(self, rounds: Rounds):
        only: Rounds = {key: found for key, found in rounds.items() if key[0] == "ours"}
        assert rate_ratios(only, "tpe", 8) == []
        assert cpu_ratios(only, "rdb", 8) == []


class TestTable:
    def test_it_says_whose_cpu_is_whose_and_the_spread_of_all_rounds(self, rounds: Rounds):
        table = "\n".join(lines(rounds, 8))
        assert (
            "rdb    8 clients, random: CPU ms a trial 100.0 (80.0..120.0) = service in its clients"
            in table
        )
        assert (
            "ours    8 clients, random: CPU ms a trial 9.0 (8.0..10.0) = service 6.0 (5.0..7.0)"
            in table
        )
        assert "trials/s ours / best Optuna way 21.2 (20.0..22.5)" in table

    def test_vizier_is_shown_with_random_search_where_the_others_use_tpe(self, rounds: Rounds):
        table = "\n".join(lines(rounds, 8))
        assert "vizier    8 clients, random: trials/s 21.0 (20.0..22.0)" in table
        assert "grpc    8 clients, TPE: trials/s 3.0" in table

    def test_trials_that_were_not_waited_for_are_told(self, rounds: Rounds):
        rounds["rdb", "tpe", 8] = rounds["rdb", "random", 8] = [NOTHING]
        table = "\n".join(lines(rounds, 8))
        assert "rdb    8 clients: no trial ended in time" in table
        assert "8 trials were not waited for" in table


class TestJSON:
    def test_it_holds_the_medians_by_way_and_clients(self, rounds: Rounds):
        found = json.loads(json.dumps(figures(rounds), allow_nan=False))
        assert found["cpu_ms_per_trial"] == {
            "ours": {"8": 9.0},
            "rdb": {"8": 100.0},
            "grpc": {"8": 120.0},
            "vizier": {"8": 40.0},
        }
        assert found["trials_per_s"] == {
            "ours": {"8": 75.0},
            "rdb": {"8": 3.0},
            "grpc": {"8": 3.0},
            "vizier": {"8": 21.0},
        }
        assert found["cpu_ms_per_trial_apart"]["rdb"]["8"] == {
            "service": 0.0,
            "postgres": 30.0,
            "clients": 70.0,
        }
        assert found["quantiles_ms"]["ours"]["8"]["claim"] == [3.0, 3.0]
        assert found["ratios"]["trials_per_s ours / optuna"] == {"8": [20.0, 22.5]}

    def test_what_could_not_be_measured_is_absent_and_never_nan(self, rounds: Rounds):
        rounds["rdb", "tpe", 8] = rounds["rdb", "random", 8] = [NOTHING]
        found = json.loads(json.dumps(figures(rounds), allow_nan=False))
        assert "rdb" not in found["cpu_ms_per_trial"]
        assert "rdb" not in found["trials_per_s"]


def test_a_quantile_is_a_value_that_was_measured():
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert math.isnan(quantile([], 0.5))


def test_a_single_round_has_no_spread():
    assert spread([1.0]) == "1.0"
    assert spread([1.0, 3.0]) == "2.0 (1.0..3.0)"


def test_an_unknown_way_is_refused_by_name(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parsed(["--ways", "ours,mysql"])
    assert "['mysql'] are none of ours, rdb, grpc, vizier" in capsys.readouterr().err


def test_another_checkout_is_one_more_way(tmp_path: Path):
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    options = parsed(["--ways", "ours", "--finished", "", "--before", str(tmp_path)])
    assert (options.ways, options.finished, options.before) == (
        ["ours", "before"],
        [],
        tmp_path,
    )


def test_a_folder_without_an_environment_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        parsed(["--before", str(tmp_path)])
    assert "it has no" in capsys.readouterr().err


LONG = 1_000_000


def test_a_round_trip_is_one_answer_in_however_many_pieces():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1):
            writer.write(bytes(LONG))
        writer.close()

    async def count() -> int:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as database:
            relay = Relay("127.0.0.1", database.sockets[0].getsockname()[1])
            async with await relay.listen():
                reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
                for _ in range(3):
                    writer.write(b"?")
                    await reader.readexactly(LONG)
                writer.write_eof()
                assert await reader.read() == b""
                writer.close()
        return relay.count

    assert asyncio.run(count()) == 3
