"""How far one tensor of PyTorch is from another."""

import math


def relative_l2(found, wanted):
    """||found - wanted|| / ||wanted|| over all elements: NaN if one is NaN, if shapes differ, or if both norms are 0; infinite
    if that of wanted alone is. One slice of the first axis at a time is held in float32."""
    if found.shape != wanted.shape:
        return math.nan
    pairs = zip(found, wanted, strict=True) if found.dim() > 1 else [(found, wanted)]
    parts = [
        ((own.float() - other.float()).double().square().sum(), other.double().square().sum()) for own, other in pairs
    ]
    difference, norm = (sum(of_slices) for of_slices in zip(*parts, strict=True))
    return float((difference / norm) ** 0.5)
