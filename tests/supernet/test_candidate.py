import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import Sparsity
from supernet import Candidate, Choice
from supernet.errors import InvalidCandidate, InvalidChoice

operators = st.sampled_from(["conv1x1", "conv3x3", "dw3x3_pw", "pw_dw3x3_pw(3)", "pw_dw3x3_pw(6)"])
sparsities = st.builds(
    Sparsity,
    st.sampled_from(["filter(8)", "channel", "block_punched(16x1)"]),
    st.sampled_from([1, 2, 2.5, 7, 10]) | st.floats(1, 1e9),
)
choices = st.builds(Choice, operators, sparsities)


@given(choices)
def test_text_reads_back_as_the_canonical_choice(choice: Choice) -> None:
    assert Choice.parse(str(choice)) == choice.canonical()


@given(st.lists(choices, max_size=5))
def test_json_reads_back(picked: list[Choice]) -> None:
    candidate = Candidate(tuple(choice.canonical() for choice in picked))
    assert Candidate.from_json(candidate.to_json()) == candidate


def test_canonical_form() -> None:
    assert Choice("conv3x3", Sparsity("filter", 1)).canonical() == Choice("conv3x3")
    assert Choice("skip", Sparsity("filter", 2)).canonical() == Choice("skip")
    assert str(Choice("conv3x3", Sparsity("block_punched(16x1)", 2.5))) == "conv3x3|block_punched(16x1)|2.5"
    assert str(Choice("skip")) == "skip|dense|1"


@pytest.mark.parametrize(
    "text", ["conv3x3", "conv3x3|dense|1|1", "conv9x9|dense|1", "conv3x3|dens|1", "conv3x3|filter|x", "skip|filter|0.5"]
)
def test_a_text_that_is_no_choice_is_refused(text: str) -> None:
    with pytest.raises(InvalidChoice, match=r"conv|skip"):
        Choice.parse(text)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["conv3x3"]', '"conv3x3|dense|1"'])
def test_a_text_that_is_no_candidate_is_refused(text: str) -> None:
    with pytest.raises(InvalidCandidate):
        Candidate.from_json(text)
