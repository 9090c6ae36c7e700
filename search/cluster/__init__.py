"""Where candidates are evaluated and where the device is: in this process, or on a cluster of machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

# Ray reads these when it is imported: it neither phones home nor warns that it will one day show no devices to tasks
# without any, and it does not end this process, which may be training by then, after a minute without its head.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "1000000")

from search.cluster.base import Cluster, Evaluator, Outcome, Workers
from search.cluster.local import LocalCluster
from search.errors import InvalidCluster, RayNotInstalled

__all__ = ["Cluster", "Evaluator", "LocalCluster", "Outcome", "Workers", "make_cluster"]


def make_cluster(config: Mapping[str, Any], device: str = "local") -> Cluster:
    """The cluster that `conf/cluster/*.yaml` describes; nothing is started or connected before it is needed.

    Args:
        config: `driver`, and the arguments of that driver's cluster.
        device: name of the device that latencies are measured on.

    Raises:
        InvalidCluster: there is no such driver, or it does not take these arguments.
        RayNotInstalled: the driver is `ray`, which is not there.
    """
    options = {str(key): value for key, value in config.items()}
    driver = options.pop("driver", None)
    kinds: dict[str, Callable[[], Callable[..., Cluster]]] = {"local": lambda: LocalCluster, "ray": _ray}
    if driver not in kinds:
        raise InvalidCluster(f"there is no driver {driver!r} of a cluster; choose one of {', '.join(kinds)}")
    try:
        return kinds[driver]()(device=device, **options)
    except TypeError as error:
        raise InvalidCluster(f"cluster={driver} does not take these settings: {error}") from error


def _ray() -> Callable[..., Cluster]:
    try:
        kind: Callable[..., Cluster] = import_module("search.cluster.ray").RayCluster
    except ModuleNotFoundError as error:
        raise RayNotInstalled(
            f"cluster=ray needs Ray ({error}): pip install 'npas[ray]', here and on every node, or use cluster=local"
        ) from error
    return kind
