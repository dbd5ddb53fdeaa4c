"""What moves in a clip and what should not. Clips are [channels, frames, height, width] in about [-1, 1].

flow_px     how much moves: optical flow by OpenCV (Farneback) between neighbouring frames, the mean of its fastest 5% of
            pixels, in pixels a frame. It takes the place of VBench's dynamic degree, whose flow is RAFT's.
flicker     what changes and should not: the photograph behind the cut-out, followed from frame to frame under the prompt's
            own camera; mean absolute difference of values in [0, 1]. Not 0 on the true clip either, whose pixels fall
            between pixels: the true clip's own number stands beside it.
"""

import numpy as np
import torch
import torch.nn.functional as F

from lab.model.sheet import to_pixels
from lab.model.video import camera_at, cut_out_at, frame_times

from .metrics import frames_of

FASTEST = 0.05  # share of the pixels, VBench's
AROUND = 1.1  # of a cut-out's radius: what it and its rim's smoothing touch


def find_flow():
    """(flow_px, "") or (None, why there is none)."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        return None, f"left out: {error}"
    return flow_px, ""


def flow_px(clip):
    """Pixels a frame; 0 for a clip of one frame."""
    import cv2

    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in to_pixels(clip)]
    found = []
    for first, second in zip(grey, grey[1:]):
        flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        speed = np.sort(np.hypot(flow[..., 0], flow[..., 1]), axis=None)
        found.append(float(speed[-max(1, int(FASTEST * speed.size)) :].mean()))
    return sum(found) / max(len(found), 1)


def flicker(clip, prompt):
    """Mean absolute difference of the followed background, over the pixels that both frames of a pair show. prompt [13].
    0 for a clip of one frame; NaN where no pixel is shown twice."""
    frames = frames_of(clip)
    count, _, height, width = frames.shape
    if count == 1:
        return 0.0
    prompt = prompt.to(frames.device)[None]
    times = frame_times(count, frames.device)
    y, x = ((torch.arange(n, device=frames.device) + 0.5) * 2 / n - 1 for n in (height, width))
    x, y = torch.broadcast_tensors(x, y[:, None])
    camera = torch.stack([value[0] for value in camera_at(prompt, times)], dim=1)  # [frames, (x, y, half-width)]
    middle = torch.stack([value[0] for value in cut_out_at(prompt, times)], dim=1)

    def covered(at_x, at_y, frame):
        across, down = (at_x - middle[frame, 0]) * width / height, at_y - middle[frame, 1]
        return across.square() + down.square() <= (AROUND * prompt[0, 12]).square()

    total, pixels = 0.0, 0
    for first, second in zip(range(count - 1), range(1, count)):
        next_x, next_y = (
            (camera[first, axis] + camera[first, 2] * place - camera[second, axis]) / camera[second, 2]
            for axis, place in ((0, x), (1, y))
        )
        followed = F.grid_sample(
            frames[second : second + 1], torch.stack([next_x, next_y], -1)[None], align_corners=False
        )
        inside = (next_x.abs() <= 1 - 1 / width) & (next_y.abs() <= 1 - 1 / height)
        shown = inside & ~covered(x, y, first) & ~covered(next_x, next_y, second)
        difference = (followed[0] - frames[first]).abs().mean(0)
        total, pixels = total + difference[shown].sum().item(), pixels + int(shown.sum())
    return total / pixels if pixels else float("nan")
