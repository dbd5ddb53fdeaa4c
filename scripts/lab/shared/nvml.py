"""What the driver says of a GPU. Standard library only."""

import ctypes

# NVML's documented clock event reasons; idling is none that slows a kernel down.
THROTTLE_BITS = {
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


def throttle_names(bits):
    """Names of the reasons in NVML's bit mask."""
    return [name for bit, name in THROTTLE_BITS.items() if bits & bit]


class Nvml:
    """What the driver's library knows of one GPU; nothing where it is not there."""

    def __init__(self, uuid):
        self._device = ctypes.c_void_p()
        self._library: ctypes.CDLL | None = None
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            pass
        self._found = self._call("nvmlInit_v2") and self._call(
            "nvmlDeviceGetHandleByUUID", f"GPU-{uuid}".encode(), ctypes.byref(self._device)
        )

    def _call(self, name, *arguments):
        """Whether the function is there and succeeded."""
        function = getattr(self._library, name, None) if self._library else None
        return function is not None and function(*arguments) == 0

    def driver(self):
        """The driver's version, or None."""
        text = ctypes.create_string_buffer(96)
        return text.value.decode() if self._found and self._call("nvmlSystemGetDriverVersion", text, 96) else None

    def state(self):
        """{"sm_clock_mhz", "power_w", "throttle_reasons"} of now, as far as they can be had."""
        state: dict[str, float | list[str]] = {}
        if not self._found:
            return state
        value, bits = ctypes.c_uint(), ctypes.c_ulonglong()
        if self._call("nvmlDeviceGetClockInfo", self._device, 1, ctypes.byref(value)):  # 1: the SM clock
            state["sm_clock_mhz"] = value.value
        if self._call("nvmlDeviceGetPowerUsage", self._device, ctypes.byref(value)):  # in mW
            state["power_w"] = round(value.value / 1000, 1)
        if self._call("nvmlDeviceGetCurrentClocksThrottleReasons", self._device, ctypes.byref(bits)):
            state["throttle_reasons"] = throttle_names(bits.value)
        return state
