"""What a person would see of the difference between two clips, over space and time: ColorVideoVDP, by its authors'
package `cvvdp`. It ships all that it needs; nothing is fetched."""

from .metrics import FRAMES_A_SECOND, frames_of

DISPLAY = "standard_4k"


def find_cvvdp(device):
    """(function of two clips, "") or (None, why there is none)."""
    try:
        import pycvvdp
    except ImportError as error:
        return None, f"left out: {error}"
    import torch

    metric = pycvvdp.cvvdp(display_name=DISPLAY, device=torch.device(device), heatmap=None, quiet=True)

    @torch.no_grad()
    def quality(clip, reference):
        """Just-objectionable differences: 10 if nobody sees one, less is worse. Clips as in `metrics`."""
        test, true = (frames_of(each).transpose(0, 1)[None].to(device) for each in (clip, reference))
        return float(metric.predict(test, true, dim_order="BCFHW", frames_per_second=FRAMES_A_SECOND)[0])

    return quality, ""
