"""Tables keep their facts; bars, README tables and pictures follow from the rows."""

import math

import pandas as pd
import pytest

from benchmarks.bars import Bar, cifar_bars, kernel_bars, network_bars, reach_bars, supernet_bars, thread_bars
from benchmarks.errors import ResultsMissing
from benchmarks.kernels import with_ratios
from benchmarks.layers import LAYERS
from benchmarks.plots import network_times, speedup_by_rate
from benchmarks.readme import (
    cifar_table,
    dense_table,
    latency_table,
    network_table,
    public_table,
    reach_table,
    sparse_table,
    supernet_table,
)
from benchmarks.tables import read_table, write_table
from benchmarks.zoo import ZOO


def layer_rows(layer):
    """A peer that computes directly, ncnn by Winograd's method, ours dense and at 5x."""
    rows = [
        ("onnxruntime", "dense", 1.0, 1.0, 100.0, True),
        ("ncnn", "dense", 1.0, 1.0, 60.0, False),
        ("npas", "dense", 1.0, 1.0, 30.0, False),
        ("npas", "block_kernel(32x1)", 5.0, 5.0, 10.0, False),
    ]
    columns = ["runtime", "scheme", "rate", "effective_rate", "measured_us", "direct_peer"]
    table = pd.DataFrame(rows, columns=columns).assign(layer=layer, family=LAYERS[layer].family)
    return with_ratios(table.assign(gflops=LAYERS[layer].flops / table["measured_us"] / 1e3))


@pytest.fixture
def kernels():
    return pd.concat([layer_rows(name) for name in ("3x3 64@56", "3x3 128@28", "3x3 256@14")], ignore_index=True)


@pytest.fixture
def networks():
    rows = [("openvino", "dense", 1.0, 10.0), ("npas", "dense", 1.0, 8.0), ("npas", "block_punched", 5.0, 2.5)]
    table = pd.DataFrame(rows, columns=["runtime", "scheme", "rate", "measured_ms"])
    compiling = {"compile_s": 9.0, "compile_again_s": 0.5, "kernels": 20}
    return table.assign(network="mobilenet_v2", error=1e-6, speedup=10.0 / table["measured_ms"], **compiling)


def test_ratios(kernels):
    row = kernels[kernels["scheme"] == "block_kernel(32x1)"].iloc[0]
    assert row["speedup"] == pytest.approx(6)  # the best peer is ncnn
    assert row["share_of_ideal"] == pytest.approx(2)  # the best direct peer needs 100, a fifth of it is 20
    assert kernels.loc[kernels["runtime"] == "ncnn", "speedup"].eq(1).all()


def test_bars_of_kernels(kernels):
    bars = {bar.subject: bar for bar in kernel_bars(kernels)}
    assert bars["dense 3x3 at 56, 28, 14"].measured == pytest.approx(2)
    assert bars["dense 3x3 at 56, 28, 14"].verdict == "met"
    assert bars["block_kernel(32x1) at 5x"].measured == pytest.approx(6)
    assert bars["block_kernel(32x1) at 2x"].verdict == "not measured"
    fewer = kernels[kernels["layer"] != "3x3 256@14"]
    assert math.isnan({bar.subject: bar for bar in kernel_bars(fewer)}["block_kernel(32x1) at 5x"].measured)


def test_bars_of_patterns_are_those_of_stride_one():
    layers = [layer for layer in LAYERS.values() if layer.family in ("3x3", "3x3s2")]
    rows = [
        {"layer": layer.name, "family": layer.family, "runtime": "npas", "scheme": "pattern(4)", "rate": rate}
        | {"measured_us": 1.0, "speedup": 1.0, "share_of_ideal": 0.7 if layer.family == "3x3" else 0.1}
        for layer in layers
        for rate in (3.0, 5.0, 7.0, 10.0)
    ]
    bars = {bar.subject: bar for bar in kernel_bars(pd.DataFrame(rows))}
    assert bars["pattern(4)"].measured == pytest.approx(0.7)


def test_bars_of_threads():
    rows = [("resnet50", 1, 1.0), ("resnet50", 2, 1.9), ("mobilenet_v2", 2, 1.5), ("mobilenet_v2", 4, 3.0)]
    verdicts = [bar.verdict for bar in thread_bars(pd.DataFrame(rows, columns=["network", "threads", "speedup"]))]
    assert verdicts == ["met", "missed", "not measured"]


def test_bars_of_networks(networks):
    verdicts = {(bar.subject, bar.unit): bar.verdict for bar in network_bars(networks)}
    assert verdicts["mobilenet_v2 dense", "x the best peer"] == "met"
    assert verdicts["mobilenet_v2 block_punched", "x the best peer"] == "met"
    assert verdicts["resnet50 dense", "x the best peer"] == "not measured"
    assert verdicts["mobilenet_v2 compiled", "s a kernel"] == "missed"


def test_bars_of_reach():
    rows = [
        {"network": name, "runtime": "npas", "speedup": 0.9 if name == "vit_tiny" else 1.5}
        | {"arena_bytes": 14.0 if name == "unet" else 10.0, "live_bytes": 10.0}
        for name in ZOO
    ]
    table = pd.DataFrame(rows)
    bars = {bar.subject: bar for bar in reach_bars(table)}
    assert bars["convolutional networks"].measured == pytest.approx(1.5)
    assert {name for name, bar in bars.items() if bar.verdict == "missed"} == {"vit_tiny dense", "unet activations"}
    fewer = reach_bars(table[table["network"] != "resnet18"])
    assert {bar.subject for bar in fewer if bar.verdict == "not measured"} == {"convolutional networks"}


@pytest.fixture
def cifar():
    columns = ["network", "run", "method", "sparsities", "rate", "epochs", "accuracy", "lost", "measured_ms"]
    columns += ["other_ms", "over_onnxruntime", "as_fast_as", "share_of_target"]
    rows = [
        ("resnet20", "dense", "dense", None, 1.0, None, 91.7, 0.0, 0.6, 1.0, 2.0, None, None),
        ("resnet20", "resnet20-5x-long-seed0", "npas", "b@5", 5.02, 9, 90.0, 1.7, 0.3, None, 4.0, None, None),
        ("resnet20", "resnet20-5x-long-seed1", "npas", "b@5", 5.02, 9, 89.0, 2.7, 0.3, None, 4.0, None, None),
        ("resnet20", "c-seed0", "torch-pruning", None, 2.0, 9, 89.4, 2.3, 0.3, 0.5, 4.0, "resnet20-5x-long", 1.02),
        ("resnet20", "d-seed0", "torch-pruning", None, 2.0, 9, 88.0, 3.7, 0.4, 0.5, 4.0, "resnet20-5x-long", 1.2),
        ("resnet56", "e-seed0", "npas", "b@2", 2.0, 9, 93.3, 0.1, 1.5, None, 2.4, None, None),
    ]
    return pd.DataFrame(rows, columns=columns)


def test_bars_of_trained_networks(cifar):
    bars = {(bar.subject, bar.unit): bar for bar in cifar_bars(cifar)}
    assert bars["resnet20-5x-long", "points lost"].measured == pytest.approx(2.2)  # the mean of two seeds
    assert bars["resnet20-5x-long", "points lost"].verdict == "missed"
    assert bars["resnet20-5x-long", "x fewer weights"].verdict == "met"
    assert bars["resnet20-2.5x-long", "points lost"].verdict == "not measured"
    assert bars["resnet56, 2.5x ONNX Runtime", "points lost"].verdict == "not measured"  # not fast enough
    assert bars["c-seed0", "points behind ours"].measured == pytest.approx(0.1)
    assert bars["d-seed0", "points behind ours"].verdict == "not measured"  # not equally fast


def test_bars_of_networks_inside_the_supernet():
    table = pd.DataFrame({"candidate": ["smallest", "largest"], "test_behind": [1.9, 1.1]})
    assert [bar.verdict for bar in supernet_bars(table)] == ["missed", "met"]
    assert [bar.verdict for bar in supernet_bars(table[:1])] == ["not measured", "met"]


def test_readme_table_of_networks_inside_the_supernet_and_alone():
    row = {"candidate": "largest", "mmacs": 40.06, "epochs": 8, "test_inside": 80.0, "test_alone": 81.5}
    lines = supernet_table(pd.DataFrame([{**row, "test_behind": 1.5}])).splitlines()
    assert lines[2:] == ["| largest | 40.1 | 80.00 | 81.50 | 1.50 | 8 |"]


def test_readme_table_of_trained_networks(cifar):
    table = cifar_table(cifar)
    assert "| ResNet-20 dense | 1.00x | – | 91.70 | – | **0.6** (2.00x) | 1 |" in table
    assert "| ResNet-20 b@5 | 5.02x | 9 | 90.00 | 1.70 | **0.3** (4.00x) | – |" in table
    assert "| ResNet-20 torch-pruning | 2.00x | 9 | 89.40 | 2.30 | **0.3** (4.00x) | 0.5 |" in table


def test_verdicts():
    assert Bar("a", "x", 2.0, 2.0).verdict == "met"
    assert Bar("a", "x", 2.0, 1.9).verdict == "missed"
    assert Bar("a", "s", 2.0, 2.1, at_most=True).verdict == "missed"


def test_a_table_comes_back_with_its_facts(tmp_path, kernels):
    path = tmp_path / "results" / "kernels.csv"
    facts = {"processor": "some, 3 GHz: fast", "peak_gflops": "150", "not measured on x, y": "two\nlines"}
    write_table(path, kernels, facts)
    table, found = read_table(path)
    assert found == facts | {"not measured on x, y": "two lines"}
    pd.testing.assert_frame_equal(table, kernels, rtol=1e-5, check_dtype=False)
    assert [file.name for file in path.parent.iterdir()] == ["kernels.csv"]


def test_a_table_that_was_not_measured(tmp_path):
    with pytest.raises(ResultsMissing, match=r"python -m benchmarks\.networks"):
        read_table(tmp_path / "networks.csv")


def test_readme_tables(kernels, networks):
    assert "| MobileNetV2 1.0 | 10 | **8** (1.25x) | **2.5** (4.00x) |" in network_table(networks)
    assert dense_table(kernels).count("\n") == 1 + 3
    assert "| block_kernel(32x1) | 6.00 | 200 % |" in sparse_table(kernels, "3x3")


def test_pictures(kernels, networks):
    (lines,) = speedup_by_rate(kernels, "3x3").axes
    assert list(lines.lines[0].get_ydata()) == pytest.approx([6])
    (bars,) = network_times(networks).axes
    assert [patch.get_height() for patch in bars.patches] == pytest.approx([1, 0.8, 0.25])


def test_readme_table_of_predictions():
    row = {"set": "kernels", "count": 260, "within_5": 91.4, "within_10": 98.1, "rmspe": 3.28, "spearman": 0.9991}
    table = pd.DataFrame([{**row, "covered": 92.6}, {**row, "spearman": math.nan, "covered": 90.0}])
    lines = latency_table(table).splitlines()
    assert lines[2] == "| kernels | 260 | 91 % | 98 % | 3.3 % | 0.999 | 93 % |"
    assert "| – |" in lines[3]


def test_readme_table_of_published_latencies_is_a_mean_over_devices():
    rows = [
        ("A", device, 10, sources, spearman + shift, rmspe)
        for device, shift in (("x", 0.0), ("y", 0.1))
        for sources, spearman, rmspe in (("alone", 0.5, 20.0), ("others", 0.8, 10.0))
    ]
    table = pd.DataFrame(rows, columns=["table", "device", "samples", "sources", "spearman", "rmspe"])
    assert public_table(table).splitlines()[2:] == ["| A | 10 | 0.550 | 20.0 % | 0.850 | 10.0 % |"]


def test_readme_table_of_the_zoo():
    rows = [
        {"network": "unet", "runtime": "onnxruntime", "measured_ms": 30.0, "speedup": 1.0},
        {"network": "unet", "runtime": "npas", "measured_ms": 12.0, "speedup": 2.5, "arena_bytes": 5e6},
    ]
    assert "| U-Net, transposed | 30 | **12** (2.50x) | 5 |" in reach_table(pd.DataFrame(rows))
