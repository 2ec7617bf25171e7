"""What the tests of guidance battery share."""

from typing import Any

import posteria as po
from posteria.guidance.base import TiltedRule
from posteria.testing import example_tilted

TARGET = example_tilted()
LEVELS = po.Karras(steps=12)


def rules(target: po.Tilted) -> dict[str, TiltedRule]:
    """One of each, with the models of a target."""
    laws = [target.prior.given(po.Label(k)) for k in range(3)]
    exact = po.guidance.BayesClassifier([
        law for law in laws if isinstance(law, po.GaussianMixture)
    ])
    clean = po.guidance.CleanClassifier(lambda x: exact(x), target.space, 3)
    return {
        "cfg": po.CFG(3.0),
        "rescale": po.guidance.Rescale(3.0),
        "interval": po.guidance.Interval(3.0, low=0.3, high=3.0),
        "cfgpp": po.guidance.CFGPlusPlus(lam=0.6),
        "zero_star": po.guidance.ZeroStar(3.0),
        "apg": po.APG(5.0, eta=0.2, radius=1.0, beta=-0.5),
        "autoguidance": po.guidance.AutoGuidance(1.7, weak=laws[1]),
        "rlg": po.guidance.RLG(1.7, tuned=laws[1]),
        "ag": po.guidance.AdaptiveGuidance(threshold=0.99),
        "linear_ag": po.guidance.LinearAG.fit(target, LEVELS, range(900, 930)),
        "dynamic": po.guidance.DynamicCFG(
            evaluators=(lambda x, sigma: exact.log_prob(0, x, sigma),)
        ),
        "gfcg": po.guidance.GFCG(classifier=exact),
        "two_level": po.guidance.TwoLevel(delta=0.5),
        "classifier": po.guidance.ClassifierGuidance(2.0, classifier=exact),
        "elucd": po.guidance.EluCD(2.0, classifier=clean, base="conditional"),
    }


RULES = rules(TARGET)
SAMPLERS: dict[str, po.samplers.Sampler[Any]] = {
    "guided": po.Guided(schedule=LEVELS),
    "guided apg": po.Guided(schedule=LEVELS, rule=po.APG(3.0, beta=-0.5)),
    "cfgig": po.CFGiG(schedule=po.Karras(steps=14, sigma_min=0.02), initial=6),
    "tilted": po.TiltedGibbs(schedule=po.schedules.LogLinear(steps=10), particles=16),
    "tilted rounds": po.TiltedGibbs(
        schedule=po.schedules.LogLinear(steps=6), particles=8, rounds=1, round_steps=4, dense=0
    ),
    "tilted alone": po.TiltedGibbs(
        schedule=po.Karras(steps=8), particles=1, rounds=2, round_steps=4, dense=6
    ),
}
