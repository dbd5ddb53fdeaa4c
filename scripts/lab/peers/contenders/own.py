"""This project's kernels, as the module draftattention lists them."""

from ..inputs import REGION
from .contender import TIMED, Contender

BY_DEFAULT = ("wgmma", "mma", "wgmma_8bit")
EIGHT_BITS = "_8bit"  # how the names of kernels end that quantise what they multiply


def own(library, kernel):
    """One of them, from tensors as the model has them. One of 8 bits quantises within the call, and the clock sees it."""

    def prepare(call, case):
        return lambda: library.attention(
            call.q, call.k, call.v, grid=call.grid, region=REGION, lists=case.lists, kernel=kernel
        )[0]

    eight = kernel.endswith(EIGHT_BITS)
    return Contender(
        kernel,
        "token",
        True,
        prepare,
        "straight from token order: nothing is reordered",
        operands="8 bit" if eight else "",
        quantising=TIMED if eight else "",
        ours=True,
    )


def variants(library, kernel):
    """The contenders that a kernel makes. One of 8 bits whose quantising is done before the clock starts
    (quantising=UNTIMED, the tensors quantised in its `prepare`) stands here beside the first as soon as the library has
    the two steps apart; the report wants its name in OWN_KERNELS of lab/report/calls.py."""
    return [own(library, kernel)]


def contenders_of(library):
    """{name: contender} of all kernels of the library, in its order."""
    made = [each for row in library.kernels() for each in variants(library, row["name"])]
    return {each.name: each for each in made}
