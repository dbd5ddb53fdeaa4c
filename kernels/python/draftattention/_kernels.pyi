"""Types of module.cpp. Tensors are DLPack capsules of CUDA memory: contiguous, but for q, k, v, o and pool's rows, whose
heads and tokens may be of any strides."""

from typing import Any

class Layout:
    def __new__(
        cls,
        heads: int,
        frames: int,
        height: int,
        width: int,
        text: int,
        head_dim: int,
        region_height: int,
        region_width: int,
    ) -> Layout: ...
    @property
    def heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def text(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def video(self) -> int: ...
    @property
    def regions(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def selection_workspace(self) -> int: ...

class Call:
    def __init__(
        self,
        layout: Layout,
        scale: float,
        region_order: bool,
        q: Any,
        k: Any,
        v: Any,
        o: Any,
        lse: Any,
        columns: Any | None,
        counts: Any | None,
        order: Any | None,
        pooled_k: Any | None = None,
        pooled_v: Any | None = None,
    ) -> None: ...
    def workspace(self, kernel: str) -> int: ...
    def launch(self, kernel: str, workspace: Any, stream: int) -> None: ...
    def quantise(self, kernel: str, workspace: Any, stream: int) -> None: ...
    def attend_quantised(self, kernel: str, workspace: Any, stream: int) -> None: ...

def kernels() -> list[tuple[str, str, bool]]: ...
def unsupported(
    kernel: str, layout: Layout, region_order: bool, capability: int, remainder: bool = False, strided: bool = False
) -> str: ...
def pool_both(layout: Layout, kind: str, q: Any, k: Any, pooled_q: Any, pooled_k: Any, stream: int) -> None: ...
def pool_elements(layout: Layout, kind: str, rows: Any, pooled: Any, stream: int) -> None: ...
def draft_logits(layout: Layout, pooled_q: Any, pooled_k: Any, logits: Any, stream: int) -> None: ...
def draft_probabilities(
    layout: Layout, scale: float, pooled_q: Any, pooled_k: Any, probabilities: Any, stream: int
) -> None: ...
def select(
    layout: Layout,
    rule: str,
    sparsity: float,
    scores: Any,
    workspace: Any,
    status: Any,
    columns: Any,
    counts: Any,
    order: Any,
    mask: Any,
    stream: int,
) -> None: ...
def reorder(layout: Layout, rows: Any, moved: Any, stream: int) -> None: ...
def restore(layout: Layout, rows: Any, moved: Any, stream: int) -> None: ...
