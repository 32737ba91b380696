"""The public surface, name by name."""

from __future__ import annotations

import catalens
import encoders
import indexer
import retriever


def test_top_level_names() -> None:
    assert catalens.__all__ == [
        "BehaviourSummary",
        "BuildSummary",
        "CatalensError",
        "CommitSummary",
        "CompactSummary",
        "HeadMatch",
        "HeadOptions",
        "Hit",
        "Limits",
        "Progress",
        "Query",
        "Retriever",
        "SpaceMatch",
        "Writer",
        "build_index",
        "evaluate_index",
        "export_index",
        "import_index",
        "join_clicks",
        "learn_alignment",
        "learn_behaviour",
        "learn_fusion",
        "learn_head",
        "learn_head_from_interactions",
        "read_topics",
        "rebuild_index",
        "register_modality",
        "repair_index",
        "sweep_index",
        "tune_index",
    ]


def test_every_listed_name_is_there() -> None:
    for room in (catalens, encoders, indexer, retriever):
        assert sorted(room.__all__) == list(room.__all__)
        for name in room.__all__:
            assert hasattr(room, name), f"{room.__name__}.{name}"


def test_every_error_hangs_from_one_root_and_has_an_exit_code() -> None:
    import encoders.errors
    import indexer.catalog_errors
    import indexer.errors
    import indexer.interaction_errors
    import retriever.errors
    import retriever.filter_errors

    modules = (
        encoders.errors,
        indexer.errors,
        indexer.catalog_errors,
        indexer.interaction_errors,
        retriever.errors,
        retriever.filter_errors,
    )
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert len(found) > 30
    for error in found:
        assert issubclass(error, catalens.CatalensError)
        assert error.exit_code in (1, 2)
        assert error.__doc__
