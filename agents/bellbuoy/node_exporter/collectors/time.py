"""The clock: what time it is here, where it comes from, and what the kernel knows of its error."""

import ctypes
import glob
import os
import time
from collections.abc import Callable

from bellbuoy.exposition import COUNTER, GAUGE, Page, labels
from bellbuoy.node_exporter.machine import Machine, NoData, read_attribute
from bellbuoy.node_exporter.options import Options


def time_collector(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_time_*`."""

    def collect(page: Page) -> None:
        now = time.time()
        page.gauge("node_time_seconds", "System time in seconds since epoch (1970).", now)
        local = time.localtime(now)
        page.gauge(
            "node_time_zone_offset_seconds",
            "System time zone offset in seconds.",
            local.tm_gmtoff,
            labels(time_zone=local.tm_zone),
        )
        root = "/sys/devices/system/clocksource"
        for path in sorted(glob.glob(machine.sys("devices/system/clocksource/clocksource[0-9]*"))):
            device = path.rpartition("clocksource")[2]
            for name in (read_attribute(f"{path}/available_clocksource") or "").split():
                about = f"Available clocksources read from '{root}'."
                said = {"device": device, "clocksource": name}
                page.info("node_time_clocksource_available_info", about, said)
            if current := read_attribute(f"{path}/current_clocksource"):
                about = f"Current clocksource read from '{root}'."
                page.info("node_time_clocksource_current_info", about, {"device": device, "clocksource": current})

    return collect


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "seconds", "fraction", "tick")),
        *((name, ctypes.c_long) for name in ("ppsfreq", "jitter")),
        ("shift", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("stabil", "jitcnt", "calcnt", "errcnt", "stbcnt")),
        ("tai", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


_TIME_ERROR = 5
_STA_NANO = 0x2000
# Frequencies are parts per million with 16 bits of fraction.
_PPM_16 = 1_000_000 * 65536
_MICRO = 1_000_000

# Metric, kind, help, and the field of the struct with what divides it ("parts": by the unit that the status says).
TIMEX_FIELDS: tuple[tuple[str, str, str, str, int | str], ...] = (
    ("offset_seconds", GAUGE, "Time offset in between local system and reference clock.", "offset", "parts"),
    ("frequency_adjustment_ratio", GAUGE, "Local clock frequency adjustment.", "freq", _PPM_16),
    ("maxerror_seconds", GAUGE, "Maximum error in seconds.", "maxerror", _MICRO),
    ("estimated_error_seconds", GAUGE, "Estimated error in seconds.", "esterror", _MICRO),
    ("status", GAUGE, "Value of the status array bits.", "status", 1),
    ("loop_time_constant", GAUGE, "Phase-locked loop time constant.", "constant", 1),
    ("tick_seconds", GAUGE, "Seconds between clock ticks.", "tick", _MICRO),
    ("pps_frequency_hertz", GAUGE, "Pulse per second frequency.", "ppsfreq", _PPM_16),
    ("pps_jitter_seconds", GAUGE, "Pulse per second jitter.", "jitter", "parts"),
    ("pps_shift_seconds", GAUGE, "Pulse per second interval duration.", "shift", 1),
    (
        "pps_stability_hertz",
        GAUGE,
        "Pulse per second stability, average of recent frequency changes.",
        "stabil",
        _PPM_16,
    ),
    ("pps_jitter_total", COUNTER, "Pulse per second count of jitter limit exceeded events.", "jitcnt", 1),
    ("pps_calibration_total", COUNTER, "Pulse per second count of calibration intervals.", "calcnt", 1),
    ("pps_error_total", COUNTER, "Pulse per second count of calibration errors.", "errcnt", 1),
    (
        "pps_stability_exceeded_total",
        COUNTER,
        "Pulse per second count of stability limit exceeded events.",
        "stbcnt",
        1,
    ),
    ("tai_offset_seconds", GAUGE, "International Atomic Time (TAI) offset.", "tai", 1),
)


def timex(_: Machine, __: Options) -> Callable[[Page], None]:
    """`node_timex_*`: what the kernel knows of the clock's error, by adjtimex(2), which only reads here."""
    libc = ctypes.CDLL(None, use_errno=True)

    def collect(page: Page) -> None:
        said = _Timex()
        state = libc.adjtimex(ctypes.byref(said))
        if state < 0:
            code = ctypes.get_errno()
            if code == 1:
                raise NoData("adjtimex is not permitted here")
            raise OSError(code, f"cannot read the kernel's clock: adjtimex: {os.strerror(code)}")
        parts = 1_000_000_000 if said.status & _STA_NANO else _MICRO
        about = "Is clock synchronized to a reliable server (1 = yes, 0 = no)."
        page.gauge("node_timex_sync_status", about, int(state != _TIME_ERROR))
        for name, kind, about, field, unit in TIMEX_FIELDS:
            value = getattr(said, field)
            divisor = parts if unit == "parts" else unit
            if divisor != 1:
                value = value / divisor
            # The ratio is told as its distance from one.
            page.family(f"node_timex_{name}", kind, about).add(1 + value if field == "freq" else value)

    return collect
