"""The problems of `posteria.problems.toy`."""

from typing import Any

from benchopt import BaseDataset
from typing_extensions import override

from posteria.problems.toy import PROBLEMS


class Dataset(BaseDataset):
    """A problem, drawn anew for each repetition."""

    name = "toy"
    requirements = ["pip::posteria"]
    parameters = {"problem": list(PROBLEMS)}
    parameter_template = "{problem}"
    test_parameters = {"problem": ["gaussian-half", "radius"]}

    @override
    def get_data(self) -> dict[str, Any]:
        seed = self.get_seed(use_dataset=True, use_repetition=True)
        return {"problem": PROBLEMS[self.problem](seed=seed)}
