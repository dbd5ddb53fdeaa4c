"""What a piece will take, and whether it still fits into a sitting."""

import time

MARGIN = 1.15  # of what was measured
UNMEASURED = (
    1.8  # of what FLOPs and the slowest rate so far say: diffusers' own attention runs at two thirds of the fastest
)
PRIOR_RATE = {"cuda": 2.5e14, "cpu": 1e9}  # FLOP/s before anything is measured: a third of an H200's
BUILDING_S = {"cuda": 45.0, "cpu": 0.5}  # a transformer and a VAE
TEXT_S = {"cuda": 60.0, "cpu": 0.5}  # both encoders, built and run
COMPILING_S = {"cuda": 60.0, "cpu": 5.0}  # the graphs of a transformer's blocks
TRIALS_S = {"cuda": 40.0, "cpu": 0.5}
SAVING_S = 5.0  # a video that is on its way
DECODING_S = {"cuda": 6e-7, "cpu": 2e-6}  # a pixel of the video, the file's writing included


class Budget:
    """The seconds of one sitting."""

    def __init__(self, minutes, now=time.monotonic):
        self._now, self.whole_s = now, 60.0 * minutes
        self._begin = now()

    def left_s(self):
        return self.whole_s - (self._now() - self._begin)

    def fits(self, seconds):
        return seconds <= self.left_s()


class Speeds:
    """How long steps took: in the file's records, and in this sitting."""

    def __init__(self, device_type):
        self._type = device_type
        self._steps, self._rates = {}, {}  # (shape, configuration): seconds; shape: FLOP/s of each

    def note(self, shape, configuration, step_s, flops=None):
        """One measured step; flops: of the step, where they are known."""
        self._steps[shape, configuration] = step_s
        if flops is not None and step_s > 0:
            self._rates.setdefault(shape, []).append(flops / step_s)

    def step_s(self, shape, configuration, flops):
        """What a step of a configuration takes, rather too much than too little."""
        if (shape, configuration) in self._steps:
            return MARGIN * self._steps[shape, configuration]
        rates = self._rates.get(shape)
        if rates:
            return UNMEASURED * flops / min(rates)
        return flops / PRIOR_RATE[self._type]
