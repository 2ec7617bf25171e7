"""The twelve leads of an electrocardiogram: their names, and what follows from what."""

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ...core.errors import require, unknown

LIMBS = ("I", "II", "III", "aVR", "aVL", "aVF")
CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
TWELVE = LIMBS + CHEST
# The leads that a prior draws; the other four follow from I and II.
EIGHT = ("I", "II", *CHEST)
# Einthoven and Goldberger: each limb lead as so much of I and of II.
OF_LIMBS = ((1, 0), (0, 1), (-1, 1), (-0.5, -0.5), (1, -0.5), (-0.5, 1))
# What stands around a name, and other names of the same electrodes.
AROUND = re.compile(
    r"^((ECG|EKG|LEAD|CH|ABLEITUNG)(-|[\s_:.]*))+|[\s_:.-]*REF\W*$|[\s_:.\[\]()\"']"
)
ALSO = {
    **{f"M{name}": name for name in ("LI", "LII", "LIII")},
    **{f"D{name}": name for name in ("I", "II", "III")},
    **{f"D{i}": "I" * i for i in (1, 2, 3)},
    **{f"L{name}": name for name in ("I", "II", "III")},
    **{f"C{i}": f"V{i}" for i in range(1, 7)},
}
BY_NAME = {name.upper(): name for name in TWELVE}


def twelve() -> Tensor:
    """The matrix `[12, 8]` from the leads that a prior draws to all of them."""
    matrix = torch.zeros(12, 8, dtype=torch.float64)
    matrix[:6, :2] = torch.tensor(OF_LIMBS, dtype=torch.float64)
    matrix[6:, 2:] = torch.eye(6, dtype=torch.float64)
    return matrix


def rows_of(leads: Sequence[str]) -> Tensor:
    """The rows of that matrix for some of the leads, `[k, 8]`."""
    return twelve()[[TWELVE.index(lead) for lead in leads]]


def plain_name(name: str) -> str:
    """A name in capitals, without what stands around it."""
    return AROUND.sub("", name.strip().upper())


def lead_of(name: str) -> str | None:
    """The lead of a name in a usual spelling (`v1`, `AVR`, `MLII`, `Lead I`, `DII`, `C4`); None if it is of none."""
    # A minus that is left is that of a lead upside down (-aVR) or of a difference of two (I-II): of none of them.
    plain = plain_name(name)
    plain = ALSO.get(plain, plain)
    return BY_NAME.get(ALSO.get(plain, plain))


def leads_of(text: str) -> list[str]:
    """The leads that a list such as `I,II,v1` names, in the order of the twelve.

    Raises:
        InputError: If one is none of the twelve, or stands there twice, or there are commas alone.
    """
    found = list[str]()
    names = list(filter(None, re.split(r"[\s,;]+", text)))
    require(bool(names) or not text, f"{text!r} names no lead; name some, such as I,II.")
    for name in names:
        lead = lead_of(name)
        if lead is None:
            raise unknown("lead", name, TWELVE)
        require(lead not in found, f"The lead {lead} is named twice in {text!r}.")
        found.append(lead)
    return sorted(found, key=TWELVE.index)


def independent(leads: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of the leads that are measurements of their own, and those that follow from two of them."""
    leads = list(leads)
    limbs = [lead for lead in LIMBS if lead in leads]
    own = [*limbs[:2], *(lead for lead in CHEST if lead in leads)]
    return own, limbs[2:]


def off_einthoven(values: Tensor, leads: Sequence[str]) -> tuple[str, float]:
    """The limb lead that is farthest from what the first two say of it, and by how much.

    Args:
        values: `[k, time]`; NaN is missing.
        leads: Their names.

    Returns:
        The lead, and the root mean square of the difference in mV; an empty name if fewer than three are there.
    """
    own, others = independent(lead for lead in leads if lead in LIMBS)
    if not others:
        return "", 0.0
    places = {lead: i for i, lead in enumerate(leads)}
    pair = values[[places[lead] for lead in own]].double()
    two = torch.linalg.solve(rows_of(own)[:, :2], pair)
    found = []
    for lead in others:
        off = values[places[lead]].double() - rows_of([lead])[0, :2] @ two
        known = off[~off.isnan()]
        found.append((float(known.square().mean().sqrt()) if len(known) else 0.0, lead))
    worst, lead = max(found)
    return lead, worst
