"""Several processes that run a tiny model under context parallelism, each case once: what the tests of it share. A case is
a function of this file, which gives tensors and texts by name; run_ranks() starts the processes, this file again."""

import dataclasses
import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import types
from unittest import mock

import diffusers
import diffusers_cases
import draftattention
import model_cases
import torch
from draftattention import _parallel, _passes, _tokens
from draftattention.diffusers import apply_draft_attention, context_parallel_plan

HEADS = 6  # which 2 and 3 processes share
SPARSE = {"sparsity": 0.7, "region": (4, 4)}
HALF = SPARSE | {"dense_steps": 0.5}
STEPS = 2  # the second is sparse
LIMIT_S = 300  # a process that waits for another one that is gone would wait for ever


def run_ranks(names, ranks, device="cpu", limit_s=LIMIT_S):
    """What each process found, {case: {name: value}} of each rank. Raises AssertionError for one that fails or hangs."""
    with tempfile.TemporaryDirectory() as folder:
        logs = [pathlib.Path(folder, f"log{rank}") for rank in range(ranks)]
        command = [sys.executable, __file__, folder, device, str(ranks), ",".join(names)]
        processes, end = [], time.monotonic() + limit_s
        try:
            for rank, log in enumerate(logs):
                with open(log, "wb") as stream:
                    processes.append(subprocess.Popen([*command, str(rank)], stdout=stream, stderr=stream))
            while any(process.poll() is None for process in processes):
                if any(process.poll() for process in processes) or time.monotonic() > end:
                    break
                time.sleep(0.05)
        finally:
            for process in processes:
                process.kill()  # one that has ended is left alone
                process.wait()
        if any(process.returncode for process in processes):
            said = [f"rank {rank}: {log.read_text()[-3000:]}" for rank, log in enumerate(logs)]
            raise AssertionError(f"{[process.returncode for process in processes]}\n" + "\n".join(said))
        return [torch.load(pathlib.Path(folder, f"found{rank}"), weights_only=True) for rank in range(ranks)]


def wan():
    return _with(diffusers_cases.wan(heads=HEADS))


def hunyuan():
    """7 of 12 text tokens are padding: more than a process has of 2 and of 3."""
    return _with(diffusers_cases.hunyuan(heads=HEADS, text=12, valid=5))


def odd():
    """3 heads and 9 text tokens for 2 processes."""
    return _with(diffusers_cases.hunyuan(heads=3, text=9, valid=4))


def _with(case):
    case.transformer.double()
    return case


def draft(case, **options):
    """(the video, calls, dense calls) of draft attention."""
    with apply_draft_attention(case.pipeline, **(HALF | options)) as control:
        video = case.run(STEPS)
    return video, torch.tensor([control.calls, control.dense_calls])


def enable(case, ranks, **more):
    """Shares the model's tokens out. diffusers asks how many accelerators there are, and a CPU is none."""
    device = next(case.transformer.parameters()).device.type
    degrees = {"ring_degree": 1, "ulysses_degree": ranks} | more
    shape = degrees["ring_degree"], degrees["ulysses_degree"]
    mesh = torch.distributed.device_mesh.init_device_mesh(device, shape, mesh_dim_names=("ring", "ulysses"))
    plan = context_parallel_plan(case.transformer)
    with mock.patch.object(torch.accelerator, "device_count", lambda: ranks):
        case.transformer.enable_parallelism(config=diffusers.ContextParallelConfig(mesh=mesh, **degrees), cp_plan=plan)
    return case


def refusal(run):
    """What was raised, in words."""
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def videos(make, ranks):
    """Draft attention, this package's dense steps alone, and diffusers' own parallel model."""
    case = enable(make(), ranks)
    seen = []
    attend = draftattention.draft_attention

    def record(q, k, v, grid, **options):
        seen.append([*q.shape, options["text_tokens"]])
        return attend(q, k, v, grid, **options)

    with mock.patch.object(draftattention, "draft_attention", record):
        video, counts = draft(case)
    dense, _ = draft(case, dense_steps=1)
    return {"draft": video, "counts": counts, "dense": dense, "own": case.run(STEPS), "seen": torch.tensor(seen)}


def wan_videos(ranks):
    return videos(wan, ranks)


def hunyuan_videos(ranks):
    return videos(hunyuan, ranks)


def ltx_pass(ranks):
    """diffusers splits LTX-Video's tokens before the model, with those of its text."""
    case = ltx_video()
    model = types.SimpleNamespace(transformer=case.transformer())
    with apply_draft_attention(enable(model, ranks).transformer, dense_steps=0, steps=1, **SPARSE):
        return {"draft": case.one_pass(model.transformer)}


def ltx_video():
    """6 tokens of text, without a mask: diffusers' has each head's, which its cross-attention does not share out."""
    case = model_cases.ltx_video()
    case.given["encoder_hidden_states"] = case.given["encoder_hidden_states"][:, :6]
    case.given["encoder_attention_mask"] = None
    return case


def odd_videos(ranks):
    """Of sizes that 2 does not divide."""
    case = enable(odd(), ranks, ulysses_anything=True)
    video, counts = draft(case)
    return {"draft": video, "counts": counts, "refused": refusal(lambda: draft(enable(odd(), ranks)))}


def enabled_later(ranks):
    """Parallelism of a model that draft attention is in already."""
    case = hunyuan()
    with apply_draft_attention(case.pipeline, **HALF):
        return {"draft": enable(case, ranks).run(STEPS)}


def turned_heads(ranks):
    """_parallel.exchanged, but the last process's heads are turned round."""
    exchanged = _parallel.exchanged

    def turned(config, query, key, value, enable_gqa, attend):
        last = torch.distributed.get_rank() == ranks - 1
        attend_turned = lambda *rows: attend(*rows).flip(2) if last else attend(*rows)
        return exchanged(config, query, key, value, enable_gqa, attend_turned)

    return turned


def wrong_orders(ranks):
    """The last process's heads turned round, and shards in the order of the exchange."""

    def unsorted(*given):
        order = _tokens.shard_order(*given)
        return _tokens.PieceOrder(order.lengths, tuple(range(len(order.lengths))))

    found = {}
    with mock.patch.object(_passes, "exchanged", turned_heads(ranks)):
        found["heads"], _ = draft(enable(wan(), ranks))
    case = enable(hunyuan(), ranks)
    with mock.patch.object(_passes, "shard_order", unsorted):
        found["shards"], _ = draft(case)
    return found


def compiled(ranks):
    """Blocks in graphs; after a pass without, as diffusers' hooks read signatures in the first one."""
    case = enable(wan(), ranks)
    case.run(steps=1)
    case.transformer.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
    video, counts = draft(case)
    return {"draft": video, "counts": counts}


def refusals(ranks):
    """Each is refused by all processes, which go on."""
    few = diffusers_cases.wan(heads=3)
    plain = enable(hunyuan(), ranks)
    early = hunyuan()
    plan = context_parallel_plan(early.transformer)
    split = plan["transformer_blocks.0"]["hidden_states"]
    output = {0: dataclasses.replace(split, split_output=True)}
    before = {"x_embedder": output, "context_embedder": output} | {name: plan[name] for name in ("rope", "proj_out")}
    with mock.patch.dict(globals(), context_parallel_plan=lambda _: before):
        enable(early, ranks)
    whole = wan()
    plan = context_parallel_plan(whole.transformer)
    with mock.patch.dict(globals(), context_parallel_plan=lambda _: {"proj_out": plan["proj_out"]}):
        enable(whole, ranks)
    return {
        "ring": refusal(lambda: draft(enable(wan(), ranks, ring_degree=ranks, ulysses_degree=1))),
        "heads": refusal(lambda: draft(enable(few, ranks))),
        "layers": refusal(lambda: draft(plain, layers=[0])),
        "gradients": refusal(lambda: _with_gradients(enable(wan(), ranks))),
        "share of a mask": refusal(lambda: draft(early)),
        "not split": refusal(lambda: draft(whole)),
    }


def _with_gradients(case):
    with apply_draft_attention(case.transformer, dense_steps=1, steps=1):
        latents, time = diffusers_cases.numbers(1, 4, 2, 12, 20).double(), torch.tensor([900.0])
        case.transformer(latents, time, diffusers_cases.numbers(1, 7, 16).double())


GPU_MAKERS = {
    "wan": lambda: diffusers_cases.wan(head_dim=64, heads=HEADS),
    "hunyuan": lambda: diffusers_cases.hunyuan(head_dim=64, heads=HEADS, text=12, valid=5),
}


def gpu_videos(ranks):
    """In bfloat16, by the kernels: plain, and with the last process's heads turned round; in float32, whose draft masks
    rounding does not turn: compiled."""
    found = {}
    for name, make in GPU_MAKERS.items():
        case = enable(make().to("cuda", torch.bfloat16), ranks)
        found[f"{name} plain"], _ = draft(case, strict=True)
        with mock.patch.object(_passes, "exchanged", turned_heads(ranks)):
            found[f"{name} wrong"], _ = draft(case, strict=True)
        case = enable(make().to("cuda", torch.float32), ranks)
        draft(case)
        case.transformer.compile_repeated_blocks(fullgraph=True)  # after a pass, as in compiled()
        found[f"{name} compiled"], _ = draft(case)
    return {name: video.cpu() for name, video in found.items()}


def _main(folder, device, ranks, names, rank):
    ranks, rank = int(ranks), int(rank)
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "cpu:gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=ranks,
        timeout=datetime.timedelta(seconds=120),
    )
    diffusers.utils.logging.set_verbosity_error()
    found = {name: globals()[name](ranks) for name in names.split(",")}
    torch.save(found, pathlib.Path(folder, f"found{rank}"))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # NCCL's threads need not be waited for


if __name__ == "__main__":
    _main(*sys.argv[1:])
