"""Tests of what records say of the machine and the build."""

import re
import unittest
from unittest import mock

import pytest

from lab.shared import nvml, records


class Driver(unittest.TestCase):
    def test_throttle_bits(self):
        self.assertEqual(nvml.throttle_names(0x1), [])
        self.assertEqual(nvml.throttle_names(0x4 | 0x40), ["sw_power_cap", "hw_thermal_slowdown"])

    def test_a_machine_without_nvml_says_nothing(self):
        with mock.patch("ctypes.CDLL", side_effect=OSError):
            without = nvml.Nvml("0")
        self.assertEqual((without.state(), without.driver()), ({}, None))


class Provenance(unittest.TestCase):
    def setUp(self):
        pytest.importorskip("torch")

    def test_build_and_machine_have_the_names_of_the_other_records(self):
        build = records.build_info()
        self.assertLessEqual({"commit", "dirty", "type", "compiler", "flags", "cuda"}, set(build))
        self.assertTrue(build["commit"] == "unknown" or re.fullmatch("[0-9a-f]{40}", build["commit"]))
        told = records.build_info("abc")
        self.assertEqual((told["commit"], told["dirty"]), ("abc", None))
        with mock.patch("ctypes.CDLL", side_effect=OSError):
            machine = records.machine_info(nvml.Nvml("0"))
        self.assertLessEqual({"cpu", "cores", "memory_gb", "gpu"}, set(machine))
