"""Latencies: measured once on a device, predicted for everything else, compared with other runtimes."""

from latency_model.adaptive import AdaptiveProgress, profile_adaptively
from latency_model.device import Device, load_device
from latency_model.environment import Environment
from latency_model.errors import LatencyModelError
from latency_model.held_out import is_held_out
from latency_model.network import NetworkPrediction
from latency_model.peers import compare_runtimes, onnx_peer, onnx_session
from latency_model.predictor import LatencyPredictor
from latency_model.profile import ProfileProgress, profile
from latency_model.sampling import Selection, choose_kernels
from latency_model.store import KernelStore

__all__ = [
    "AdaptiveProgress",
    "Device",
    "Environment",
    "KernelStore",
    "LatencyModelError",
    "LatencyPredictor",
    "NetworkPrediction",
    "ProfileProgress",
    "Selection",
    "choose_kernels",
    "compare_runtimes",
    "is_held_out",
    "load_device",
    "onnx_peer",
    "onnx_session",
    "profile",
    "profile_adaptively",
]
