"""How good samples are: against an exact law, a set of references, or known truths."""

from .audio import si_sdr as si_sdr, si_sdr_improvement as si_sdr_improvement
from .calibration import (
    Coverage as Coverage,
    RankTests as RankTests,
    crps as crps,
    energy_score as energy_score,
    expected_coverage as expected_coverage,
    holm as holm,
    interval_coverage as interval_coverage,
    rank_tests as rank_tests,
    sbc_ranks as sbc_ranks,
    tarp_ranks as tarp_ranks,
    uniformity as uniformity,
)
from .distribution import (
    Floor as Floor,
    Law as Law,
    Moments as Moments,
    c2st as c2st,
    covariance_error as covariance_error,
    mean_error as mean_error,
    mmd as mmd,
    mode_weight_error as mode_weight_error,
    mode_weights as mode_weights,
    moments as moments,
    sliced_wasserstein as sliced_wasserstein,
    two_sample_floor as two_sample_floor,
    variance_ratio as variance_ratio,
    wasserstein_along as wasserstein_along,
)
from .diversity import (
    RBF as RBF,
    Cosine as Cosine,
    DensityCoverage as DensityCoverage,
    Kernel as Kernel,
    PrecisionRecall as PrecisionRecall,
    Saturation as Saturation,
    classifier_agreement as classifier_agreement,
    density_coverage as density_coverage,
    frechet_distance as frechet_distance,
    frechet_of_moments as frechet_of_moments,
    mean_pairwise_distance as mean_pairwise_distance,
    precision_recall as precision_recall,
    saturation as saturation,
    vendi as vendi,
)
from .exact import AgainstExact as AgainstExact, coverage_of as coverage_of
from .features import (
    DINOv2 as DINOv2,
    FeatureNetwork as FeatureNetwork,
    Features as Features,
    Flat as Flat,
    Inception as Inception,
    Penultimate as Penultimate,
    PictureFeatures as PictureFeatures,
    load_features as load_features,
)
from .image import psnr as psnr, ssim as ssim
from .registry import METRICS as METRICS, Metric as Metric
