"""Draft attention under diffusers' context parallelism (Ulysses), in two processes with a GPU each."""

import unittest

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
if not hasattr(diffusers, "ContextParallelConfig"):
    pytest.skip("no context parallelism in this diffusers", allow_module_level=True)

import parallel_cases
from gpu_cases import GpuTest


class Ulysses(GpuTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if torch.cuda.device_count() < 2:
            raise unittest.SkipTest(f"needs 2 GPUs, found {torch.cuda.device_count()}")

    def test_videos_are_those_of_one_gpu(self):
        """Given models in bfloat16, and compiled ones in float32, claim: two GPUs give what one gives, up to what rounds
        otherwise: a quarter of what draft attention changes, at most. In a wrong order of heads they do not."""
        found = parallel_cases.run_ranks(("gpu_videos",), 2, "cuda")
        for name, make in parallel_cases.GPU_MAKERS.items():
            for way, element in (("plain", torch.bfloat16), ("compiled", torch.float32)):
                case = make().to("cuda", element)
                dense = case.run(parallel_cases.STEPS).float().cpu()
                wanted = parallel_cases.draft(case, strict=element == torch.bfloat16)[0].float().cpu()
                change = (wanted - dense).norm().item()
                self.assertGreater(change, 0.0)
                for mine in found:
                    video = mine["gpu_videos"][f"{name} {way}"].float()
                    self.assertLessEqual((video - wanted).norm().item(), change / 4, f"{name} {way}")
                    wrong = mine["gpu_videos"][f"{name} wrong"].float()
                    self.assertGreater((wrong - wanted).norm().item(), change / 4, f"{name} {way}")


if __name__ == "__main__":
    unittest.main()
