"""A study of some sites whose updates are masked and whose noise is pooled."""

from fedcall.study.terms import Study

KEY = "A" * 43 + "="
HELPER = {"name": "notary", "public_key": KEY, "node_key": "key", "hpke_key": KEY}
POOLED = {"noise": "pooled", "steps_per_round": 1, "delta": 1e-3}
DELTA = {"contribution": "delta", "local_steps": 4, "steps_per_round": 1}
MASKED = {"mode": "masked", "minimum_sites": 3}


def make_study(sites=4, privacy=None, protection=None, patients=10, **changes):
    """Return a masked study of `sites` sites with pooled noise, with other terms as given."""
    names = [f"site{number:02d}" for number in range(sites)]
    content = {
        "name": "pooled",
        "coordinator": KEY,
        "sites": [{"name": name, "public_key": KEY, "node_key": "key", "patients": patients} for name in names],
        "model": {"initial_weights": "0" * 64},
        "privacy": POOLED if privacy is None else privacy,
        "protection": MASKED if protection is None else protection,
        **changes,
    }
    return Study.model_validate(content)
