"""Draft attention in whole pipelines of diffusers' video models beside Wan and HunyuanVideo: steps, branches, layers."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from draftattention.diffusers import apply_draft_attention, intercept_self_attention
from model_cases import REGION
from model_pipelines import CASES_OF_PIPELINES, skyreels_v2


@pytest.mark.parametrize("name", CASES_OF_PIPELINES)
def test_the_first_quarter_of_steps_is_dense(name):
    """Given 8 steps, claim: the first 2 are the model's own attention, in every branch; all dense is the model."""
    case = CASES_OF_PIPELINES[name]()
    before = case.run(steps=8)
    assert torch.isfinite(before).all()
    with apply_draft_attention(case.pipeline, dense_steps=1, region=REGION) as control:
        assert torch.equal(case.run(steps=8), before)
    calls = control.calls
    assert calls == control.dense_calls and calls % 8 == 0
    with apply_draft_attention(case.pipeline, region=REGION, sparsity=0.7) as control:
        assert control.active
        assert not torch.equal(case.run(steps=8), before)
    assert (control.calls, control.dense_calls) == (calls, calls // 4)
    assert torch.equal(case.run(steps=8), before)


@pytest.mark.parametrize("name", CASES_OF_PIPELINES)
def test_steps_and_branches(name):
    """Given 3 steps with guidance, claim: each call's step, its number of steps, its pass or batch entry, and grid."""
    case = CASES_OF_PIPELINES[name]()
    found = []

    def attend(call):
        entries = range(call.entry, call.entry + len(call.query))
        found.extend((call.model.step, call.model.steps, call.model.nth, entry) for entry in entries)
        assert (call.model.grid, call.model.guidance) == (case.grid, case.guidance)
        assert call.model.batch == (2 if case.guidance == "batch" else 1)
        return call.dense()

    with intercept_self_attention(case.pipeline, attend, layers=[1]):
        case.run(steps=3)
        branches = [(0, 0), (0, 1)] if case.guidance == "batch" else [(0, 0), (1, 0)]
        assert found == [(step, 3, *branch) for step in range(3) for branch in branches]
        found.clear()
        if case.guidance == "passes":
            case.run_alone(steps=3)
            assert found == [(step, 3, 0, 0) for step in range(3)]


def test_diffusion_forcing_with_frames_at_different_steps():
    """Given frames of which each starts 2 steps after the one before, claim: the pipeline's own loop is counted, which is
    longer than the schedule, and the grid is of the frames that take part."""
    case, found = skyreels_v2(forcing=True), []

    def attend(call):
        found.append((call.model.step, call.model.steps, call.model.grid))
        return call.dense()

    with intercept_self_attention(case.pipeline, attend, layers=[0]):
        case.run(steps=4, num_frames=13, base_num_frames=13, ar_step=2, guidance_scale=1.0)
    loop = case.pipeline.num_timesteps
    assert loop > 4
    assert [step for step, _, _ in found] == list(range(loop))
    assert {steps for _, steps, _ in found} == {loop}
    assert {grid[1:] for _, _, grid in found} == {(6, 10)}
