"""This project's kernels, as the module draftattention lists them."""

from ..inputs import REGION
from .contender import TIMED, UNTIMED, Contender

BY_DEFAULT = ("wgmma", "mma", "wgmma_8bit", "wgmma_8bit_attend")


def own(library, kernel, eight=False):
    """One of them, from tensors as the model has them. One of 8 bits quantises within the call, and the clock sees it."""

    def prepare(call, case):
        return lambda: library.attention(
            call.q, call.k, call.v, grid=call.grid, region=REGION, lists=case.lists, kernel=kernel
        )[0]

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


def quantised(library, kernel):
    """A kernel of 8 bits whose operands are quantised before the clock starts."""

    def prepare(call, case):
        attend = library.QuantisedAttention(
            call.q, call.k, call.v, grid=call.grid, region=REGION, lists=case.lists, kernel=kernel
        )
        return lambda: attend()[0]

    return Contender(
        f"{kernel}_attend",
        "token",
        True,
        prepare,
        "operands quantised before: the attention alone",
        operands="8 bit",
        quantising=UNTIMED,
        ours=True,
    )


def variants(library, row):
    """The contenders that a kernel, a row of library.kernels(), makes: one of 8 bits with and without quantising."""
    kernel, eight = row["name"], row["eight_bit"]
    made = [own(library, kernel, eight)]
    return [*made, quantised(library, kernel)] if eight else made


def contenders_of(library):
    """{name: contender} of all kernels of the library, in its order."""
    made = [each for row in library.kernels() for each in variants(library, row)]
    return {each.name: each for each in made}
