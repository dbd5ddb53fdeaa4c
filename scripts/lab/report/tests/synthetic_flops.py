"""A few invented rows of the flops experiment."""

from .synthetic_records import record


def flops():
    """A few rows as the flops experiment writes them."""
    result = []
    for sparsity, printed, linear in (
        (0.0, 682.67, 680.64),
        (0.6, 343.73, 413.18),
        (0.8, 295.31, 324.03),
        (0.9, 283.20, 279.45),
    ):
        source = {"model": "HunyuanVideo", "resolution": "768p", "tokens": 126976}
        result.append(
            record(
                "flops",
                source,
                {"part": "table_1", "method": "Ours", "sparsity": sparsity},
                {
                    "pflops_printed": printed,
                    "pflops_quadratic": 279.17 + 403.5 * (1 - sparsity) ** 2,
                    "pflops_linear": linear,
                    "pflops_linear_as_printed": linear + 20,
                    "pflops_linear_all_steps": linear - 10,
                    "pflops_linear_released": linear + 20,
                    "pflops_reconstructed": printed - 0.7,
                },
            )
        )
    for seconds in (1, 4, 16, 32):
        tokens = (6 * seconds + 1) * 3600 + 256
        share = tokens / (tokens + 6 * 3072)
        source = {"model": "HunyuanVideo", "resolution": "720p", "tokens": tokens}
        result.append(
            record(
                "flops",
                source,
                {"part": "duration", "counting": "architecture", "seconds": seconds},
                {
                    "pflops_attention": 4e-12 * tokens**2,
                    "pflops_projections": 2.4e-8 * tokens * 3072,
                    "pflops_mlp": 4.9e-8 * tokens * 3072,
                    "pflops_cross_attention": 0.0,
                    "pflops_other": 0.01,
                    "pflops_total": 4e-12 * tokens**2 / share,
                    "attention_share": share,
                },
            )
        )
    return result
