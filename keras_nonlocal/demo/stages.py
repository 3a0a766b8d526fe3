"""How far the demo is, and how long the rest will take."""

import time

# Seconds of each stage of a whole demo on two idle cores of a Xeon with AMX; the pace of this run corrects them.
SECONDS = {
    "compose the clips and write the records": 65,
    "train the trunk on single digits": 50,
    "train C2D and non-local C2D": 220,
    "evaluate": 35,
    "export": 15,
    "serve and ask": 15,
    "draw": 10,
}


class Stages:
    """Prints a line at the start of each stage.

    Args:
      seconds: {stage: seconds it took elsewhere}, in order.
      clock: function that gives the time in seconds.
    """

    def __init__(self, seconds, clock=time.monotonic):
        self._seconds = seconds
        self._clock = clock
        self._started = {}

    def start(self, stage):
        """Prints the stage's number and name and the time left, at the pace of those before it."""
        self._started[stage] = self._clock()
        number = list(self._seconds).index(stage) + 1
        print(f"\n[{number}/{len(self._seconds)}] {stage} ({minutes(self.left(stage))} left)", flush=True)

    def left(self, stage):
        """Seconds from the start of this stage to the end, as far as one can tell."""
        stages = list(self._seconds)
        rest = sum(self._seconds[each] for each in stages[stages.index(stage) :])
        times = list(self._started.values())
        took = {each: end - begin for each, begin, end in zip(self._started, times, times[1:], strict=False)}
        # What an earlier run had done already says nothing of the pace.
        worked = [each for each in took if took[each] > 0.2 * self._seconds[each]]
        pace = sum(took[each] for each in worked) / sum(self._seconds[each] for each in worked) if worked else 1
        return rest * pace


def minutes(seconds):
    """Such as "about 8 min" or "under a minute"."""
    return f"about {seconds / 60:.0f} min" if seconds >= 60 else "under a minute"
