"""The worker's own runner on a CPU whose batched products do not keep the bits: heads take turns.

`tests.support.as_on_amd` has a real one, for the widths that it is so for.
"""

from worker.runner import runner
from worker.training.loop import grouped_epoch


def _one_lane_does(lanes: int, *_: int) -> bool:
    return lanes == 1


if __name__ == "__main__":
    grouped_epoch.keeps_bits = _one_lane_does
    runner.main()
