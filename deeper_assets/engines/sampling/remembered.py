"""A policy that does not write again what it has written: policy, prompt, seed and decoding decide a text.

So a user whose history has grown costs that user's texts, and no others. They lie in a `diskcache` of the
home: bounded, for several processes at once, and nobody's loss.
"""

import hashlib
import json
import logging
import shutil
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeper_assets.method.protocols import Decoding, Sample, Sampler

LARGEST = 4 * 2**30
"""Bytes of all texts together; beyond, those that were not used for longest go."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RememberedSampler:
    """A policy and the texts that it has written in this home.

    Attributes:
        sampler: what writes.
        folder: where the texts lie; it is made by the first of them.
        about: what else decides a text: engine, greatest length, weights that the name does not tell apart.
    """

    sampler: Sampler
    folder: Path
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Identifies the policy."""
        return self.sampler.name

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        """Writes as many texts for each prompt as there are seeds for it; see `Sampler`."""
        keys = [self._key(prompt, own, decoding) for prompt, own in zip(prompts, seeds, strict=True)]
        texts = self._known(set(keys))
        new = [place for place, key in enumerate(keys) if key not in texts]
        if new:  # in one call: an engine loads once, and fills its batches
            written = self.sampler.sample(
                [prompts[place] for place in new], [seeds[place] for place in new], decoding
            )
            made = {keys[place]: samples for place, samples in zip(new, written, strict=True)}
            self._keep(made)
            texts |= made
        return [texts[key] for key in keys]

    def _key(self, prompt: str, seeds: Sequence[int], decoding: Decoding) -> str:
        drawn = len(seeds) if decoding.temperature == 0 else list(seeds)
        parts = [self.name, self.about, asdict(decoding), prompt, drawn]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _known(self, keys: set[str]) -> dict[str, list[Sample]]:
        if not self.folder.exists():
            return {}
        from diskcache import Cache, JSONDisk, Timeout

        try:
            with Cache(str(self.folder), disk=JSONDisk) as cache:
                found = {key: cache.get(key) for key in keys}
        except (sqlite3.Error, zlib.error, ValueError, OSError, Timeout) as error:
            # Only what says for sure that the file is damaged costs the texts; a full disk passes.
            damaged = isinstance(error, ValueError | zlib.error) or (
                getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
            )
            log.warning("the texts in %s cannot be read (%s): they are written again", self.folder, error)
            if damaged:
                shutil.rmtree(self.folder, ignore_errors=True)
            return {}
        return {key: [Sample(*text) for text in texts] for key, texts in found.items() if texts is not None}

    def _keep(self, made: Mapping[str, Sequence[Sample]]) -> None:
        from diskcache import Cache, JSONDisk, Timeout

        try:
            with Cache(
                str(self.folder),
                disk=JSONDisk,
                size_limit=LARGEST,
                eviction_policy="least-recently-used",
            ) as cache:
                for key, samples in made.items():
                    cache.set(key, [[text.text, text.tokens, text.finished] for text in samples], retry=True)
        except (sqlite3.Error, OSError, Timeout) as error:
            log.warning("%s cannot keep texts (%s): another run writes them again", self.folder, error)
