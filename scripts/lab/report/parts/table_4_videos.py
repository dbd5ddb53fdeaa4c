"""Table 4, judged by videos of the small video DiT."""

from ..finding import Judged
from ..quality import printed_psnr
from ..videos import Choice, Videos, difference_words, paired, pairs_of


def judge(records, paper, plots):
    videos = records.once(Videos)
    pairs = pairs_of(videos, pool="max")
    table = ("table_4_videos", "Average and max pooling.", lambda one: one.pool, "pool")
    verdict, facts, tables = paired(videos, pairs, ("average", "max"), table)
    facts |= {"printed": printed_psnr(paper, "table4", "pool"), "chance": ""}
    for _, most in pairs[-1:]:
        if videos.get(random := Choice("random", most.sparsity)):
            words = difference_words(videos, most, random, ("max", "random blocks"))
            facts |= {"most": most.sparsity, "chance": words}
    return Judged(verdict, facts, tables)
