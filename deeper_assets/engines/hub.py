"""Sends a folder to the Hugging Face Hub, in one commit.

The token is `HF_TOKEN`, or that of `hf auth login`.
"""

from pathlib import Path
from typing import Literal, TypeAlias

from deeper_assets.method.exceptions import DeeperError, one_line

Kind: TypeAlias = Literal["dataset", "model"]

_HINTS = {
    401: "; the token is not valid",
    403: "; the token may not write there",
    404: "; there is no such owner, or the token may not see it",
}


def refuse_unpushable(repository: str) -> None:
    """Refuses, before any work is done, a push that cannot succeed.

    Raises:
        DeeperError: `repository` is no OWNER/NAME that the Hub takes, or there is no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented there

    expected = f"--to-hub {repository}: expected OWNER/NAME, as in somebody/personas"
    if "/" not in repository:
        raise DeeperError(expected)
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise DeeperError(f"{expected}; {one_line(error)}") from error
    if get_token() is None:
        raise DeeperError(
            f"--to-hub {repository}: there is no token for the Hub; set HF_TOKEN, or log in with"
            " `hf auth login`"
        )


def push(folder: Path, repository: str, kind: Kind) -> str:
    """Uploads what is in a folder. Where there is no such repository, a private one is made.

    It is private because its contents derive from rating data sets, whose licences may forbid to publish
    them. Its owner can make it public on the Hub. Files of the same names are replaced, others stay.

    Returns:
        The repository's address.

    Raises:
        DeeperError: the Hub cannot be reached, or refuses. The folder stays as it is.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        address = api.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"{kind.capitalize()} exported by deeper-assets",
        )
    except HfHubHTTPError as error:
        status = error.response.status_code
        why = f"{api.endpoint} answered HTTP {status}{_HINTS.get(status, '')}"
        raise DeeperError(_unsent(folder, repository, kind, why)) from error
    except Exception as error:  # each release of huggingface_hub may raise what its HTTP library raises
        why = f"{api.endpoint} cannot be reached: {one_line(error).rstrip('.')}"
        raise DeeperError(_unsent(folder, repository, kind, why)) from error
    return str(address)


def _unsent(folder: Path, repository: str, kind: Kind, why: str) -> str:
    command = f"hf upload {repository} {folder} --type {kind} --private"
    return f"--to-hub {repository}: {why}. {folder} is written; `{command}` sends it"
