"""Figure 5: pictures of the paper's models."""

from ..finding import NOT_TESTABLE, Judged


def judge(records, paper, plots):
    return Judged(NOT_TESTABLE)
