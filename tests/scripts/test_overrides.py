"""What is typed behind a command."""

import os
import re

import pytest

from scripts import cli
from scripts.errors import InvalidOverride
from scripts.overrides import explained, quoted


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("plan=block_punched(16x1)@5", "plan='block_punched(16x1)@5'"),
        ("plan=nm(2:4, share=16)@2", "plan='nm(2:4, share=16)@2'"),
        (
            "plan={a.*: filter(8)@2, b: {0: nm(2:4)@2}, c: dense}",
            "plan={a.*: 'filter(8)@2', b: {0: 'nm(2:4)@2'}, c: dense}",
        ),
        ("plan='filter(8)@2'", "plan='filter(8)@2'"),
        ("plan=filter@2", "plan=filter@2"),
        ("seed=range(1,3)", "seed=range(1,3)"),
        ("plan={1.0: 'filter(8)@2'}", "plan={1.0: 'filter(8)@2'}"),
    ],
)
def test_sparsities_need_no_quotation_marks(typed: str, given: str) -> None:
    assert quoted(typed) == given


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("search budget", r"'budget' cannot be read: missing EQUAL.*Allowed: key=value.*npas search --help"),
        ("search budget=[50%", r"'budget=\[50%' cannot be read.*'budget=\[50%,25%\]'"),
        ("search search.trial=3", r"There is no setting 'search\.trial'\. Allowed: search\.trials"),
        (
            "search space=tyni",
            r"no 'tyni' in the group 'space'\. Allowed: mobile_cifar, .*own_model, tiny",
        ),
        ("search training.finetune.momentum=0", r"others; \+training\.finetune\.momentum=\.\.\. for what"),
        ("search +seed=3", r"An item is already at 'seed'"),
        ("prune modle=net.py:build", r"There is no setting 'modle'\. Allowed: model.*npas prune --help"),
        ("sweep seed=0,1 bugdet=50%", r"There is no setting 'bugdet'\. Allowed: budget"),
    ],
)
def test_what_cannot_be_read_is_explained_on_one_panel(
    typed: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["npas"])
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit, match="2"):
        cli.main(typed.split())
    shown = capsys.readouterr().err
    assert InvalidOverride.__name__ in shown
    assert re.search(said, " ".join(shown.replace("│", " ").split()))


def test_how_hydra_tells_errors_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with explained("config"):
        pass
    assert "HYDRA_FULL_ERROR" not in os.environ
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with explained("config"):
        pass
    assert os.environ["HYDRA_FULL_ERROR"] == "0"
