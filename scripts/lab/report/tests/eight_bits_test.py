"""The section on 8-bit numbers in videos: each verdict on planted records, the split by source, and what is missing."""

import unittest

from lab.report import parts
from lab.report.finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE
from lab.report.tests import synthetic_videos
from lab.report.tests.verdicts_test import Planted, of
from lab.report.tests.video_verdicts_test import without_lpips

CLIPS = 12
KINDS = ("video", "video_heads", "video_eight_bits")


class EightBits(Planted):
    @classmethod
    def setUpClass(cls):
        cls.videos = [one for one in synthetic_videos.generate(CLIPS) if one["experiment"] in KINDS[:2]]
        wanted = synthetic_videos.config("draft", 0.9)
        cls.plain = next(one for one in cls.videos if one["experiment"] == "video" and one["config"] == wanted)

    def found(self, change=lambda item: item, videos=True, **planted):
        self.planted = list(synthetic_videos.eight_bits(CLIPS, self.plain, **planted))
        self.planted += self.videos if videos else []
        return self.finding(of(parts.table_2_videos), change, KINDS)

    def invented(self):
        return self.planted

    def left_out(self, *names):
        def change(item):
            return None if item["config"].get("configuration") in names else item

        return change

    def test_little_is_lost_and_the_lead_kept(self):
        found = self.found()
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("26.77 dB to the dense FP8 video, Sparse VideoGen 25.59 dB", found.claim)
        self.assertRegex(
            found.measured, r"draft_90_fp8 -?0\.0\d \[-0\.\d\d, 0\.\d\d\] dB \(to the video of 16-bit numbers 2"
        )
        self.assertRegex(found.measured, r"both with FP8 layers: PSNR \(dB\) 1\.\d\d \[")
        self.assertIn("at 90% by -0.0", found.headline)
        self.assertFalse(any("emulation" in text for text in found.why))

    def test_what_is_lost_contradicts_or_is_a_caveat(self):
        self.assertEqual(self.found(losses={"8bit": 2.0}).verdict, CONTRADICTED)
        self.assertEqual(self.found(losses={"8bit_fp8": 0.5}).verdict, CAVEAT)  # beside the limit
        self.assertEqual(self.found(losses={"fp8": -2.0}).verdict, CONFIRMED)
        self.assertEqual(self.found(against_svg=-1.5).verdict, CONTRADICTED)
        self.assertEqual(self.found(against_svg=0.0).verdict, CAVEAT)

        def blurred(item):  # nearer by PSNR and SSIM, farther by LPIPS
            if item["config"].get("configuration") != "svg_90_fp8":
                return item
            return dict(item, arrays={**item["arrays"], "lpips_alike": [0.0] * CLIPS})

        self.assertEqual(self.found(blurred).verdict, CAVEAT)

    def test_sources(self):
        tables = self.found().tables
        self.assertEqual([table.name for table in tables], ["table_2_videos", "table_2_sources"])
        rows = [row for row in tables[1].rows if row[0] == "draft_90"]
        # By hand: 1, 4, 4 and 16 of 25 in squares of a percent, whose root is 5.
        self.assertEqual([round(row[5], 6) for row in rows[:4]], [0.04, 0.16, 0.16, 0.64])
        self.assertEqual([row[5] for row in rows[4:6]], [None, None])
        self.assertAlmostEqual(rows[6][2], 0.05, delta=1e-12)
        self.assertTrue(any("linear layers to FP8 64%, " in text for text in self.found().why))
        one_less = self.found(self.left_out("draft_90_p", "dense_p"))
        self.assertEqual((one_less.verdict, len(one_less.tables[1].rows)), (CONFIRMED, 10))
        self.assertFalse(any("in squares" in text for text in one_less.why))

    def test_the_table_has_every_configuration(self):
        table = self.found().tables[0]
        names = [row[0] for row in table.rows]
        self.assertEqual(len(names), 14)
        self.assertEqual(names[6:8] + names[-1:], ["draft_90", "draft_90_fp8", "svg_90_fp8"])
        by_name = {row[0]: dict(zip(table.columns, row)) for row in table.rows}
        self.assertEqual(by_name["draft_90"]["less draft_90's [95%]"], "-")
        self.assertEqual(by_name["draft_90_qk"]["attention"], "emulation of qk")
        self.assertEqual(by_name["dense_8bit"]["LPIPS, to dense of the same rounding [95%]"], "-")
        self.assertFalse([name for name in self.found(without_all_lpips).tables[0].columns if "LPIPS" in name])

    def test_what_is_missing(self):
        found = self.found(self.left_out("draft_90_fp8", "draft_90_8bit_fp8", "svg_90_fp8"))
        self.assertEqual(found.verdict, CAVEAT)
        self.assertIn("Not measured: draft_90_fp8, draft_90_8bit_fp8, svg_90_fp8.", found.measured)

        def refused(item):
            if "fp8" not in item["config"].get("configuration", ""):
                return item
            return dict(item, status="skipped", reason="not installed: torchao", metrics={}, arrays=None)

        self.assertIn("(not installed: torchao).", self.found(refused).measured)
        for one in ("svg_90_fp8", "draft_90_8bit_fp8"):
            found = self.found(self.left_out(one))
            self.assertEqual(found.verdict, CAVEAT)
            self.assertIn(f"Not measured: {one}.", found.measured)

        def emulated(item):
            whole = item["config"].get("configuration", "").endswith("8bit")
            return dict(item, config=item["config"] | {"rounds": "qk+p+v"}) if whole else item

        self.assertTrue(any("not the kernel" in text for text in self.found(emulated).why))

    def test_nothing_or_no_plain_draft_or_other_clips(self):
        for found in (
            self.found(lambda item: None),
            self.found(lambda item: item if item["experiment"] != "video_eight_bits" else None),
            self.found(videos=False),
            self.found(
                lambda item: item if "eight" in item["experiment"] else dict(item, input=item["input"] | {"clips": 9})
            ),
        ):
            self.assertEqual((found.verdict, found.measured, found.tables), (NOT_TESTABLE, NOT_MEASURED, []))


def without_all_lpips(item):
    arrays = {name: one for name, one in (item.get("arrays") or {}).items() if not name.startswith("lpips")}
    return dict(without_lpips(item), arrays=arrays) if item.get("arrays") else item


if __name__ == "__main__":
    unittest.main()
