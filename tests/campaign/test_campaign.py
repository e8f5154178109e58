"""Ten kills of the campaign, on the way to Table 2 (`make campaign` goes on as long as one asks)."""

import campaign as kills
import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.long]


def test_results_after_ten_kills_are_those_of_an_undisturbed_run(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "LONGEST", 6.0)
    campaign = kills.Campaign(tmp_path, "table2", seed=1)
    campaign.run(minutes=10, most=10)
    assert campaign.kills.total() == 10
    assert not campaign.differences
    assert any(name.endswith("adapter_model.safetensors") for name in campaign.reference)
    assert any(name.endswith("table2.csv") for name in campaign.reference)
