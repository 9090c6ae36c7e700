"""Everything the latency model refuses, by name."""

from __future__ import annotations


class LatencyModelError(RuntimeError):
    """Base of all errors raised by the latency model."""


class UnknownDevice(LatencyModelError):
    """No device of that name is configured."""


class InvalidDevice(LatencyModelError):
    """A device's configuration cannot be understood."""


class MeasurementFailed(LatencyModelError):
    """A device gave no usable times."""


class ProgramNotBuilt(MeasurementFailed):
    """The program of a network cannot be built for a device."""


class DeviceLost(MeasurementFailed):
    """A command that should run on a device failed: it is gone, or its program is."""


class DeviceHung(MeasurementFailed):
    """A device did not answer in time."""


class OutputUnreadable(MeasurementFailed):
    """The program on a device printed something else than times."""


class TimesEmulated(LatencyModelError):
    """Times of an emulated program, which say nothing about the device, were to be fitted."""


class StoreCorrupt(LatencyModelError):
    """A file of measured kernels is incomplete or was altered."""


class StoreMixed(LatencyModelError):
    """Measured kernels of several devices or compilers cannot be told apart without naming one."""


class TooFewMeasurements(LatencyModelError):
    """There is not enough measured to do what was asked."""


class InvalidMeasurement(LatencyModelError):
    """A measured time is not a positive finite number."""


class UnknownKernel(LatencyModelError):
    """A kernel of a kind that was never measured."""


class PredictorNotFound(LatencyModelError):
    """There is no saved predictor in the folder."""


class PredictorCorrupt(LatencyModelError):
    """A saved predictor is incomplete or was altered."""


class PeerFailed(LatencyModelError):
    """A runtime that was to be compared did not run."""
