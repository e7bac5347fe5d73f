"""The paper's users, and windows like theirs."""

from deeper_assets.engines.token_counts import chat_tokens
from deeper_assets.method.domains import PAPER_DOMAINS
from deeper_assets.method.paper_users import PAPER, paper_windows
from deeper_assets.store.schema import TABLES


def test_they_are_as_many_as_in_the_published_files() -> None:
    assert list(PAPER) == [domain.name for domain in PAPER_DOMAINS]
    assert sum(one.users["train"] for one in PAPER.values()) == 10_800
    assert sum(one.users["eval"] for one in PAPER.values()) == 4_809
    assert all((PAPER[domain.name].users["train"] > 0) == domain.seen for domain in PAPER_DOMAINS)


def test_their_windows_have_what_all_rounds_need_and_titles_of_its_length() -> None:
    windows = paper_windows("book", {"train": 2, "eval": 1})
    assert list(windows.columns) == list(TABLES["rating_windows"].column_names)
    assert windows.groupby(["split", "user_id"]).size().to_dict() == {
        **{("train", "train-0"): 60, ("train", "train-1"): 60, ("eval", "eval-0"): 60}
    }
    assert (windows.groupby(["user_id", "window"])["place"].agg(list).map(len) == 10).all()
    count = chat_tokens("gpt-4o").count
    assert set(windows["title"].map(count)) == {10}
    assert windows["title"].nunique() > 150
    assert windows.equals(paper_windows("book", {"train": 2, "eval": 1}))
    assert paper_windows("grocery", {"train": 0, "eval": 0}).empty
