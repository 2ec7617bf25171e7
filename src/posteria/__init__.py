"""posteria: sample what a pre-trained diffusion model is tilted towards.

Rooms are attributes (`po.samplers`, `po.operators`, ...), and so are the names that most scripts use. Each is imported
when it is first used: `import posteria` alone does not load PyTorch.
"""

from typing import TYPE_CHECKING, Any

from ._deprecated import moved
from ._names import NAMES, ROOMS, resolve
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import analytic as analytic
    from . import diffusion as diffusion
    from . import guidance as guidance
    from . import interop as interop
    from . import likelihood as likelihood
    from . import metrics as metrics
    from . import modalities as modalities
    from . import operators as operators
    from . import priors as priors
    from . import problems as problems
    from . import runs as runs
    from . import samplers as samplers
    from . import schedules as schedules
    from . import solvers as solvers
    from . import testing as testing
    from .analytic import Gaussian as Gaussian
    from .analytic import GaussianMixture as GaussianMixture
    from .citations import cite as cite
    from .core.errors import CapabilityError as CapabilityError
    from .core.errors import InputError as InputError
    from .core.errors import PosteriaError as PosteriaError
    from .core.errors import ShapeError as ShapeError
    from .core.rng import Rng as Rng
    from .core.space import Space as Space
    from .diffusion import Denoiser as Denoiser
    from .diffusion import Family as Family
    from .diffusion import Label as Label
    from .diffusion import Network as Network
    from .guidance import APG as APG
    from .guidance import CFG as CFG
    from .likelihood import FunctionLikelihood as FunctionLikelihood
    from .likelihood import GaussianLikelihood as GaussianLikelihood
    from .likelihood import PoissonLikelihood as PoissonLikelihood
    from .priors import load_prior as load_prior
    from .samplers import DAPS as DAPS
    from .samplers import DPS as DPS
    from .samplers import MGDM as MGDM
    from .samplers import MGPS as MGPS
    from .samplers import MMPS as MMPS
    from .samplers import CFGiG as CFGiG
    from .samplers import Exact as Exact
    from .samplers import Guided as Guided
    from .samplers import TiltedGibbs as TiltedGibbs
    from .samplers import Unconditional as Unconditional
    from .samplers import at_budget as at_budget
    from .samplers import choose as choose
    from .schedules import Karras as Karras
    from .solvers import DDIM as DDIM
    from .solvers import Heun as Heun
    from .target import Posterior as Posterior
    from .target import Tilted as Tilted

__all__ = ["__version__", *ROOMS, *NAMES]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return resolve(name) if name in __all__ else moved(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
