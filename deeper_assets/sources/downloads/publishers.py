"""Where the original data sets lie: official addresses, files, licences and citations, in one place.

The names of the files are their publishers': a reader of the originals looks for them in the same folder.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from deeper_assets.method.exceptions import DeeperError, did_you_mean


@dataclass(frozen=True)
class RemoteFile:
    """One file of a publisher's.

    Attributes:
        address: where it lies.
        size: bytes, about; None where it is not known beforehand.
        md5: where the publisher gives its MD5 checksum; None where he gives none.
        members: what is unpacked of it, for a zip; it is kept as it is otherwise.
    """

    address: str
    size: int | None = None
    md5: str | None = None
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rpartition("/")[2]

    @property
    def kept(self) -> tuple[str, ...]:
        """The paths, in the download folder, of what is there in the end."""
        return self.members or (self.name,)


@dataclass(frozen=True)
class Dataset:
    """What one download fetches, and what its publisher asks of whoever uses it."""

    title: str
    page: str
    licence: str
    citation: str
    files: tuple[RemoteFile, ...]


_MOVIELENS = "https://files.grouplens.org/datasets/movielens"
_AMAZON_2018 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"
_AMAZON_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw"
_GOOGLE_LOCAL = "https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal"
_FOOD = "shuyangli94/food-com-recipes-and-user-interactions"

MOVIELENS_SIZES: dict[str, int] = {
    "20m": 198_702_078,
    "25m": 261_978_986,
    "32m": 238_950_008,
    "latest": 335_000_000,
    "latest-small": 1_000_000,
}
"""Releases, and bytes of their zips. The paper's is 20m; the latest ones change from time to time."""

_BOTH_YEARS = (
    *("All_Beauty", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Books", "CDs_and_Vinyl"),
    *("Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry", "Digital_Music", "Electronics"),
    *("Gift_Cards", "Grocery_and_Gourmet_Food", "Home_and_Kitchen", "Industrial_and_Scientific"),
    *("Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products"),
    *("Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors"),
    *("Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games"),
)
AMAZON_CATEGORIES: dict[int, tuple[str, ...]] = {
    2018: tuple(sorted((*_BOTH_YEARS, "AMAZON_FASHION", "Luxury_Beauty", "Prime_Pantry"))),
    2023: tuple(
        sorted(
            (
                *(*_BOTH_YEARS, "Amazon_Fashion", "Baby_Products", "Beauty_and_Personal_Care"),
                *("Handmade_Products", "Health_and_Household", "Health_and_Personal_Care"),
                *("Subscription_Boxes", "Unknown"),
            )
        )
    ),
}

STATES = (
    *("Alabama", "Alaska", "Arizona", "Arkansas", "California", "Colorado", "Connecticut", "Delaware"),
    *("District_of_Columbia", "Florida", "Georgia", "Hawaii", "Idaho", "Illinois", "Indiana", "Iowa"),
    *("Kansas", "Kentucky", "Louisiana", "Maine", "Maryland", "Massachusetts", "Michigan", "Minnesota"),
    *("Mississippi", "Missouri", "Montana", "Nebraska", "Nevada", "New_Hampshire", "New_Jersey"),
    *("New_Mexico", "New_York", "North_Carolina", "North_Dakota", "Ohio", "Oklahoma", "Oregon"),
    *("Pennsylvania", "Rhode_Island", "South_Carolina", "South_Dakota", "Tennessee", "Texas", "Utah"),
    *("Vermont", "Virginia", "Washington", "West_Virginia", "Wisconsin", "Wyoming"),
)

FOOD = (
    f"Food.com's ratings lie at Kaggle, which wants an account: log in at"
    f" https://www.kaggle.com/datasets/{_FOOD}, read its terms, press Download, and put RAW_interactions.csv"
    f" and RAW_recipes.csv of the archive into the folder (or, with Kaggle's own program:"
    f" `kaggle datasets download {_FOOD} --unzip`). To cite: B. P. Majumder, S. Li, J. Ni, J. McAuley."
    f" Generating Personalized Recipes from Historical User Preferences. EMNLP 2019"
)
"""What to do in the place of a download."""


def movielens(size: str) -> Dataset:
    """A release of MovieLens, by its name in `MOVIELENS_SIZES`.

    Raises:
        DeeperError: there is no such release.
    """
    size = _chosen(size, MOVIELENS_SIZES, "size of MovieLens")
    name = f"ml-{size}"
    address = f"{_MOVIELENS}/{name}.zip"
    members = tuple(f"{name}/{file}" for file in ("ratings.csv", "movies.csv", "README.txt"))
    return Dataset(
        title=f"MovieLens {size}",
        page=f"https://grouplens.org/datasets/movielens/{'latest' if 'latest' in size else size}/",
        licence=(
            "for research; not for anything commercial without GroupLens' permission; passed on under the"
            " same conditions only; no endorsement may be implied. The whole text:"
            f" {_MOVIELENS}/{name}-README.html"
        ),
        citation=(
            "F. M. Harper, J. A. Konstan. The MovieLens Datasets: History and Context. ACM Transactions on"
            " Interactive Intelligent Systems 5(4), 2015. https://doi.org/10.1145/2827872"
        ),
        files=(RemoteFile(address, MOVIELENS_SIZES[size], f"{address}.md5", members),),
    )


def amazon(category: str, year: int, complete: bool) -> Dataset:
    """A category of Amazon's reviews, with the titles of its products.

    Args:
        category: as the publisher spells it, or nearly so.
        year: of the release, 2018 or 2023.
        complete: all reviews; otherwise those of 2018 between users and products with five or more each.
            The reviews of 2023 are complete in any case.

    Raises:
        DeeperError: that release has no such category.
    """
    category = _chosen(category, AMAZON_CATEGORIES[year], f"category of Amazon's reviews of {year}")
    licence = (
        "none is given: the publisher is in no position to give one, and offers the reviews for research."
        " They are their writers', and Amazon's terms hold"
    )
    if year == 2023:
        return Dataset(
            title=f"Amazon reviews 2023, {category}",
            page="https://amazon-reviews-2023.github.io/",
            licence=licence,
            citation=(
                "Y. Hou, J. Li, Z. He, A. Yan, X. Chen, J. McAuley. Bridging Language and Items for Retrieval"
                " and Recommendation. arXiv:2403.03952, 2024"
            ),
            files=(
                RemoteFile(f"{_AMAZON_2023}/review_categories/{category}.jsonl.gz"),
                RemoteFile(f"{_AMAZON_2023}/meta_categories/meta_{category}.jsonl.gz"),
            ),
        )
    reviews = f"categoryFiles/{category}" if complete else f"categoryFilesSmall/{category}_5"
    return Dataset(
        title=f"Amazon reviews 2018, {category}",
        page="https://nijianmo.github.io/amazon/",
        licence=licence,
        citation=(
            "J. Ni, J. Li, J. McAuley. Justifying Recommendations using Distantly-Labeled Reviews and"
            " Fine-Grained Aspects. EMNLP 2019"
        ),
        files=(
            RemoteFile(f"{_AMAZON_2018}/{reviews}.json.gz"),
            RemoteFile(f"{_AMAZON_2018}/metaFiles2/meta_{category}.json.gz"),
        ),
    )


def google_local(state: str, complete: bool) -> Dataset:
    """The reviews of a state's businesses, with their names and addresses.

    Args:
        state: as the publisher spells it ("New_York"), or nearly so.
        complete: all reviews; otherwise those between users and businesses with ten or more each.

    Raises:
        DeeperError: there is no such state.
    """
    state = _chosen(state, STATES, "state of Google Local")
    return Dataset(
        title=f"Google Local reviews 2021, {state}",
        page=f"{_GOOGLE_LOCAL}/",
        licence="none is given: the publisher offers the reviews for research. They are their writers'",
        citation=(
            "J. Li, J. Shang, J. McAuley. UCTopic: Unsupervised Contrastive Learning for Phrase"
            " Representations and Topic Mining. ACL 2022; and A. Yan, Z. He, J. Li, T. Zhang, J. McAuley."
            " Personalized Showcases: Generating Multi-Modal Explanations for Recommendations. SIGIR 2023"
        ),
        files=(
            RemoteFile(f"{_GOOGLE_LOCAL}/review-{state}{'' if complete else '_10'}.json.gz"),
            RemoteFile(f"{_GOOGLE_LOCAL}/meta-{state}.json.gz"),
        ),
    )


def _chosen(word: str, known: Iterable[str], what: str) -> str:
    """The known name that is meant: case does not count, and a space is an underscore."""
    names = {name.lower(): name for name in known}
    folded = "_".join(word.lower().replace(",", " ").replace("&", " and ").split())
    if folded not in names:
        hint = did_you_mean(word, names.values()) or f"; known: {', '.join(names.values())}"
        raise DeeperError(f"there is no {what} called {word!r}{hint}")
    return names[folded]
