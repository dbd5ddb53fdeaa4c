"""The configurations of the study: dense twice over, then everything that is compared with it."""

from dataclasses import replace

from lab.model.policies import Policy

SPARSITIES = (0.55, 0.6, 0.75, 0.8, 0.9)  # Table 1's, of all its models
FEW = (0.6, 0.75, 0.9)
REGIONS = ((8, 8), (16, 8), (4, 32), (16, 16))  # beside 8 x 16; Table 5 has 16 x 16
DENSE_STEPS = (0.0, 0.5)  # beside the paper's 0.25
APART_RULES = ("softmax", "logits", "row")  # with diffuse heads alone sparse, and the others alone
COMPARED = (0.6, 0.8, 0.9)  # sparsities at which systems are compared
OTHERS = {"svg": {}, "adaspa": {}, "xattention": {}, "svg2": {}, "sol_attn": {"remainder": "pooled"}}
REFERENCE = Policy()  # PyTorch's dense attention: what every clip is compared with


def draft(sparsity, **changes):
    return Policy("draft", sparsity, **changes)


def systems(kernel="auto"):
    """Draft attention, with row budgets and with its remainder, beside what others do at the same budgets. Some are among
    the configurations too; a run that has one makes it once."""
    drafts = [{"rule": rule, "remainder": rest} for rule in ("softmax", "row") for rest in (None, "pooled")]
    chosen = [draft(sparsity, **changes) for changes in drafts for sparsity in COMPARED]
    for name, changes in OTHERS.items():
        chosen += [Policy(name, sparsity, **changes) for sparsity in COMPARED]
    return [replace(policy, kernel=kernel) for policy in chosen]


def configurations(kernel="auto", dense_kernel="torch"):
    """Every policy of the paper's tables but REFERENCE, most wanted first. kernel: of the sparse calls; dense_kernel: of
    a dense run that shows what rounding alone does to a video."""
    table_1 = [draft(sparsity) for sparsity in SPARSITIES]
    table_4 = [draft(sparsity, pool="max") for sparsity in SPARSITIES]
    ends = [Policy("random", sparsity) for sparsity in SPARSITIES] + [Policy("oracle", sparsity) for sparsity in FEW]
    ends += [Policy("oracle", 0.9, rule="row", dense_steps=share) for share in (0.25, 0.0)]
    ends += [Policy("random", 0.9, dense_steps=0.0)]
    first_steps = [draft(sparsity, dense_steps=share) for sparsity in (0.75, 0.9) for share in DENSE_STEPS]
    table_5 = [draft(sparsity, region=region) for sparsity in (0.75, 0.9) for region in REGIONS]
    rules = [draft(sparsity, rule=rule) for sparsity in FEW for rule in ("logits", "released", "row")]
    rules += [draft(0.9, rule=rule, dense_steps=share) for rule in ("logits", "row") for share in DENSE_STEPS]
    apart = [draft(0.9, rule=rule, heads=heads) for heads in ("diffuse", "others") for rule in APART_RULES]
    chosen = table_1 + table_4 + ends + first_steps + table_5 + rules + apart
    return [Policy(kernel=dense_kernel, dense_steps=0.0)] + [replace(policy, kernel=kernel) for policy in chosen]


def attention_pairs(kept_share, grid, text_tokens):
    """Query-key pairs of a call that keeps this share of the video x video ones, over all pairs: text is always kept."""
    video = grid[0] * grid[1] * grid[2]
    tokens = video + text_tokens
    return 1 - (1 - kept_share) * video**2 / tokens**2


def flops_share(config, grid, text_tokens, kept_share):
    """FLOPs of a sampling run over those of the dense one: products alone, two a multiply-add. kept_share: mean share of
    the video x video pairs over all calls, dense ones too. config: lab.model.model.ModelConfig."""
    tokens = grid[0] * grid[1] * grid[2] + text_tokens
    inner = config.heads * config.head_dim
    linear = 2 * tokens * config.layers * (4 * config.dim * inner + 2 * config.mlp_ratio * config.dim**2)
    attention = 4 * tokens**2 * inner * config.layers
    return (linear + attention * attention_pairs(kept_share, grid, text_tokens)) / (linear + attention)
