"""posteria: sample what a pre-trained diffusion model is tilted towards.

Rooms are attributes (`po.samplers`, `po.operators`, ...), and so are the names that most scripts use. Each is imported
when it is first used: `import posteria` alone does not load PyTorch.
"""

from typing import TYPE_CHECKING, Any

from ._deprecated import moved
from ._names import NAMES, ROOMS, resolve
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import (
        analytic as analytic,
        certification as certification,
        diffusion as diffusion,
        guidance as guidance,
        interop as interop,
        likelihood as likelihood,
        metrics as metrics,
        modalities as modalities,
        operators as operators,
        priors as priors,
        problems as problems,
        runs as runs,
        samplers as samplers,
        schedules as schedules,
        solvers as solvers,
        testing as testing,
    )
    from .analytic import Gaussian as Gaussian, GaussianMixture as GaussianMixture
    from .certification import Certificate as Certificate, certify as certify
    from .citations import cite as cite
    from .core.errors import (
        CapabilityError as CapabilityError,
        InputError as InputError,
        PosteriaError as PosteriaError,
        ShapeError as ShapeError,
    )
    from .core.rng import Rng as Rng
    from .core.space import Space as Space
    from .diffusion import (
        Denoiser as Denoiser,
        Family as Family,
        Label as Label,
        Network as Network,
    )
    from .guidance import APG as APG, CFG as CFG
    from .likelihood import (
        FunctionLikelihood as FunctionLikelihood,
        GaussianLikelihood as GaussianLikelihood,
        PoissonLikelihood as PoissonLikelihood,
    )
    from .priors import load_prior as load_prior
    from .samplers import (
        DAPS as DAPS,
        DPS as DPS,
        MGDM as MGDM,
        MGPS as MGPS,
        MMPS as MMPS,
        CFGiG as CFGiG,
        Exact as Exact,
        Guided as Guided,
        TiltedGibbs as TiltedGibbs,
        Unconditional as Unconditional,
        at_budget as at_budget,
        choose as choose,
    )
    from .schedules import Karras as Karras
    from .solvers import DDIM as DDIM, Heun as Heun
    from .target import Posterior as Posterior, Tilted as Tilted

__all__ = ["__version__", *ROOMS, *NAMES]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return resolve(name) if name in __all__ else moved(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
