"""Random inputs of models: the axes have different sizes wherever a model allows it."""

from typing import Any

import torch

from .passes import Inputs

BATCH, TOKENS = 2, 7
WORDS = 99  # in the vocabularies of our tiny text models


def pixels(*sides: int, channels: int = 3, name: str = "", batch: int = BATCH) -> Inputs:
    """Images, or with three sides videos (batch, channels, frames, height, width)."""
    return _named(name, torch.randn(batch, channels, *sides), batch)


def frames(count: int, *sides: int) -> Inputs:
    """Videos as transformers takes them: (batch, frames, channels, height, width)."""
    return _named("pixel_values", torch.randn(BATCH, count, 3, *sides))


def image_for(size: int = 32, **more: Any) -> Inputs:
    """Square images for a model of transformers, and more arguments."""
    return Inputs((), {"pixel_values": torch.randn(BATCH, 3, size, size), **more}, BATCH)


def words(count: int = TOKENS, **more: Any) -> Inputs:
    return Inputs((), {"input_ids": word_ids(count), **more}, BATCH)


def word_ids(count: int = TOKENS, last: int | None = None) -> torch.Tensor:
    """Ids that are no special ones; ``last``: an id that has to come last."""
    ids = torch.randint(5, WORDS - 5, (BATCH, count))
    if last is not None:
        ids[:, -1] = last
    return ids


def translation() -> Inputs:
    """Words in, and the words that the decoder has written so far."""
    return words(decoder_input_ids=word_ids(5))


def sound(samples: int = 4000) -> Inputs:
    return _named("input_values", torch.randn(BATCH, samples))


def mono(samples: int = 4000) -> Inputs:
    """Sound with an axis for its one channel."""
    return _named("input_values", torch.randn(BATCH, 1, samples))


def numbers(*shape: int, name: str = "", **more: Any) -> Inputs:
    """Any other array of normally distributed numbers: (batch, *shape)."""
    found = _named(name, torch.randn(BATCH, *shape))
    return Inputs(found.args, {**found.kwargs, **more}, BATCH)


def _named(name: str, value: torch.Tensor, batch: int = BATCH) -> Inputs:
    return Inputs((), {name: value}, batch) if name else Inputs((value,), {}, batch)
