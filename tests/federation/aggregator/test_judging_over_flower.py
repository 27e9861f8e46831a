"""The private judge over the wire: judgements go up and the verdict comes down as updates and models do."""

import pytest

from consortium import make_consortium
from fedcall.errors import FedcallError
from fedcall.federation.site.visits import fetch_verdict, upload_judgement
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.study.judgement import JudgedSite
from fedcall.weights import read_weights
from service import served


def test_judge__over_the_wire(tmp_path):
    consortium = make_consortium(tmp_path, rounds=1, holdout={"north": 8, "south": 4}, evaluation={"epsilon": 0.5})
    totals = {"north": 2 * GRID, "south": -GRID}
    with served(consortium) as service:
        visitors = {site: service.visitor(site) for site in totals}
        models = {site: service.fetch(visitor, 1) for site, visitor in visitors.items()}
        for site, visitor in visitors.items():
            assert service.upload(visitor, 1, models[site]).status == "accepted"
        final = read_weights(service.fetch(visitors["north"], 2)).digest
        for site, visitor in visitors.items():
            path = tmp_path / f"{site}.judgement.json"
            path.write_bytes(consortium.judgement(site, final, totals[site]))
            receipt = upload_judgement(visitor, path, tmp_path / f"{site}.judgement.receipt.json")
            assert (receipt.status, receipt.round) == ("accepted", 2)
            assert upload_judgement(visitor, path, tmp_path / "again.json") == receipt
        verdict = fetch_verdict(visitors["south"], tmp_path / "south.judgement.json", tmp_path / "verdict.json")
        assert verdict.sites == tuple(
            JudgedSite(site=site, people=consortium.study.site(site).holdout or 0, total=total)
            for site, total in totals.items()
        )
        other = tmp_path / "other.judgement.json"
        other.write_bytes(consortium.judgement("south", final, 12345))
        with pytest.raises(FedcallError, match="says something else of site 'south'"):
            fetch_verdict(visitors["south"], other, tmp_path / "refused.json")
        assert not (tmp_path / "refused.json").exists()
