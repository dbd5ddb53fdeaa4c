"""Tests of the arithmetic of a whole video's time."""

import unittest

from lab.shared.video_time import Parts, first_sparse_step


class VideoTime(unittest.TestCase):
    def test_a_step_that_begins_within_the_share_is_dense(self):
        """draftattention.diffusers' rule, step by step."""
        for share in (0.0, 0.1, 0.25, 0.5, 0.55, 1.0):
            for steps in (1, 4, 30, 50, 100):
                dense = [step for step in range(steps) if step < share * steps - 1e-9]
                self.assertEqual(first_sparse_step(share, steps), len(dense), (share, steps))
        self.assertEqual(first_sparse_step(0.25, 50), 13)

    def test_a_video_by_hand(self):
        found = Parts(20.0, 6.0, 13, 50, text_s=1.5, vae_s=30.0, file_s=4.0)
        self.assertEqual((found.steps_s, found.whole_s, found.missing), (482.0, 517.5, []))
        dense = Parts(20.0, 20.0, 50, 50, vae_s=30.0)
        self.assertEqual((dense.steps_s, dense.whole_s, dense.missing), (1000.0, 1030.0, ["text", "file"]))
        self.assertNotEqual(Parts(6.0, 20.0, 13, 50).steps_s, Parts(20.0, 6.0, 13, 50).steps_s)


if __name__ == "__main__":
    unittest.main()
