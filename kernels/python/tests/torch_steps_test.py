"""Which step of which run a pass of a transformer is, with diffusers' own schedulers and pipelines."""

import contextlib
import threading
import unittest

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from diffusers_cases import VALID, hunyuan, numbers, text_mask, wan
from draftattention._steps import CountedSteps
from draftattention.diffusers import apply_draft_attention, intercept_self_attention

FLOW = dict(prediction_type="flow_prediction", use_flow_sigmas=True)


class Watch:
    """The places of all passes, (step, steps, nth), and the runs that they make."""

    def __init__(self, model_or_pipeline, **options):
        self.places = []
        self.control = intercept_self_attention(model_or_pipeline, self.attend, layers=[0], **options)

    def attend(self, call):
        self.places.append((call.model.step, call.model.steps, call.model.nth))
        return call.dense()

    def take(self):
        taken, self.places = self.places, []
        return taken


def every(steps, passes):
    return [(step, steps, nth) for step in range(steps) for nth in range(passes)]


def given(case, steps, **changed):
    """The pipeline's call with sizes of its own, which Case.run fixes."""
    named = (
        dict(
            num_inference_steps=steps,
            guidance_scale=4.0,
            height=16,
            width=16,
            num_frames=1,
            output_type="latent",
            generator=torch.Generator().manual_seed(0),
        )
        | case.embeds
        | changed
    )
    return case.pipeline(**named)


def shared_with(case, scheduler):
    """Another pipeline with the case's transformer."""
    pipeline = diffusers.WanPipeline(**(case.pipeline.components | {"scheduler": scheduler}))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def schedulers():
    """Name, scheduler: those that do not depend on the order of their timesteps' values, or make them collide."""
    d = diffusers
    yield from [(f"Euler, shift {shift}", d.FlowMatchEulerDiscreteScheduler(shift=shift)) for shift in (1.0, 7.0, 17.0)]
    yield "Euler, rising", d.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    yield "Euler, stochastic", d.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    yield "Heun", d.FlowMatchHeunDiscreteScheduler(shift=5.0)
    yield "LCM", d.FlowMatchLCMScheduler(shift=5.0)
    yield from [(f"UniPC, shift {shift}", d.UniPCMultistepScheduler(flow_shift=shift, **FLOW)) for shift in (3.0, 40.0)]
    yield from [
        (f"DPM-Solver {order}", d.DPMSolverMultistepScheduler(flow_shift=8.0, solver_order=order, **FLOW))
        for order in (1, 2, 3)
    ]
    yield from [
        (f"DPM-Solver, single step {order}", d.DPMSolverSinglestepScheduler(flow_shift=8.0, solver_order=order, **FLOW))
        for order in (1, 2, 3)
    ]
    yield "DPM-Solver, to the final sigma", d.DPMSolverMultistepScheduler(euler_at_final=True, **FLOW)
    yield "DEIS", d.DEISMultistepScheduler(flow_shift=8.0, **FLOW)
    yield "SA-Solver", d.SASolverScheduler(flow_shift=8.0, **FLOW)
    yield "Euler, discrete", d.EulerDiscreteScheduler()
    yield "Heun, discrete", d.HeunDiscreteScheduler()
    yield "KDPM2", d.KDPM2DiscreteScheduler()


class Runs(unittest.TestCase):
    def test_every_scheduler_in_every_type(self):
        """Given a scheduler, claim: every entry of its timesteps is one step, with two passes under guidance."""
        for name, scheduler in schedulers():
            for dtype, steps, scale in ((torch.float32, 6, 4.0), (torch.bfloat16, 25, 1.0)):
                with self.subTest(name, dtype=dtype):
                    case = wan()
                    case.transformer.to(dtype)
                    case.pipeline.scheduler = scheduler
                    watch = Watch(case.pipeline)
                    given(case, steps, guidance_scale=scale)
                    ran = len(scheduler.timesteps)
                    self.assertIn(ran, (steps, 2 * steps - 1))
                    self.assertEqual(watch.take(), every(ran, 1 + (scale > 1)))

    def test_colliding_timesteps(self):
        """Given HunyuanVideo in bfloat16, whose pipeline rounds timesteps to it, claim: 100 steps, 25 of them dense."""
        case = hunyuan()
        case.to("cpu", torch.bfloat16)
        case.pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=17.0)
        with apply_draft_attention(case.pipeline, layers=[0]) as control:
            given(case, 100)
        rounded = case.pipeline.scheduler.timesteps.bfloat16().tolist()
        self.assertLess(len(set(rounded)), 80)
        self.assertEqual((control.calls, control.dense_calls), (100, 25))

    def test_timesteps_and_sigmas_of_one_s_own(self):
        case = hunyuan()
        watch = Watch(case.pipeline)
        given(case, 0, sigmas=[1.0, 0.9, 0.9, 0.9, 0.2])
        self.assertEqual(watch.take(), every(5, 1))
        case.pipeline.scheduler.set_shift(1.0)
        given(case, 0, sigmas=[1.0, 0.5])
        self.assertEqual(watch.take(), every(2, 1))

    def test_true_guidance_is_a_second_pass(self):
        case = hunyuan()
        negative = {
            "negative_prompt_embeds": numbers(1, 9, 16),
            "negative_pooled_prompt_embeds": numbers(1, 8),
            "negative_prompt_attention_mask": text_mask([VALID]),
        }
        watch = Watch(case.pipeline)
        given(case, 3, true_cfg_scale=3.0, **negative)
        self.assertEqual(watch.take(), every(3, 2))

    def test_two_transformers_and_timesteps_of_each_token(self):
        case = wan(boundary_ratio=0.8)
        watch = Watch(case.pipeline)
        given(case, 8)
        self.assertEqual(watch.take(), every(8, 2))
        case = wan()
        case.pipeline.register_to_config(expand_timesteps=True)
        watch = Watch(case.pipeline)
        given(case, 5, num_frames=5)
        self.assertEqual(watch.take(), every(5, 2))

    def test_a_run_that_begins_with_a_video_counts_the_steps_that_run(self):
        for scheduler in (
            diffusers.UniPCMultistepScheduler(flow_shift=5.0, **FLOW),
            diffusers.FlowMatchEulerDiscreteScheduler(shift=17.0),
            diffusers.FlowMatchHeunDiscreteScheduler(),
        ):
            for strength in (1.0, 0.7, 0.4):
                pipeline = diffusers.WanVideoToVideoPipeline(
                    tokenizer=None, text_encoder=None, vae=None, transformer=wan().transformer, scheduler=scheduler
                )
                pipeline.set_progress_bar_config(disable=True)
                watch, control = Watch(pipeline), None

                def run():
                    pipeline(
                        prompt_embeds=numbers(1, 7, 16),
                        negative_prompt_embeds=numbers(1, 7, 16),
                        height=16,
                        width=32,
                        num_inference_steps=20,
                        strength=strength,
                        latents=numbers(1, 4, 1, 2, 4),
                        output_type="latent",
                    )

                with self.subTest(type(scheduler).__name__, strength=strength):
                    run()
                    ran = pipeline.num_timesteps
                    self.assertEqual(watch.take(), every(ran, 2))
                    watch.control.remove()
                    with apply_draft_attention(pipeline, layers=[0]) as control:
                        run()
                    self.assertEqual((control.calls, control.dense_calls), (2 * ran, 2 * -(-ran // 4)))

    def test_runs_one_after_another(self):
        """Given runs of other lengths, broken ones, and another scheduler, claim: each begins at step 0."""
        case, breaks = wan(), [5]

        def fail(*_):
            breaks[0] -= 1
            if not breaks[0]:
                raise KeyError("in the middle")

        watch = Watch(case.pipeline)
        for steps in (4, 4, 7, 2):
            given(case, steps)
            self.assertEqual(watch.take(), every(steps, 2))
        for at in (1, 2, 3, 6):
            breaks[0] = at
            handle = case.transformer.blocks[1].register_forward_pre_hook(fail)
            with self.assertRaises(KeyError):
                given(case, 4)
            handle.remove()
            self.assertEqual(watch.take(), every(4, 2)[:at])
            given(case, 4)
            self.assertEqual(watch.take(), every(4, 2))
        for other in (
            diffusers.UniPCMultistepScheduler(flow_shift=5.0, **FLOW),
            diffusers.FlowMatchEulerDiscreteScheduler.from_config(case.pipeline.scheduler.config),
        ):
            case.pipeline.scheduler = other
            given(case, 3)
            self.assertEqual(watch.take(), every(3, 2))

    def test_callbacks_that_change_the_schedule_the_scheduler_or_the_guidance_or_interrupt(self):
        def anew(pipeline, step):
            if step == 2:
                pipeline.scheduler.set_timesteps(9)
                pipeline.scheduler.set_begin_index(step + 1)

        def replaced(pipeline, step):
            pipeline.scheduler.timesteps = pipeline.scheduler.timesteps.clone()

        def other(pipeline, step):
            if step == 1:
                pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0)
                pipeline.scheduler.set_timesteps(6)
                pipeline.scheduler.set_begin_index(step + 1)

        def alone(pipeline, step):
            pipeline._guidance_scale = 1.0 if step >= 2 else 4.0

        def interrupt(pipeline, step):
            pipeline._interrupt = step >= 3

        full = every(6, 2)
        for change, places in [
            (anew, full),
            (replaced, full),
            (other, full),
            (interrupt, full[:8]),
            (alone, full[:6] + [(step, 6, 0) for step in (3, 4, 5)]),
        ]:
            case = wan()
            watch = Watch(case.pipeline)
            with self.subTest(change.__name__):
                given(case, 6, callback_on_step_end=lambda pipeline, step, t, kwargs: change(pipeline, step) or {})
                self.assertEqual(watch.take(), places)

    def test_a_loop_of_one_s_own_with_the_pipeline_s_scheduler(self):
        """Given a loop outside of the pipeline, over all timesteps or the last ones, claim: its steps from 0 on."""
        case = wan()
        watch = Watch(case.pipeline)
        for others in (diffusers.DPMSolverMultistepInverseScheduler(**FLOW), diffusers.IPNDMScheduler()):
            case.pipeline.scheduler = others
            others.set_timesteps(8)
            for t in others.timesteps:
                with torch.no_grad():
                    case.transformer(numbers(1, 4, 1, 2, 4), t.expand(1), numbers(1, 7, 16))
                others.step(numbers(1, 4, 1, 2, 4), t, numbers(1, 4, 1, 2, 4))
            self.assertEqual(watch.take(), every(8, 1))
        case.pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        for begin in (None, 0, 3):
            scheduler, latents = case.pipeline.scheduler, numbers(1, 4, 1, 2, 4)
            scheduler.set_timesteps(8)
            if begin is not None:
                scheduler.set_begin_index(begin)
            for t in scheduler.timesteps[begin or 0 :]:
                for embeds in case.embeds.values():
                    with torch.no_grad():
                        flow = case.transformer(latents, t.expand(1), embeds, return_dict=False)[0]
                latents = scheduler.step(flow, t, latents, return_dict=False)[0]
            self.assertEqual(watch.take(), every(8 - (begin or 0), 2))

    def loop(self, case, steps, passes=1, skipped=(), breaks=False, begin=0, dtype=torch.float32):
        """A denoising loop over the timesteps of the pipeline's scheduler, with or without a pass in each turn."""
        scheduler, latents = case.pipeline.scheduler, numbers(1, 4, 1, 2, 4)
        scheduler.set_timesteps(steps)
        for turn, t in enumerate(scheduler.timesteps[begin:]):
            for _ in range(passes * (turn not in skipped)):
                rows = scheduler.scale_model_input(latents, t) if hasattr(scheduler, "scale_model_input") else latents
                with torch.no_grad():
                    flow = case.transformer(rows, t.expand(1).to(dtype), numbers(1, 7, 16), return_dict=False)[0]
            if breaks:
                return
            latents = scheduler.step(flow, t, latents, return_dict=False)[0]

    def test_loops_that_break_down_leave_passes_out_or_scale_the_input(self):
        case = wan()
        watch = Watch(case.pipeline)
        for _ in range(2):
            self.loop(case, 5, breaks=True)
            self.assertEqual(watch.take(), [(0, 5, 0)])
        self.loop(case, 6, skipped=(2, 3))  # a cache of outputs stood in for the model
        self.assertEqual(watch.take(), [(step, 6, 0) for step in (0, 1, 4, 5)])
        case.pipeline.scheduler = diffusers.EulerDiscreteScheduler()  # which has its index before the first pass
        for steps in (5, 3, 5):
            self.loop(case, steps, passes=2)
            self.assertEqual(watch.take(), every(steps, 2))

    def test_a_loop_of_one_s_own_after_a_run_that_broke_down(self):
        case, broken = wan(), lambda *_: 1 / 0
        watch = Watch(case.pipeline)
        with self.assertRaises(ZeroDivisionError):
            given(case, 4, callback_on_step_end=broken)
        self.assertEqual(watch.take(), every(4, 2)[:2])
        self.loop(case, 6)
        self.assertEqual(watch.take(), every(6, 1))
        given(case, 4)
        self.assertEqual(watch.take(), every(4, 2))

    def test_a_scheduler_that_does_not_count(self):
        """Given one without step_index, claim: the pipeline's own loop says the step; a loop elsewhere is refused."""

        class Other(diffusers.DDIMScheduler):
            sigmas = torch.zeros(1000)

            def set_begin_index(self, begin):
                pass

        case = wan()
        case.pipeline.scheduler = Other()
        watch = Watch(case.pipeline)
        for steps in (5, 3):
            given(case, steps)
            self.assertEqual(watch.take(), every(steps, 2))
        with self.assertRaisesRegex(ValueError, "pipeline: wanted a run .*, and Other with no step_index"):
            self.loop(case, 4)

    def test_a_loop_that_does_not_step_its_scheduler_is_refused(self):
        """Given passes with other timesteps while the scheduler stands still, claim: refused at the second timestep,
        whatever the passes a step; the next run counts from 0. Passes with one timestep are one step's."""
        case = wan()
        watch = Watch(case.pipeline)
        for set_begin in (False, True):
            scheduler = case.pipeline.scheduler
            scheduler.set_timesteps(8)
            if set_begin:
                scheduler.set_begin_index(0)
            first, second = scheduler.timesteps[:2]
            with torch.no_grad():
                for t in (first, first, first.clone(), second):
                    message = rf"pipeline: wanted step\(\) of its FlowMatch.*, found {second} after {first} at one step"
                    with self.assertRaisesRegex(ValueError, message) if t is second else contextlib.nullcontext():
                        case.transformer(numbers(1, 4, 1, 2, 4), t[None], numbers(1, 7, 16))
            self.assertEqual(watch.take(), [(0, 8, 0), (0, 8, 1), (0, 8, 2)])
            self.loop(case, 4, passes=2)
            self.assertEqual(watch.take(), every(4, 2))
        given(case, 3)
        self.assertEqual(watch.take(), every(3, 2))

    def test_a_loop_of_one_s_own_over_the_last_timesteps(self):
        """Given no begin index, claim: the steps that run are known from the first pass on, by a rounded timestep
        too."""
        case = wan()
        watch = Watch(case.pipeline)
        flow = diffusers.FlowMatchEulerDiscreteScheduler
        for scheduler in (
            flow(shift=3.0),
            flow(shift=17.0),
            diffusers.UniPCMultistepScheduler(flow_shift=3.0, **FLOW),
            diffusers.EulerDiscreteScheduler(),
            diffusers.FlowMatchHeunDiscreteScheduler(),
        ):
            case.pipeline.scheduler = scheduler
            for dtype in (torch.float32, torch.bfloat16):
                for begin in (0, 2, 6):
                    with self.subTest(type(scheduler).__name__, dtype=dtype, begin=begin):
                        self.loop(case, 8, passes=2, begin=begin, dtype=dtype)
                        self.assertEqual(watch.take(), every(len(scheduler.timesteps) - begin, 2))

    def test_a_scheduler_that_was_taken_away(self):
        case = wan()
        Watch(case.pipeline)
        case.pipeline.scheduler = None
        with torch.no_grad(), self.assertRaisesRegex(ValueError, "pipeline: wanted one with a scheduler, found none"):
            case.transformer(numbers(1, 4, 1, 2, 4), torch.tensor([900.0]), numbers(1, 7, 16))

    def test_another_pipeline_s_pass_is_refused(self):
        """Given a transformer in two pipelines: with one scheduler both are followed, with two the other is refused."""
        case = wan()
        watch = Watch(case.pipeline)
        shared = shared_with(case, case.pipeline.scheduler)
        named = dict(height=16, width=16, num_frames=1, output_type="latent", num_inference_steps=4, **case.embeds)
        shared(**named)
        self.assertEqual(watch.take(), every(4, 2))
        shared.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
        with self.assertRaisesRegex(ValueError, "pipeline: wanted the 4 steps of its run, found a pass .* after them"):
            shared(**named)
        watch.control.remove()
        fresh = wan()
        watch = Watch(fresh.pipeline)
        with self.assertRaisesRegex(ValueError, "pipeline: wanted a run of .*, found .* with no timesteps set"):
            shared_with(fresh, shared.scheduler)(**named)
        failed = []

        def both(pipeline, step, t, kwargs):
            if step == 1:
                try:
                    shared_with(fresh, shared.scheduler)(**named)
                except ValueError as error:
                    failed.append(str(error))
            return {}

        given(fresh, 4, callback_on_step_end=both)
        self.assertRegex(failed[0], "timestep: wanted .*, where the pipeline stands .*, found 1000.0: another pipe")
        self.assertEqual(watch.take(), every(4, 2))

    def test_draft_attention_that_is_applied_during_a_run(self):
        case, controls = wan(), []

        def apply(pipeline, step, t, kwargs):
            if step == 2:
                controls.append(apply_draft_attention(pipeline, layers=[0], dense_steps=0.5))
            return {}

        given(case, 8, callback_on_step_end=apply)
        self.assertEqual((controls[0].calls, controls[0].dense_calls), (10, 2))  # steps 3 to 7, the first of them dense

    def test_pipelines_in_threads(self):
        """Given a pipeline in each thread, all with draft attention, claim: each has its own steps."""
        cases = [wan() for _ in range(3)]
        watches = [Watch(case.pipeline) for case in cases]
        threads = [threading.Thread(target=given, args=(case, 3 + number)) for number, case in enumerate(cases)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([watch.take() for watch in watches], [every(3 + number, 2) for number in range(3)])


class Bare(unittest.TestCase):
    """A bare transformer's steps, by the changes of its timestep."""

    def steps(self, count, values):
        counted = CountedSteps(count)
        return [counted.find(torch.tensor([float(value)]))[:2] for value in values]

    def test_counts_changes_of_the_timestep(self):
        steps = CountedSteps(3)
        values = (900.0, 900.0, 500.0, 500.0, 100.0, 900.0, 500.0, 900.0, 500.0, 100.0)
        found = [steps.find(torch.tensor([value])) for value in values]
        self.assertEqual([place.step for place in found], [0, 0, 1, 1, 2, 0, 1, 0, 1, 2])
        self.assertEqual([place.nth for place in found], [0, 1, 0, 1, 0, 0, 0, 0, 0, 0])
        with self.assertRaisesRegex(ValueError, "steps: wanted the length of the schedule, found 3 and timestep 4, 50"):
            steps.find(torch.tensor([50.0]))

    def test_timesteps_of_each_token_count_by_the_largest(self):
        # Given passes whose first frame is clean, at 0, and whose other tokens are at 900, 700, 500, claim: three steps.
        steps = CountedSteps(3)
        found = [steps.find(torch.tensor([[0.0, float(t)]])) for t in (900, 900, 700, 500)]
        self.assertEqual([place.step for place in found], [0, 0, 1, 2])

    def test_rising_timesteps(self):
        found = self.steps(3, (0, 0, 400, 400, 900, 0, 400, 0, 400, 900))
        self.assertEqual(found, [(step, 3) for step in (0, 0, 1, 1, 2, 0, 1, 0, 1, 2)])
        with self.assertRaisesRegex(ValueError, "steps: .* found 2 and timestep 3, 900"):
            self.steps(2, (0, 400, 900))

    def test_passes_before_a_run(self):
        """Given a pass on its own, or a run that broke down in its first step, claim: the run behind it begins at step
        0, falling or rising; a run that rises from the upper half is known from its third step on."""
        fall = (1000, 900, 600, 300)
        for before in (900, 500, 1, 0, 300):
            with self.subTest(before=before):
                self.assertEqual(self.steps(4, (before, *fall, *fall)), [(0, 4), *2 * [(step, 4) for step in range(4)]])
                if before > fall[-1]:  # one below is a fifth step
                    self.assertEqual(self.steps(4, (*fall, before, *fall))[5:], [(step, 4) for step in range(4)])
        self.assertEqual(self.steps(4, (600, 700, 800, 1000)), [(0, 4), (0, 4), (2, 4), (3, 4)])
        self.assertEqual(self.steps(2, (0, 1000, 0, 1000)), [(step, 2) for step in (0, 1, 0, 1)])

    def test_one_step(self):
        self.assertEqual(self.steps(1, (900, 900, 950)), [(0, 1)] * 3)
        with self.assertRaisesRegex(ValueError, "steps: .* found 1 and timestep 2, 500"):
            self.steps(1, (900, 500))
