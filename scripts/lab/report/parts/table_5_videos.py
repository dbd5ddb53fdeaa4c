"""Table 5, judged by videos of the small video DiT."""

from ..finding import Judged
from ..quality import printed_psnr
from ..videos import Videos, paired, pairs_of


def judge(records, paper, plots):
    videos = records.once(Videos)
    table = ("table_5_videos", "Region sizes, average pooling.", _sides, "region")
    verdict, facts, tables = paired(videos, pairs_of(videos, region="16x16"), ("8x16", "16x16"), table)
    return Judged(verdict, facts | {"printed": printed_psnr(paper, "table5", "region")}, tables)


def _sides(one):
    return [int(side) for side in one.region.split("x")]
