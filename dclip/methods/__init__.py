"""The methods that come with dclip, a folder each. Importing this registers their options; it imports nothing heavy."""

from dclip.methods.asyrp import options as asyrp_options
from dclip.methods.diffusionclip import options as diffusionclip_options
from dclip.methods.h_edit import options as h_edit_options
from dclip.methods.hboundary import options as hboundary_options
from dclip.methods.hmean import options as hmean_options
from dclip.methods.latent import options as latent_options
from dclip.methods.sampling import guidances
from dclip.methods.sampling import options as sampling_options

__all__ = [
    "asyrp_options",
    "diffusionclip_options",
    "guidances",
    "h_edit_options",
    "hboundary_options",
    "hmean_options",
    "latent_options",
    "sampling_options",
]
