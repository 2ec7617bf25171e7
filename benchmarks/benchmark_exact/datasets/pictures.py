"""The digits of `posteria.problems.pictures`."""

from typing import Any

from benchopt import BaseDataset
from typing_extensions import override

from posteria.problems.pictures import NOISE, PICTURES, pictures_exact


class Dataset(BaseDataset):
    """A digit of 28 x 28 pixels with its exact posterior, drawn anew for each repetition."""

    name = "pictures"
    requirements = ["pip::posteria"]
    parameters = {"task": list(PICTURES), "std": list(NOISE)}
    parameter_template = "{task},std={std}"
    test_parameters = {"task": ["sr4"], "std": [0.1]}

    @override
    def get_data(self) -> dict[str, Any]:
        seed = self.get_seed(use_dataset=True, use_repetition=True)
        return {"problem": pictures_exact(self.task, self.std, seed=seed)}
