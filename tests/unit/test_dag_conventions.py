"""What a DAG says about its record is what PyAPI reads there."""

import pytest

from pyapi.dag_conventions import dag_id_of, describe_dag, record_id_of, revision_in


@pytest.mark.parametrize(
    "description",
    [
        "",
        "每日同步",
        "ends in · revision 99",
        "revision 99",
        "revision 99 · ",
        "x" * 5000,
        "two\nlines",
        "x" * 165 + " · revision 99",  # the middle of it is cut off
        " ",
    ],
)
@pytest.mark.parametrize("revision", [1, 12, 2**31 - 1])
def test_the_revision_is_read_whatever_the_description(description: str, revision: int) -> None:
    assert revision_in(describe_dag(description, revision=revision)) == revision


@pytest.mark.parametrize(
    ("description", "expected"),
    [("每日同步", "每日同步 · revision 3"), ("", "revision 3"), ("  ", "revision 3"), ("a ", "a · revision 3")],
)
def test_descriptions_are_for_people(description: str, expected: str) -> None:
    assert describe_dag(description, revision=3) == expected


@pytest.mark.parametrize(
    "description",
    [
        None,
        "",
        "每日同步",
        "revision",
        "revision x",
        "revision -1",
        "my revision 5",
        "revision 5 of 7",
        "revision 2147483648",
    ],
)
def test_no_revision(description: str | None) -> None:
    assert revision_in(description) is None


@pytest.mark.parametrize("record_id", [1, 10, 2**31 - 1])
def test_the_record_of_a_dag(record_id: int) -> None:
    assert record_id_of(dag_id_of(record_id)) == record_id


@pytest.mark.parametrize(
    "dag_id",
    ["", "pyapi", "pyapi_", "pyapi_0", "pyapi_01", "pyapi_1x", "xpyapi_1", "pyapi_-1", "PYAPI_1", "pyapi_2147483648",
     "pyapi_1\n", "pyapi_１"],
)  # fmt: skip
def test_dags_of_somebody_else(dag_id: str) -> None:
    assert record_id_of(dag_id) is None
