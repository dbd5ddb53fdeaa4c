"""How long a video takes, dense and sparse, and where the time goes: experiment `video_time`. GPU only.

A whole clip is sampled between two events; inside it events around every attention call (draft, lists and attention
together) split the time into attention and everything else; the draft alone is timed on the last call's queries and
keys. Nothing is projected."""

import json

import draftattention
import torch

from lab.model.flow import SHIFT, STEPS, sample
from lab.model.model import dense_attention
from lab.model.policies import Policy
from lab.model.prompts import TEXT_TOKENS, draw_prompts
from lab.shared.record_file import read_all
from lab.shared.records import make_record
from lab.shared.timing import Span, machine_of, summary

SIDES = ("frames", "height", "width")
GRIDS = ((21, 32, 48), (21, 48, 80), (33, 48, 80))  # the paper's: Wan2.1 512p and 768p, HunyuanVideo 768p
SPARSITIES = (0.6, 0.8, 0.9)


def mask_arguments(policy):
    """What draftattention's functions are told of the mask."""
    names = ("sparsity", "region", "pool", "rule", "kernel")
    return {"text_tokens": TEXT_TOKENS} | {name: getattr(policy, name) for name in names}


class TimedAttention:
    """A hook that attends as a user would, with events around every call. Dense without a sparsity: by PyTorch's own
    attention, or by one of our kernels."""

    def __init__(self, policy, grid, steps):
        self.policy, self.grid = policy, grid
        self.first_sparse_step = policy.first_sparse_step(steps)
        self.spans, self.last = {"dense": [], "sparse": []}, None

    def attend(self, q, k, v, step):
        policy = self.policy
        dense = policy.name == "dense"
        if dense and policy.kernel == "auto":
            return dense_attention(q, k, v)
        if dense or step < self.first_sparse_step:
            return draftattention.block_attention(
                q, k, v, self.grid, None, text_tokens=TEXT_TOKENS, region=policy.region, kernel=policy.kernel
            )
        self.last = (q, k)
        return draftattention.draft_attention(q, k, v, self.grid, **mask_arguments(policy))

    def __call__(self, q, k, v, *, layer, step):
        with Span() as span:
            o = self.attend(q, k, v, step)
        sparse = self.policy.name != "dense" and step >= self.first_sparse_step
        self.spans["sparse" if sparse else "dense"].append(span)
        return o

    def calls_ms(self):
        """{"dense", "sparse": milliseconds of each call}."""
        return {kind: [span.ms() for span in spans] for kind, spans in self.spans.items()}


def policies(kernel):
    """Dense by PyTorch, dense by our kernel, and the draft at each sparsity with our kernel in all steps."""
    return [Policy(), Policy(kernel=kernel, dense_steps=0.0)] + [
        Policy("draft", sparsity, kernel=kernel) for sparsity in SPARSITIES
    ]


def time_clip(model, policy, grid, prompt, steps=STEPS, shift=SHIFT):
    """(milliseconds of sampling one clip, of its attention calls by kind, the hook)."""
    attention = TimedAttention(policy, grid, steps)
    with Span() as span:
        sample(model, prompt[None], [1], grid, steps, shift, attention=attention)
    return span.ms(), attention.calls_ms(), attention


def draft_ms(attention, samples=5):
    """Median milliseconds of the draft alone, on the last sparse call's queries and keys; None without one."""
    if attention.last is None:
        return None
    q, k = attention.last
    policy, found = attention.policy, []
    for _ in range(samples + 1):
        with Span() as span:
            draftattention.draft_mask(q, k, attention.grid, **mask_arguments(policy))
        found.append(span.ms())
    return summary(found[1:])["median_ms"]


def time_grid(model, grid, kernel, machine, build, weights, rounds=3, nvml=None):
    """Records of one grid: every policy once a round, after one unmeasured step of each."""
    prompt = draw_prompts(1, torch.Generator().manual_seed(1), held_out=True)[0]
    chosen = policies(kernel)
    state = nvml.state if nvml else dict
    for policy in chosen:
        time_clip(model, Policy(**{**vars(policy), "dense_steps": 0.0}), grid, prompt, steps=1)
    samples = {policy: [] for policy in chosen}
    inside, states = ({policy: [] for policy in chosen} for _ in range(2))
    drafts = {}
    for _ in range(rounds):
        for policy in chosen:
            before = state()
            whole, calls, hook = time_clip(model, policy, grid, prompt)
            samples[policy].append(whole)
            inside[policy].append(calls)
            states[policy].append((before, state()))
            drafts[policy] = draft_ms(hook)
    medians = {policy: summary(found)["median_ms"] for policy, found in samples.items()}
    made = []
    for policy in chosen:
        attention = summary([sum(map(sum, calls.values())) for calls in inside[policy]])["median_ms"]
        found = {
            "attention_share": attention / medians[policy],
            "attention_ms": attention,
            "other_ms": medians[policy] - attention,
            "speedup_over_pytorch": medians[chosen[0]] / medians[policy],
            "speedup_over_dense": medians[chosen[1]] / medians[policy],
        }
        for kind in ("dense", "sparse"):
            if each := [one for calls in inside[policy] for one in calls[kind]]:
                found[f"{kind}_call_ms"] = summary(each)["median_ms"]
        if drafts[policy] is not None:
            found["draft_ms"] = drafts[policy]
        source = {
            "model": "photodit",
            "weights_sha256": weights,
            "grid": dict(zip(SIDES, grid)),
            "text_tokens": TEXT_TOKENS,
            "heads": model.config.heads,
            "head_dim": model.config.head_dim,
            "layers": model.config.layers,
            "steps": STEPS,
            "clips": 1,
        }
        made.append(
            make_record(
                "video_time",
                source,
                policy.config() | {"device": "cuda"},
                found,
                machine_of(machine, states[policy]),
                build,
                timing=summary(samples[policy]) | {"warmup": 1},
            )
        )
    return made


def run(model, kernel, machine, build, weights, path, nvml):
    """Appends the records of every grid that the file lacks for this build and GPU."""
    done = {
        tuple((one["input"].get("grid") or {}).get(side) for side in SIDES)
        for one in read_all(path)
        if (one.get("build") or {}).get("commit") == build.get("commit")
        and (one.get("machine") or {}).get("gpu") == machine.get("gpu")
    }
    for grid in GRIDS:
        if grid in done:
            continue
        made = time_grid(model, grid, kernel, machine, build, weights, nvml=nvml)
        torch.cuda.empty_cache()
        with open(path, "a") as file:
            file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in made)
