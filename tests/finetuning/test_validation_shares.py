"""Validation rows that several processes share out: the numbers of one process, each row once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import panderm
from panderm.errors import DataError
from panderm.finetuning.network import network_for
from panderm.finetuning.rows import rows_of
from panderm.finetuning.validation import Validation


@pytest.mark.parametrize("processes", [2, 3, 9])
def test_shares_are_the_whole_to_the_bit(processes: int, table: panderm.Table) -> None:
    """Also where there are more processes than batches, and where pixels are kept from the epoch before."""
    rows = rows_of(table)
    started = network_for("random-tiny", image_size=32, classes=3)
    model = started.network.train()
    alone = Validation(rows, started.preprocess, batch=4)
    wanted = alone.joined([alone.share(model)])
    assert wanted.shape == (len(rows.val), 3)
    assert model.training
    each = [Validation(rows, started.preprocess, batch=4) for _ in range(processes)]
    for _ in range(2):
        shares = [one.share(model, rank=r, world=processes) for r, one in enumerate(each)]
        assert sum(len(batch) for share in shares for batch in share) == len(rows.val)
        assert np.array_equal(alone.joined(shares), wanted)
    assert shares[0]
    assert processes < 9 or not shares[-1]


def test_logits_that_are_no_numbers(table: panderm.Table) -> None:
    rows = rows_of(table)
    started = network_for("random-tiny", image_size=32, classes=3)
    with torch.no_grad():
        started.network.head.bias[0] = torch.nan
    validation = Validation(rows, started.preprocess)
    with pytest.raises(DataError, match="every validation row must get finite logits"):
        validation.joined([validation.share(started.network)])
