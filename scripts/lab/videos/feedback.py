"""What becomes of a small error in the middle of a run: experiment `video_feedback`.

A dense run is disturbed once, after a step, and goes on densely to its end. Where a clip is determined by its prompt, the
model takes a small error back; where much is open, an error decides what is open, and grows into another clip. That is what
stands between the errors of attention and the distance of a video.

growth = ||disturbed clip - dense clip|| / ||disturbance||. Of a model that knows the clip whatever the state, the velocity
is (x - clip) / t, and an error goes to 0 with t; of one that says the same velocity whatever the state, growth is 1.

The disturbance is `noise` (a random direction), or what a mask changes of the step itself (`draft`, by a rule), scaled to
SIZE of the state's norm.
"""

from lab.model.flow import seeded_noise, velocity
from lab.model.policies import PolicyAttention
from lab.model.prompts import TEXT_TOKENS

from .configurations import REFERENCE, draft

SIZE = 0.02  # of the state's norm
SPARSITY = 0.9
SHARES = (0.25, 0.5, 0.75)  # of the steps: where a run is disturbed
NOISE_SEED = 77
KINDS = (REFERENCE, draft(SPARSITY, dense_steps=0.0), draft(SPARSITY, rule="logits", dense_steps=0.0))  # noise, masks


def norms(x):
    """[clips] of [clips, ...]."""
    return x.flatten(1).double().norm(dim=1)


class Disturbed:
    """path: dense_path.DensePath, whose dense states are disturbed."""

    def __init__(self, path):
        self.path = path
        self.steps = len(path.times) - 1

    def direction(self, policy, step):
        """What disturbs the state before a step: of norm 1 in every clip."""
        path, x = self.path, self.path.states[step]
        if policy == REFERENCE:
            found = seeded_noise([NOISE_SEED + clip for clip in range(len(x))], x.shape[1:], x.device)
        else:
            attention = PolicyAttention(policy, path.grid, TEXT_TOKENS, self.steps)
            dense, sparse = (
                velocity(path.model, x, path.times[step], path.prompts, hook, step) for hook in (None, attention)
            )
            found = (path.times[step + 1] - path.times[step]) * (sparse - dense)
        sizes = norms(found).clamp(min=1e-30).to(found.dtype)
        return found / sizes.view(-1, *[1] * (found.ndim - 1))

    def growth(self, policy, step, size=SIZE):
        """One number a clip."""
        path, before = self.path, self.path.states[step]
        sizes = size * norms(before)
        x = before + sizes.to(before.dtype).view(-1, *[1] * (before.ndim - 1)) * self.direction(policy, step)
        for at in range(step, self.steps):
            dt = path.times[at + 1] - path.times[at]
            x = x + dt * velocity(path.model, x, path.times[at], path.prompts, step=at)
        return (norms(x - path.states[-1]) / sizes).tolist()


def step_of(share, steps):
    return min(max(round(share * steps), 1), steps - 1)


def config_of(policy, step):
    """A record's `config`, without the device."""
    own = {"disturbed_by": "noise"} if policy == REFERENCE else {"disturbed_by": "mask"}
    return policy.config() | own | {"step": step, "size": SIZE}


def disturbances(steps):
    """[(policy, step)] of a run of so many steps: every kind at every place."""
    return [(policy, step_of(share, steps)) for share in SHARES for policy in KINDS]
